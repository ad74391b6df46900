"""The reasons of the deployment service besides its gates."""

import re

from release_manager.common.v1 import access_pb2
from release_manager.deployment.v1 import deployment_pb2 as pb

from shared import errors
from shared.domain_error import DomainError
from tests.rpc.advice.scene import Ask, Scene, Situation, ask, case

CARRIER = ("deploy", "smoke_test")
WORKED, BROKE = pb.DEPLOYMENT_OUTCOME_COMPLETED, pb.DEPLOYMENT_OUTCOME_FAILED


def undo(deployment: str, **more: object) -> Ask:
    """Return the call that rolls a deployment back."""
    return ask("lead1", "ExecuteRollback", deployment=deployment, reason="it broke", **more)


async def lived(scene: Scene, *versions: str) -> tuple[str, str, list[str]]:
    """Let releases complete one after the other: the service, the place and the deployments."""
    service, place = await scene.service(), await scene.place()
    made = [
        await scene.deployed(await scene.release(service, version), place) for version in versions
    ]
    return service, place, made


@case(errors.DeploymentExists, "CancelDeployment")
async def the_same_release_is_on_its_way(scene: Scene) -> Situation:
    release, place = await scene.release(await scene.service()), await scene.place()
    await scene.asked(release, place)

    async def follow(error: DomainError) -> None:
        known = error.facts["deployment"]
        await scene.do("lead1", "GetDeployment", deployment=known)
        await scene.do("dev1", "CancelDeployment", deployment=known, reason="asked too early")

    return Situation(ask("dev1", "CreateDeployment", release=release, environment=place), follow)


@case(errors.RollbackExists, "GetDeployment")
async def a_rollback_is_going_on(scene: Scene) -> Situation:
    _, _, made = await lived(scene, "1.0.0", "2.0.0", "3.0.0")
    carrier = await scene.do("lead1", "ExecuteRollback", deployment=made[-1], reason="slow")

    async def follow(error: DomainError) -> None:
        going_on = error.facts["deployment"]
        await scene.stages(going_on, *CARRIER)
        ended = await scene.do("dev1", "GetDeployment", deployment=going_on)
        assert ended.deployment.status == pb.DEPLOYMENT_STATUS_COMPLETED

    return Situation(undo(carrier.deployment.id), follow)


@case(errors.DecisionExists, "RevokeApproval")
async def who_has_approved_wants_to_reject(scene: Scene) -> Situation:
    place = await scene.place(required_approvals=2)
    made = await scene.asked(await scene.release(await scene.service()), place)
    await scene.do("lead1", "ApproveDeployment", deployment=made)

    async def follow(error: DomainError) -> None:
        known = error.facts["deployment"]
        await scene.do("lead1", "RevokeApproval", deployment=known, reason="a bug was found")

    call = ask("lead1", "RejectDeployment", deployment=made, comment="it loses orders")
    return Situation(call, follow)


@case(errors.IllegalTransition, "Allowed now: start")
async def what_waits_cannot_be_finished(scene: Scene) -> Situation:
    made = await scene.asked(await scene.release(await scene.service()), await scene.place())

    async def follow(_: DomainError) -> None:
        await scene.start(made)

    return Situation(ask("dev1", "FinishDeployment", deployment=made, outcome=WORKED), follow)


@case(errors.NotEnoughApprovers, "somebody else")
async def the_only_one_who_could_approve_asks(scene: Scene) -> Situation:
    place = await scene.place()
    release = await scene.release(await scene.service())
    call = ask("admin", "CreateDeployment", release=release, environment=place)
    await scene.policy(
        place,
        required_approvals=1,
        minimum_role=access_pb2.ROLE_ADMIN,
        author_may_approve=True,
    )

    async def follow(_: DomainError) -> Ask:
        return call.by("dev1")

    return Situation(call, follow)


@case(errors.StageOutOfOrder, "UpdatePipelineStage")
async def a_stage_comes_too_early(scene: Scene) -> Situation:
    made = await scene.staged(await scene.release(await scene.service()), await scene.place())

    async def follow(error: DomainError) -> None:
        await scene.stages(made, error.facts["blocking"])

    status = pb.STAGE_STATUS_IN_PROGRESS
    call = ask("dev1", "UpdatePipelineStage", deployment=made, stage="test", status=status)
    return Situation(call, follow)


