"""Stopping what an executor drives: it is asked, and the work ends when it has stopped."""

import pytest
from release_manager.deployment.v1 import deployment_pb2 as pb
from release_manager.deployment.v1 import execution_pb2 as execution

from shared.errors import IllegalTransition, LeaseLost, SlotTaken
from tests.support.deployments import World
from tests.support.executing import (
    Executor,
    becomes,
    deadline_is_over,
    lease_is_over,
    nobody_looks,
    overdue_since_all_were_away,
    promoted,
    stage_report,
    told_of,
)

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def claimed_and_running(
    world: World, app: str, place: str, *stages: str, version: str = "1"
) -> tuple[str, str]:
    """Return a deployment that an executor runs, with the token."""
    runner = Executor(world)
    made = await promoted(world, app, place, version)
    token = (await runner.claim(made)).lease_token
    for stage in stages:
        await runner.report(made, stage, "completed", token)
    await runner.report(made, "deploy" if stages else "build", "in_progress", token)
    return made, token


async def cancel(world: World, deployment: str, who: str = "dev1") -> pb.Deployment:
    """Cancel a deployment."""
    request = pb.CancelDeploymentRequest(deployment=deployment, reason="wrong one")
    answer: pb.CancelDeploymentResponse = await world.call(who, "CancelDeployment", request)
    return answer.deployment


def confirm(deployment: str, token: str) -> execution.ConfirmCancelledRequest:
    """Return the confirmation of an executor."""
    return execution.ConfirmCancelledRequest(deployment=deployment, lease_token=token)


async def test_an_executor_is_asked_and_confirms(world: World, app: str, place: str) -> None:
    made, token = await claimed_and_running(world, app, place)
    early = await world.refused("dev1", "ConfirmCancelled", confirm(made, token))
    assert isinstance(early, IllegalTransition)
    assert early.facts["allowed"] == "complete, fail, cancel"
    asked = await cancel(world, made)
    assert asked.status == pb.DEPLOYMENT_STATUS_CANCELLING
    assert asked.lease.executor == "runner-1"
    renew = execution.RenewLeaseRequest(deployment=made, lease_token=token)
    answer = await world.call("dev1", "RenewLease", renew)
    assert answer.status == pb.DEPLOYMENT_STATUS_CANCELLING
    assert answer.cancel_by == asked.deadline
    for method, request in (
        ("UpdatePipelineStage", stage_report(made, "build", "completed", token)),
        ("ReleaseLease", execution.ReleaseLeaseRequest(deployment=made, lease_token=token)),
        ("CancelDeployment", pb.CancelDeploymentRequest(deployment=made, reason="again")),
        ("ClaimDeployment", execution.ClaimDeploymentRequest(deployment=made, executor="other")),
    ):
        error = await world.refused("dev1", method, request)
        assert isinstance(error, IllegalTransition), method
        assert error.facts["allowed"] == "confirm_cancelled"
    assert isinstance(
        await world.refused("dev2", "ConfirmCancelled", confirm(made, token)), LeaseLost
    )
    ended = (await world.call("dev1", "ConfirmCancelled", confirm(made, token))).deployment
    assert ended.status == pb.DEPLOYMENT_STATUS_CANCELLED
    assert ended.status_reason == "wrong one"
    assert not ended.HasField("lease")
    assert {stage.status for stage in ended.stages} == {pb.STAGE_STATUS_ABORTED}
    told = await told_of(world, made)
    assert [action for action, _ in told][-2:] == ["cancel", "confirm_cancelled"]
    assert told[-2][1]["after"] == {"status": "cancelling"}
    assert told[-1][1]["before"] == {"status": "cancelling", "executor": "runner-1"}
    await world.check_events()


async def test_what_nobody_drives_ends_at_once(world: World, app: str, place: str) -> None:
    waiting = await promoted(world, app, place, "1")
    await Executor(world).claim(waiting)
    assert (await cancel(world, waiting)).status == pb.DEPLOYMENT_STATUS_CANCELLED
    running = await promoted(world, app, place, "2")
    await world.stage(running, "build", "in_progress")
    assert (await cancel(world, running)).status == pb.DEPLOYMENT_STATUS_CANCELLED
    late, _ = await claimed_and_running(world, app, place, version="3")
    async with nobody_looks(world):
        await lease_is_over(world, late)
        assert (await cancel(world, late)).status == pb.DEPLOYMENT_STATUS_CANCELLED
    await world.check_events()


