"""Between the messages of `catalog.v1` and the values of this service."""

from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp
from release_manager.catalog.v1 import catalog_pb2 as pb

from services.catalog.operations.environments import NewEnvironment
from services.catalog.operations.releases import NewRelease, Publication, ReleaseFilter
from services.catalog.operations.runbooks import NewRunbook, RunbookFilter
from services.catalog.operations.services import NewService, ServiceFilter
from services.catalog.operations.teams import NewTeam
from services.catalog.rules.releases import Content
from services.catalog.rules.resources import (
    Environment,
    EnvironmentType,
    Release,
    ReleaseStatus,
    Runbook,
    Service,
    ServiceLifecycle,
    ServiceTier,
    Team,
)
from shared.outbox.reconcile import Reconciliation

LIFECYCLE = "SERVICE_LIFECYCLE_"
TYPE = "ENVIRONMENT_TYPE_"
STATUS = "RELEASE_STATUS_"


def timestamp(moment: datetime | None) -> Timestamp | None:
    """Return a time for a message, None for none."""
    if moment is None:
        return None
    made = Timestamp()
    made.FromDatetime(moment)
    return made


def new_team(request: pb.CreateTeamRequest) -> NewTeam:
    """Return the team that a request describes."""
    return NewTeam(name=request.name, description=request.description)


def team(value: Team) -> pb.Team:
    """Return a team as a message."""
    return pb.Team(
        id=str(value.id),
        name=value.name,
        description=value.description,
        etag=str(value.row_version),
        created_at=timestamp(value.created_at),
        updated_at=timestamp(value.updated_at),
    )


def team_created(value: Team) -> pb.CreateTeamResponse:
    """Return the answer to a new team."""
    return pb.CreateTeamResponse(team=team(value))


def new_service(request: pb.CreateServiceRequest) -> NewService:
    """Return the service that a request describes."""
    return NewService(
        name=request.name,
        team=request.team,
        owner=request.owner,
        description=request.description,
        repository=request.repository,
        tier=ServiceTier(request.tier or ServiceTier.TIER_3),
        lifecycle=_lifecycle(request.lifecycle) or ServiceLifecycle.PRODUCTION,
    )


def service_filter(request: pb.ListServicesRequest) -> ServiceFilter:
    """Return which services a request asks for."""
    return ServiceFilter(
        team=request.team,
        owner=request.owner,
        tier=ServiceTier(request.tier) if request.tier else None,
        lifecycle=_lifecycle(request.lifecycle),
    )


def service(value: Service) -> pb.Service:
    """Return a service as a message."""
    return pb.Service(
        id=str(value.id),
        name=value.name,
        description=value.description,
        team_id=str(value.team_id),
        team=value.team,
        owner_id=str(value.owner_id),
        owner=value.owner,
        repository=value.repository,
        tier=pb.ServiceTier.Value(f"SERVICE_TIER_{ServiceTier.from_stored(value.tier)}"),
        lifecycle=pb.ServiceLifecycle.Value(LIFECYCLE + value.lifecycle.upper()),
        etag=str(value.row_version),
        created_at=timestamp(value.created_at),
        updated_at=timestamp(value.updated_at),
    )


def service_created(value: Service) -> pb.CreateServiceResponse:
    """Return the answer to a new service."""
    return pb.CreateServiceResponse(service=service(value))


def new_environment(request: pb.CreateEnvironmentRequest) -> NewEnvironment:
    """Return the environment that a request describes; its type is validated to be there."""
    return NewEnvironment(
        name=request.name,
        environment_type=environment_type(request.type) or EnvironmentType.DEV,
        promotion_order=request.promotion_order,
        description=request.description,
    )


def environment_type(number: pb.EnvironmentType.ValueType) -> EnvironmentType | None:
    """Return the type behind a number, None for unspecified."""
    name = pb.EnvironmentType.Name(number).removeprefix(TYPE).lower()
    return EnvironmentType(name) if number else None


