"""The life of a release from Dev through Staging to Prod, and what refuses to happen on the way."""

import pytest
from release_manager.deployment.v1 import deployment_pb2 as pb

from shared.errors import (
    DeploymentExists,
    GateUnsatisfied,
    IllegalTransition,
    NotPermitted,
    StageOutOfOrder,
    StageResultFinal,
)
from tests.support.deployments import STAGES, World

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_release_goes_through_all_environments(world: World, app: str) -> None:
    release = await world.release(f"{app}@1.0.0", author="dev2")
    for environment, approvers in (
        ("dev", ()),
        ("staging", ("dev2",)),
        ("prod", ("dev3", "lead1")),
    ):
        made = await world.promote(release, environment)
        assert made.status == pb.DEPLOYMENT_STATUS_PENDING
        assert made.kind == pb.DEPLOYMENT_KIND_PROMOTE
        assert [stage.name for stage in made.stages] == list(STAGES)
        assert made.approvals_required == len(approvers)
        if approvers:
            assert [blocker.gate for blocker in made.blockers] == ["approval"]
            ready = await world.approve(made.id, *approvers)
            assert ready.approval_status == pb.APPROVAL_STATUS_APPROVED
            assert not ready.blockers
        done = await world.run_stages(made.id, *STAGES)
        assert done.status == pb.DEPLOYMENT_STATUS_COMPLETED
        assert done.HasField("completed_at")
        assert done.touched_environment
    status = await world.database.fetchval(
        "SELECT status FROM releases WHERE service_id = $1", world.services[app]
    )
    assert status == "promoted"
    await world.check_events()


async def test_a_stage_must_wait_for_those_before_it(world: World, app: str) -> None:
    made = await world.promote(await world.release(f"{app}@1.0.0"), "dev")
    with pytest.raises(StageOutOfOrder):
        await world.stage(made.id, "test", "in_progress")
    running = await world.stage(made.id, "build", "in_progress")
    assert running.deployment.status == pb.DEPLOYMENT_STATUS_IN_PROGRESS
    assert running.stage.HasField("started_at")
    assert not running.stage.HasField("completed_at")


async def test_a_result_that_is_repeated_changes_nothing(world: World, app: str) -> None:
    made = await world.promote(await world.release(f"{app}@1.0.0"), "dev")
    first = await world.stage(made.id, "build", "completed")
    again = await world.stage(made.id, "build", "completed")
    assert again.deployment.etag == first.deployment.etag
    assert not again.audit.event_ids
    with pytest.raises(StageResultFinal):
        await world.stage(made.id, "build", "failed")


async def test_a_failed_stage_fails_the_deployment(world: World, app: str) -> None:
    made = await world.promote(await world.release(f"{app}@1.0.0"), "dev")
    failed = await world.run_stages(made.id, "build", "test", last="failed")
    assert failed.status == pb.DEPLOYMENT_STATUS_FAILED
    assert failed.failure_cause == pb.FAILURE_CAUSE_STAGE_FAILED
    assert failed.failure_class == pb.FAILURE_CLASS_FAILED
    assert not failed.touched_environment
    statuses = [pb.StageStatus.Name(stage.status)[13:] for stage in failed.stages]
    assert statuses == ["COMPLETED", "FAILED", "ABORTED", "ABORTED", "ABORTED"]
    await world.check_events()


async def test_nothing_skips_an_environment(world: World, app: str) -> None:
    release = await world.release(f"{app}@1.0.0")
    for method, request in (
        ("PromoteRelease", pb.PromoteReleaseRequest(release=release, environment="prod")),
        ("CreateDeployment", pb.CreateDeploymentRequest(release=release, environment="prod")),
    ):
        error = await world.refused("dev1", method, request)
        assert isinstance(error, GateUnsatisfied)
        assert [gate.gate for gate in error.gates] == ["promotion_order"]
    listed = pb.ListDeploymentsRequest(service=app)
    assert not (await world.call("viewer1", "ListDeployments", listed)).deployments