@case(errors.StageResultFinal, "PromoteRelease")
async def a_stage_has_ended_otherwise(scene: Scene) -> Situation:
    release, place = await scene.release(await scene.service()), await scene.place()
    made = await scene.staged(release, place)
    await scene.stages(made, "build", last="FAILED")
    status = pb.STAGE_STATUS_COMPLETED
    call = ask("dev1", "UpdatePipelineStage", deployment=made, stage="build", status=status)

    async def follow(_: DomainError) -> Ask:
        return call.but(deployment=await scene.staged(release, place))

    return Situation(call, follow)


@case(errors.StageResultFinal, "RetryStage")
async def a_stage_is_tried_again(scene: Scene) -> Situation:
    release = await scene.release(await scene.service())
    made = await scene.staged(release, await scene.place(on_failure=pb.ON_FAILURE_PAUSE))
    await scene.stages(made, "build", last="FAILED")
    status = pb.STAGE_STATUS_COMPLETED

    async def follow(error: DomainError) -> None:
        await scene.do("dev1", "RetryStage", deployment=made, stage=error.facts["stage"])

    call = ask("dev1", "UpdatePipelineStage", deployment=made, stage="build", status=status)
    return Situation(call, follow)


@case(errors.StagesDriveDeployment, "UpdatePipelineStage")
async def a_pipeline_is_started_as_a_whole(scene: Scene) -> Situation:
    made = await scene.staged(await scene.release(await scene.service()), await scene.place())
    status = pb.STAGE_STATUS_IN_PROGRESS

    async def follow(error: DomainError) -> Ask:
        known = error.facts["deployment"]
        return ask("dev1", "UpdatePipelineStage", deployment=known, stage="build", status=status)

    return Situation(ask("dev1", "StartDeployment", deployment=made), follow)


@case(errors.NothingDeployed, "ExecuteRollback")
async def what_has_touched_nothing_is_undone(scene: Scene) -> Situation:
    service, place, _ = await lived(scene, "1.0.0", "2.0.0")
    waiting = await scene.asked(await scene.release(service, "3.0.0"), place)

    async def follow(error: DomainError) -> Ask:
        match = re.search(r"by deployment ([0-9a-f-]{36})", str(error))
        assert match is not None
        return undo(match[1])

    return Situation(undo(waiting), follow)


@case(errors.NoStableRelease, "PromoteRelease")
async def there_is_nothing_to_go_back_to(scene: Scene) -> Situation:
    service, place, (only,) = await lived(scene, "1.0.0")

    async def follow(_: DomainError) -> Ask:
        release = await scene.release(service, "1.0.1")
        return ask("dev1", "PromoteRelease", release=release, environment=place)

    return Situation(undo(only), follow)


@case(errors.NoStableRelease, "marked bad")
async def what_there_is_to_go_back_to_is_marked(scene: Scene) -> Situation:
    """The answer says of each candidate why it was passed over, and so what would change that."""
    service, place, made = await lived(scene, "1.0.0", "2.0.0")
    about = {"release": f"{service}@1.0.0", "environment": place, "reason": "it leaks"}
    await scene.do("lead1", "MarkReleaseBad", **about)

    async def follow(_: DomainError) -> None:
        await scene.do("lead1", "ClearReleaseBad", **about)

    return Situation(undo(made[-1]), follow)


@case(errors.RollbackBlocked, "cross_irreversible")
async def what_can_be_undone_after_all_is_crossed_by_a_lead(scene: Scene) -> Situation:
    service, place, _ = await lived(scene, "1.0.0")
    one_way = await scene.release(service, "2.0.0", irreversible=True)
    subject = await scene.deployed(one_way, place)

    async def follow(_: DomainError) -> Ask:
        return undo(subject, cross_irreversible=True)

    return Situation(undo(subject), follow)


@case(errors.RollbackBlocked, "PromoteRelease")
async def what_cannot_be_undone_is_rolled_forward(scene: Scene) -> Situation:
    service, place, _ = await lived(scene, "1.0.0")
    one_way = await scene.release(service, "2.0.0", irreversible=True)
    subject = await scene.deployed(one_way, place)

    async def follow(_: DomainError) -> Ask:
        release = await scene.release(service, "2.0.1")
        return ask("dev1", "PromoteRelease", release=release, environment=place)

    return Situation(undo(subject), follow)


