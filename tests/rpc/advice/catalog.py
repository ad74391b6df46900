"""The reasons of the catalog: things and what refers to them."""

from release_manager.catalog.v1 import catalog_pb2 as pb

from shared import errors
from shared.domain_error import DomainError
from tests.rpc.advice.scene import COMMIT, Ask, Scene, Situation, ask, case, digest, fresh


@case(errors.ReleaseContentDiffers, "under a new version")
async def other_content_gets_another_version(scene: Scene) -> Situation:
    service = await scene.service()
    name = await scene.release(service)
    content = {"commit": COMMIT, "artifact_digest": digest()}
    call = ask("dev1", "PublishRelease", release=name, **content)

    async def follow(_: DomainError) -> Ask:
        await scene.do("dev1", "CreateRelease", service=service, version="1.0.1")
        return call.but(release=f"{service}@1.0.1")

    return Situation(call, follow)


@case(errors.ReleaseIncomplete, "PublishRelease")
async def what_is_missing_is_given(scene: Scene) -> Situation:
    service = await scene.service()
    await scene.do("dev1", "CreateRelease", service=service, version="1.0.0")
    call = ask("dev1", "PublishRelease", release=f"{service}@1.0.0", commit=COMMIT)

    async def follow(error: DomainError) -> Ask:
        return call.but(**{error.facts["missing"]: digest()})

    return Situation(call, follow)


@case(errors.ResourceExists, "Choose another name")
async def a_name_is_taken(_scene: Scene) -> Situation:
    call = ask("admin", "CreateTeam", name="Platform")

    async def follow(_: DomainError) -> Ask:
        return call.but(name=fresh("team"))

    return Situation(call, follow)


@case(errors.ResourceNotFound, "List")
async def a_name_is_wrong(scene: Scene) -> Situation:
    call = ask("viewer1", "GetService", service=fresh("none"))

    async def follow(_: DomainError) -> Ask:
        there = await scene.do("viewer1", "ListServices")
        return call.but(service=there.services[0].name)

    return Situation(call, follow)


@case(errors.ResourceReferenced, "End that first")
async def what_is_used_is_not_deleted(scene: Scene) -> Situation:
    team, service = fresh("team"), fresh("app")
    await scene.do("admin", "CreateTeam", name=team)
    await scene.do("admin", "CreateService", name=service, team=team)

    async def follow(error: DomainError) -> None:
        assert "service" in error.facts["used_by"]
        await scene.do("admin", "DeleteService", service=service)

    return Situation(ask("admin", "DeleteTeam", team=team), follow)


@case(errors.ReferenceInactive, "Choose an active one")
async def an_owner_has_left(scene: Scene) -> Situation:
    gone = fresh("gone")
    await scene.do(
        "admin",
        "CreateUser",
        username=gone,
        email=f"{gone}@example.com",
        role=2,
        password="correct horse battery",
    )
    await scene.do("admin", "DeactivateUser", user=gone)
    call = ask("admin", "CreateService", name=fresh("app"), team="Platform", owner=gone)

    async def follow(_: DomainError) -> Ask:
        return call.but(owner="dev1")

    return Situation(call, follow)


@case(errors.ResourceArchived, "Unarchive")
async def a_team_is_archived(scene: Scene) -> Situation:
    team = fresh("team")
    await scene.do("admin", "CreateTeam", name=team)
    await scene.do("admin", "ArchiveTeam", team=team)

    async def follow(_: DomainError) -> None:
        await scene.do("admin", "UnarchiveTeam", team=team)

    return Situation(ask("admin", "CreateService", name=fresh("app"), team=team), follow)


@case(errors.ExpressionInvalid, "at character")
async def an_expression_is_mended_where_it_ends(_scene: Scene) -> Situation:
    filter_ = 'name = "auth" AND'
    call = ask("viewer1", "ListServices", filter=filter_)

    async def follow(error: DomainError) -> Ask:
        assert (error.facts["field"], int(error.facts["position"])) == ("filter", len(filter_) + 1)
        return call.but(filter=f"{filter_} tier = TIER_1")

    return Situation(call, follow)


@case(errors.DependencyCircle, "Leave one of them out")
async def two_services_need_each_other(scene: Scene) -> Situation:
    first = await scene.service()
    second = await scene.service(dependencies=[pb.ServiceDependency(service=first)])
    other = await scene.service()
    needs = [pb.ServiceDependency(service=name) for name in (other, second)]
    call = ask("dev1", "UpdateService", service=first, dependencies=needs, mask=["dependencies"])

    async def follow(_: DomainError) -> Ask:
        return call.but(dependencies=needs[:1])

    return Situation(call, follow)


@case(errors.RunbookLacks, "PublishRunbook")
async def a_runbook_was_never_published(scene: Scene) -> Situation:
    title = fresh("Steps ")
    made = await scene.do(
        "dev1", "CreateRunbook", service="auth", title=title, content="Stay calm."
    )
    runbook = made.runbook.id
    outcome = pb.RUNBOOK_OUTCOME_SUCCEEDED

    async def follow(_: DomainError) -> None:
        await scene.do("dev1", "PublishRunbook", runbook=runbook)

    call = ask("dev1", "RecordRunbookExecution", runbook=runbook, outcome=outcome)
    return Situation(call, follow)
