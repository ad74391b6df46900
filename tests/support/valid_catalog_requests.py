"""A valid request for every RPC of the catalog, on things made for that purpose."""

from google.protobuf.message import Message
from release_manager.catalog.v1 import catalog_pb2 as catalog

from tests.support.things_made import COMMIT, DEV, Made

LABELS = {"lang": "go"}
LINK = catalog.Link(title="board", url="https://boards.example.com/corpus")


def catalog_requests(made: Made) -> dict[str, Message]:
    """Return a request that each method of the catalog accepts, by the method's name."""
    return {
        **_teams(made),
        **_services(made),
        **_environments(made),
        **_releases(made),
        **_runbooks(made),
        **_work_with_runbooks(made),
        "ReconcileAudit": catalog.ReconcileAuditRequest(),
    }


def _teams(made: Made) -> dict[str, Message]:
    team = made.unused.team
    return {
        "CreateTeam": catalog.CreateTeamRequest(name="Corpus", validate_only=True),
        "GetTeam": catalog.GetTeamRequest(team="platform"),
        "ListTeams": catalog.ListTeamsRequest(),
        "BatchGetTeams": catalog.BatchGetTeamsRequest(teams=["platform", team]),
        "UpdateTeam": catalog.UpdateTeamRequest(team=team, description="Other", validate_only=True),
        "ArchiveTeam": catalog.ArchiveTeamRequest(team=team, validate_only=True),
        "UnarchiveTeam": catalog.UnarchiveTeamRequest(team=team, validate_only=True),
        "DeleteTeam": catalog.DeleteTeamRequest(team=team, validate_only=True),
    }


def _services(made: Made) -> dict[str, Message]:
    used, unused = made.published.partition("@")[0], made.unused.service
    needs = [catalog.ServiceDependency(service=used, minimum_version="1.0.0")]
    return {
        "CreateService": catalog.CreateServiceRequest(
            name="corpus-new",
            team="Platform",
            labels=LABELS,
            links=[LINK],
            dependencies=needs,
            validate_only=True,
        ),
        "GetService": catalog.GetServiceRequest(service=used),
        "ListServices": catalog.ListServicesRequest(),
        "BatchGetServices": catalog.BatchGetServicesRequest(services=[used, unused]),
        "UpdateService": catalog.UpdateServiceRequest(
            service=unused, labels=LABELS, links=[LINK], dependencies=needs, validate_only=True
        ),
        "ArchiveService": catalog.ArchiveServiceRequest(service=unused, validate_only=True),
        "UnarchiveService": catalog.UnarchiveServiceRequest(service=unused, validate_only=True),
        "DeleteService": catalog.DeleteServiceRequest(service=unused, validate_only=True),
    }


def _environments(made: Made) -> dict[str, Message]:
    unused = made.unused.environment
    return {
        "CreateEnvironment": catalog.CreateEnvironmentRequest(
            name="Corpus",
            type=catalog.ENVIRONMENT_TYPE_DEV,
            promotion_order=999,
            validate_only=True,
        ),
        "GetEnvironment": catalog.GetEnvironmentRequest(environment="prod"),
        "ListEnvironments": catalog.ListEnvironmentsRequest(),
        "UpdateEnvironment": catalog.UpdateEnvironmentRequest(
            environment=unused, description="Other", validate_only=True
        ),
        "ArchiveEnvironment": catalog.ArchiveEnvironmentRequest(
            environment=unused, validate_only=True
        ),
        "UnarchiveEnvironment": catalog.UnarchiveEnvironmentRequest(
            environment=unused, validate_only=True
        ),
        "DeleteEnvironment": catalog.DeleteEnvironmentRequest(
            environment=unused, validate_only=True
        ),
    }


def _releases(made: Made) -> dict[str, Message]:
    service, draft = made.published.partition("@")[0], made.draft
    return {
        "CreateRelease": catalog.CreateReleaseRequest(
            service=service, version="9.0.0", commit=COMMIT, validate_only=True
        ),
        "GetRelease": catalog.GetReleaseRequest(release=made.published),
        "ListReleases": catalog.ListReleasesRequest(),
        "BatchGetReleases": catalog.BatchGetReleasesRequest(releases=[draft, made.published]),
        "PublishRelease": catalog.PublishReleaseRequest(release=draft, validate_only=True),
        "UpdateRelease": catalog.UpdateReleaseRequest(
            release=draft, notes="Other", validate_only=True
        ),
        "AbandonRelease": catalog.AbandonReleaseRequest(
            release=draft, reason="corpus", validate_only=True
        ),
        "ArchiveRelease": catalog.ArchiveReleaseRequest(release=draft, validate_only=True),
        "UnarchiveRelease": catalog.UnarchiveReleaseRequest(release=draft, validate_only=True),
        "DeleteRelease": catalog.DeleteReleaseRequest(release=draft, validate_only=True),
        "CompareReleases": catalog.CompareReleasesRequest(
            from_release=made.published, to_release=draft
        ),
    }


def _runbooks(made: Made) -> dict[str, Message]:
    draft = made.runbook
    return {
        "CreateRunbook": catalog.CreateRunbookRequest(
            service=made.published.partition("@")[0],
            title="New",
            content="Look.",
            tags=["corpus"],
            validate_only=True,
        ),
        "GetRunbook": catalog.GetRunbookRequest(runbook=made.runbook),
        "ListRunbooks": catalog.ListRunbooksRequest(),
        "UpdateRunbook": catalog.UpdateRunbookRequest(
            runbook=draft, content="Look twice.", validate_only=True
        ),
        "PublishRunbook": catalog.PublishRunbookRequest(runbook=draft, validate_only=True),
        "ListRunbookVersions": catalog.ListRunbookVersionsRequest(runbook=made.written),
        "ArchiveRunbook": catalog.ArchiveRunbookRequest(runbook=draft, validate_only=True),
        "UnarchiveRunbook": catalog.UnarchiveRunbookRequest(runbook=draft, validate_only=True),
        "DeleteRunbook": catalog.DeleteRunbookRequest(runbook=draft, validate_only=True),
    }


def _work_with_runbooks(made: Made) -> dict[str, Message]:
    return {
        "RecordRunbookExecution": catalog.RecordRunbookExecutionRequest(
            runbook=made.written,
            outcome=catalog.RUNBOOK_OUTCOME_SUCCEEDED,
            environment=DEV,
            validate_only=True,
        ),
        "ListRunbookExecutions": catalog.ListRunbookExecutionsRequest(),
        "SuggestRunbooks": catalog.SuggestRunbooksRequest(
            service=made.published.partition("@")[0], environment=DEV, stage="smoke_test"
        ),
    }