@case(errors.TargetNeverDeployed, "Name a release that has")
async def a_target_was_never_there(scene: Scene) -> Situation:
    service, _, made = await lived(scene, "1.0.0", "2.0.0")
    call = undo(made[-1], target_release=await scene.release(service, "0.9.0"))

    async def follow(_: DomainError) -> Ask:
        return call.but(target_release=f"{service}@1.0.0")

    return Situation(call, follow)


@case(errors.SlotTaken, "preempt")
async def something_runs_where_a_rollback_has_to_go(scene: Scene) -> Situation:
    service, place, _ = await lived(scene, "1.0.0")
    running = await scene.asked(await scene.release(service, "2.0.0"), place)
    await scene.start(running)
    call = undo(running)

    async def follow(_: DomainError) -> Ask:
        return call.but(preempt=True)

    return Situation(call, follow)


@case(errors.StaleRollback, "ExecuteRollback")
async def it_is_not_the_latest_any_more(scene: Scene) -> Situation:
    _, _, made = await lived(scene, "1.0.0", "2.0.0", "3.0.0")

    async def follow(error: DomainError) -> Ask:
        return undo(error.facts["latest"])

    return Situation(undo(made[1]), follow)


@case(errors.EtagMismatch, "Read it again")
async def somebody_was_faster(scene: Scene) -> Situation:
    place = await scene.place(required_approvals=2)
    made = await scene.asked(await scene.release(await scene.service()), place)
    await scene.do("lead1", "ApproveDeployment", deployment=made)
    call = ask("lead2", "ApproveDeployment", deployment=made, etag="1")

    async def follow(error: DomainError) -> Ask:
        now = (await scene.do("lead2", "GetDeployment", deployment=made)).deployment
        assert now.etag == error.facts["current"]
        return call.but(etag=now.etag)

    return Situation(call, follow)


@case(errors.NotPermitted, "somebody else has to")
async def nobody_approves_what_they_asked_for(scene: Scene) -> Situation:
    place = await scene.place(required_approvals=1)
    made = await scene.asked(await scene.release(await scene.service()), place, "lead1")
    call = ask("lead1", "ApproveDeployment", deployment=made)

    async def follow(_: DomainError) -> Ask:
        return call.by("lead2")

    return Situation(call, follow)


@case(errors.ResourceArchived, "Unarchive")
async def a_place_is_archived(scene: Scene) -> Situation:
    release, place = await scene.release(await scene.service()), await scene.place()
    await scene.do("admin", "ArchiveEnvironment", environment=place)

    async def follow(_: DomainError) -> None:
        await scene.do("admin", "UnarchiveEnvironment", environment=place)

    return Situation(ask("dev1", "CreateDeployment", release=release, environment=place), follow)


@case(errors.ResourceArchived, "Unarchive")
async def a_release_is_archived(scene: Scene) -> Situation:
    release, place = await scene.release(await scene.service()), await scene.place()
    await scene.do("dev1", "ArchiveRelease", release=release)

    async def follow(_: DomainError) -> None:
        await scene.do("dev1", "UnarchiveRelease", release=release)

    return Situation(ask("dev1", "CreateDeployment", release=release, environment=place), follow)


@case(errors.ReleaseInUse, "PromoteRelease")
async def what_is_live_somewhere_is_not_abandoned(scene: Scene) -> Situation:
    service, place = await scene.service(), await scene.place()
    release = await scene.release(service, "1.0.0")
    await scene.deployed(release, place)

    async def follow(_: DomainError) -> None:
        await scene.deployed(await scene.release(service, "1.0.1"), place)

    return Situation(ask("dev1", "AbandonRelease", release=release, reason="not wanted"), follow)


@case(errors.ReleaseInUse, "CancelDeployment")
async def what_runs_somewhere_is_not_abandoned(scene: Scene) -> Situation:
    release, place = await scene.release(await scene.service()), await scene.place()
    made = await scene.asked(release, place)
    await scene.start(made)

    async def follow(_: DomainError) -> None:
        await scene.do("dev1", "CancelDeployment", deployment=made, reason="it is abandoned")

    return Situation(ask("dev1", "AbandonRelease", release=release, reason="not wanted"), follow)