async def test_a_draft_and_a_bad_release_go_nowhere(world: World, app: str) -> None:
    draft = await world.release(f"{app}@0.1.0", status="draft")
    bad = await world.release(f"{app}@1.0.0")
    await world.insert(
        "release_marks",
        id=world.people["dev1"],
        release_id=await world.database.fetchval(
            "SELECT id FROM releases WHERE version = '1.0.0' AND service_id = $1",
            world.services[app],
        ),
        reason="leaks memory",
        marked_by=world.people["lead1"],
    )
    for release in (draft, bad):
        with pytest.raises(GateUnsatisfied):
            await world.promote(release, "dev")


async def test_the_same_release_is_asked_for_once(world: World, app: str) -> None:
    release = await world.release(f"{app}@1.0.0")
    made = await world.promote(release, "dev")
    with pytest.raises(DeploymentExists) as refused:
        await world.create(release, "dev")
    assert refused.value.facts["deployment"] == made.id


async def test_what_is_live_is_redeployed(world: World, app: str) -> None:
    release = await world.release(f"{app}@1.0.0")
    await world.deployed(release)
    again = await world.promote(release, "dev")
    assert again.kind == pb.DEPLOYMENT_KIND_REDEPLOY


async def test_a_newer_completion_supersedes_what_waited(world: World, app: str) -> None:
    old, new = await world.release(f"{app}@1.0.0"), await world.release(f"{app}@2.0.0")
    waiting = await world.create(old, "dev")
    done = await world.deployed(new)
    with pytest.raises(IllegalTransition):
        await world.start(waiting.id)
    after = await world.get(waiting.id)
    assert after.status == pb.DEPLOYMENT_STATUS_SUPERSEDED
    assert after.superseded_by == done.id
    await world.check_events()


async def test_an_older_release_needs_leave_to_go_back(world: World, app: str) -> None:
    old, new = await world.release(f"{app}@1.0.0"), await world.release(f"{app}@2.0.0")
    await world.deployed(new)
    with pytest.raises(GateUnsatisfied):
        await world.create(old, "dev")
    request = pb.CreateDeploymentRequest(release=old, environment="dev", allow_downgrade=True)
    made = (await world.call("dev1", "CreateDeployment", request)).deployment
    assert (await world.start(made.id)).status == pb.DEPLOYMENT_STATUS_IN_PROGRESS


async def test_developers_cancel_only_what_is_theirs(world: World, app: str) -> None:
    made = await world.promote(await world.release(f"{app}@1.0.0"), "dev")
    request = pb.CancelDeploymentRequest(deployment=made.id, reason="not today")
    with pytest.raises(NotPermitted):
        await world.call("dev2", "CancelDeployment", request)
    answer = await world.call("lead1", "CancelDeployment", request)
    assert answer.deployment.status == pb.DEPLOYMENT_STATUS_CANCELLED
    assert all(
        stage.status == pb.STAGE_STATUS_ABORTED for stage in (await world.get(made.id)).stages
    )
    with pytest.raises(IllegalTransition) as refused:
        await world.call("dev1", "CancelDeployment", request)
    assert refused.value.facts["allowed"] == "nothing"


async def test_nothing_leaves_a_final_status(world: World, app: str) -> None:
    done = await world.deployed(await world.release(f"{app}@1.0.0"))
    finish = pb.FinishDeploymentRequest(
        deployment=done.id, outcome=pb.DEPLOYMENT_OUTCOME_FAILED, reason="late"
    )
    cancel = pb.CancelDeploymentRequest(deployment=done.id, reason="late")
    approve = pb.ApproveDeploymentRequest(deployment=done.id)
    reject = pb.RejectDeploymentRequest(deployment=done.id, comment="late")
    for who, method, request in (
        ("dev1", "StartDeployment", pb.StartDeploymentRequest(deployment=done.id)),
        ("dev1", "FinishDeployment", finish),
        ("admin", "CancelDeployment", cancel),
        ("lead1", "ApproveDeployment", approve),
        ("lead1", "RejectDeployment", reject),
    ):
        error = await world.refused(who, method, request)
        assert isinstance(error, IllegalTransition)
        assert error.facts["status"] == "completed"
        assert error.facts["allowed"] == "roll_back"
    assert (await world.get(done.id)).etag == done.etag
    await world.check_events()