def environment(value: Environment) -> pb.Environment:
    """Return an environment as a message."""
    return pb.Environment(
        id=str(value.id),
        name=value.name,
        description=value.description,
        type=pb.EnvironmentType.Value(TYPE + value.environment_type.upper()),
        promotion_order=value.promotion_order,
        policy_version=value.policy_version,
        etag=str(value.row_version),
        created_at=timestamp(value.created_at),
        updated_at=timestamp(value.updated_at),
    )


def environment_created(value: Environment) -> pb.CreateEnvironmentResponse:
    """Return the answer to a new environment."""
    return pb.CreateEnvironmentResponse(environment=environment(value))


def new_release(request: pb.CreateReleaseRequest) -> NewRelease:
    """Return the release that a request describes."""
    return NewRelease(
        service=request.service,
        version=request.version,
        commit_sha=request.commit,
        artifact_digest=request.artifact_digest,
        notes=request.notes,
        irreversible=request.irreversible,
    )


def publication(request: pb.PublishReleaseRequest) -> Publication:
    """Return what a request asks to publish."""
    irreversible = request.irreversible if request.HasField("irreversible") else None
    return Publication(
        release=request.release,
        content=Content(request.commit, request.artifact_digest, irreversible),
        etag=request.etag,
    )


def release_filter(request: pb.ListReleasesRequest) -> ReleaseFilter:
    """Return which releases a request asks for."""
    name = pb.ReleaseStatus.Name(request.status).removeprefix(STATUS).lower()
    status = ReleaseStatus(name) if request.status else None
    return ReleaseFilter(service=request.service, status=status)


def release(value: Release) -> pb.Release:
    """Return a release as a message."""
    return pb.Release(
        id=str(value.id),
        service_id=str(value.service_id),
        service=value.service,
        version=value.version,
        status=pb.ReleaseStatus.Value(STATUS + value.status.upper()),
        commit=value.commit_sha,
        artifact_digest=value.artifact_digest,
        notes=value.notes,
        irreversible=value.irreversible,
        created_by_id=str(value.created_by),
        created_by=value.author,
        published_at=timestamp(value.published_at),
        name=value.name,
        etag=str(value.row_version),
        created_at=timestamp(value.created_at),
        updated_at=timestamp(value.updated_at),
    )


def release_created(value: Release) -> pb.CreateReleaseResponse:
    """Return the answer to a new release."""
    return pb.CreateReleaseResponse(release=release(value))


def release_published(value: Release) -> pb.PublishReleaseResponse:
    """Return the answer to a publication."""
    return pb.PublishReleaseResponse(release=release(value))


def new_runbook(request: pb.CreateRunbookRequest) -> NewRunbook:
    """Return the runbook that a request describes."""
    return NewRunbook(
        service=request.service,
        environment=request.environment,
        title=request.title,
        content=request.content,
        tags=tuple(request.tags),
    )


def runbook_filter(request: pb.ListRunbooksRequest) -> RunbookFilter:
    """Return which runbooks a request asks for."""
    return RunbookFilter(service=request.service, environment=request.environment, tag=request.tag)


def runbook(value: Runbook) -> pb.Runbook:
    """Return a runbook as a message."""
    return pb.Runbook(
        id=str(value.id),
        service_id=str(value.service_id),
        service=value.service,
        environment_id=str(value.environment_id or ""),
        environment=value.environment or "",
        title=value.title,
        content=value.content,
        tags=value.tags,
        created_by_id=str(value.created_by),
        created_by=value.author,
        etag=str(value.row_version),
        created_at=timestamp(value.created_at),
        updated_at=timestamp(value.updated_at),
    )


def runbook_created(value: Runbook) -> pb.CreateRunbookResponse:
    """Return the answer to a new runbook."""
    return pb.CreateRunbookResponse(runbook=runbook(value))


def reconciled(value: Reconciliation) -> pb.ReconcileAuditResponse:
    """Return what a comparison with the ledger found."""
    return pb.ReconcileAuditResponse(
        aggregates=value.aggregates,
        missing=value.missing,
        resent=value.resent,
        missing_aggregates=value.missing_aggregates,
    )


def _lifecycle(number: pb.ServiceLifecycle.ValueType) -> ServiceLifecycle | None:
    name = pb.ServiceLifecycle.Name(number).removeprefix(LIFECYCLE).lower()
    return ServiceLifecycle(name) if number else None