async def test_silence_ends_it_as_well(world: World, app: str, place: str) -> None:
    lost, token = await claimed_and_running(world, app, place)
    slow, _ = await claimed_and_running(world, f"{app}b", place)
    assert (await cancel(world, lost)).status == pb.DEPLOYMENT_STATUS_CANCELLING
    assert (await cancel(world, slow)).status == pb.DEPLOYMENT_STATUS_CANCELLING
    await lease_is_over(world, lost)
    await deadline_is_over(world, slow)
    assert isinstance(
        await world.refused("dev1", "ConfirmCancelled", confirm(lost, token)), LeaseLost
    )
    await becomes(world, lost, "CANCELLED")
    await becomes(world, slow, "CANCELLED")
    assert (await told_of(world, lost))[-1][0] == "lose_lease"
    action, details = (await told_of(world, slow))[-1]
    assert action == "cancel"
    assert details["reason"].startswith("Nobody confirmed the stop until")
    await world.check_events()


@pytest.mark.parametrize("end", ["confirms", "lost"])
async def test_a_rollback_waits_until_its_subject_has_stopped(
    world: World, app: str, place: str, end: str
) -> None:
    await world.deployed(await world.release(f"{app}@0"), place)
    made, token = await claimed_and_running(
        world, app, place, "build", "test", "security_scan", version="1"
    )
    answer = await world.roll_back(made, preempt=True)
    carrier = answer.deployment
    assert carrier.status == pb.DEPLOYMENT_STATUS_PENDING
    assert {blocker.gate for blocker in carrier.blockers} == {"slot"}
    assert (await world.get(made)).status == pb.DEPLOYMENT_STATUS_CANCELLING
    error = await world.refused(
        "dev1", "UpdatePipelineStage", stage_report(carrier.id, "deploy", "in_progress")
    )
    assert isinstance(error, SlotTaken)
    if end == "confirms":
        await world.call("dev1", "ConfirmCancelled", confirm(made, token))
    else:
        await lease_is_over(world, made)
    subject = await becomes(world, made, "ROLLED_BACK")
    assert subject.rolled_back_by == carrier.id
    ended = await world.run_stages(carrier.id, "deploy", "smoke_test")
    assert ended.status == pb.DEPLOYMENT_STATUS_COMPLETED
    told = await told_of(world, made)
    assert told[-2][0] == "cancel"
    assert told[-2][1]["preempted_by"] == carrier.id
    assert told[-1][1]["after"]["status"] == "rolled_back"
    await world.check_events()


async def test_a_subject_whose_rollback_was_cancelled_is_only_cancelled(
    world: World, app: str, place: str
) -> None:
    await world.deployed(await world.release(f"{app}@0"), place)
    made, token = await claimed_and_running(
        world, app, place, "build", "test", "security_scan", version="1"
    )
    carrier = (await world.roll_back(made, preempt=True)).deployment
    await cancel(world, carrier.id)
    await world.call("dev1", "ConfirmCancelled", confirm(made, token))
    ended = await world.get(made)
    assert ended.status == pb.DEPLOYMENT_STATUS_CANCELLED
    assert ended.rolled_back_by == ""
    await world.check_events()


async def test_another_holder_makes_room_first(world: World, app: str, place: str) -> None:
    await world.deployed(await world.release(f"{app}@0"), place)
    subject = (await world.deployed(await world.release(f"{app}@1"), place)).id
    holder, token = await claimed_and_running(world, app, place, version="2")
    carrier = (await world.roll_back(subject, preempt=True)).deployment
    assert (await world.get(holder)).status == pb.DEPLOYMENT_STATUS_CANCELLING
    assert (await world.get(subject)).status == pb.DEPLOYMENT_STATUS_ROLLED_BACK
    await world.call("dev1", "ConfirmCancelled", confirm(holder, token))
    assert (await world.get(holder)).status == pb.DEPLOYMENT_STATUS_CANCELLED
    await world.run_stages(carrier.id, "deploy", "smoke_test")
    await world.check_events()


async def test_a_rollback_asks_an_overdue_executor_when_everybody_was_away(
    world: World, app: str, place: str
) -> None:
    before = await world.deployed(await world.release(f"{app}@0"), place)
    made, token = await claimed_and_running(world, app, place, "build", "test", "security_scan")
    plan = pb.PlanRollbackRequest(deployment=made, preempt=True)
    async with nobody_looks(world):
        await overdue_since_all_were_away(world, made)
        planned = await world.call("dev1", "PlanRollback", plan)
        assert (planned.preempts_id, planned.target_release) == (made, before.release)
        assert [blocker.gate for blocker in planned.blockers] == ["slot"]
        await overdue_since_all_were_away(world, made)
        carrier = (await world.roll_back(made, preempt=True)).deployment
    assert (await world.get(made)).status == pb.DEPLOYMENT_STATUS_CANCELLING
    assert [blocker.gate for blocker in carrier.blockers] == ["slot"]
    await world.call("dev1", "ConfirmCancelled", confirm(made, token))
    assert (await world.get(made)).status == pb.DEPLOYMENT_STATUS_ROLLED_BACK
    await world.check_events()
