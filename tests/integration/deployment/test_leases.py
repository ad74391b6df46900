"""Leases: who drives a deployment, what others may do, and what happens when it is lost."""

from datetime import UTC, timedelta
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from release_manager.deployment.v1 import deployment_pb2 as pb
from release_manager.deployment.v1 import execution_pb2 as execution

from shared.errors import (
    EtagMismatch,
    IllegalTransition,
    LeaseHeld,
    LeaseLost,
    ResourceNotFound,
)
from shared.ids import new_id
from tests.support.deployments import STAGES, World
from tests.support.executing import (
    Executor,
    becomes,
    lease_is_over,
    pausing,
    promoted,
    stage_report,
    told_of,
)
from tests.support.programs import add_program

pytestmark = pytest.mark.asyncio(loop_scope="session")


def held(deployment: str, token: str, **more: str) -> dict[str, Any]:
    """Return what names a lease."""
    return {"deployment": deployment, "lease_token": token, **more}


async def test_a_claim_is_driven_to_its_end(world: World, app: str, place: str) -> None:
    runner = Executor(world)
    made = await promoted(world, app, place)
    claimed = await runner.claim(made, lease_duration=Duration(seconds=600))
    lease = claimed.deployment.lease
    assert (lease.executor, lease.holder) == ("runner-1", "dev1")
    assert lease.expires_at == claimed.expires_at
    assert lease.expires_at.ToDatetime() - lease.claimed_at.ToDatetime() == timedelta(minutes=10)
    assert [stage.name for stage in claimed.deployment.stages] == list(STAGES)
    assert len(claimed.audit.event_ids) == 1
    for stage in STAGES:
        answer = await runner.report(made, stage, "completed", claimed.lease_token)
    assert answer.deployment.status == pb.DEPLOYMENT_STATUS_COMPLETED
    assert not answer.deployment.HasField("lease")
    assert not answer.deployment.HasField("deadline")
    actions = [action for action, _ in await told_of(world, made)]
    assert actions == ["promote", "claim", "start", "update", "update", "update", "finish"]
    claim, finish = (await told_of(world, made))[1][1], (await told_of(world, made))[-1][1]
    assert (claim["before"]["executor"], claim["after"]["executor"]) == (None, "runner-1")
    assert (finish["before"]["executor"], finish["after"]["executor"]) == ("runner-1", None)
    # Repeating the last report is no news, although the lease has ended.
    await runner.report(made, "smoke_test", "completed", claimed.lease_token)
    await world.check_events()


async def test_claimed_work_is_not_claimed_again(world: World, app: str, place: str) -> None:
    made = await promoted(world, app, place)
    await Executor(world).claim(made)
    for who in ("dev1", "dev2"):
        request = execution.ClaimDeploymentRequest(deployment=made, executor="runner-2")
        error = await world.refused(who, "ClaimDeployment", request)
        assert isinstance(error, LeaseHeld)
        assert error.facts["executor"] == "runner-1"
        assert error.facts["holder"] == "dev1"
        assert "until" in error.facts
        assert "CancelDeployment" in str(error)


async def test_others_need_the_token(world: World, app: str, place: str) -> None:
    runner, other = Executor(world), Executor(world, "dev2")
    made = await promoted(world, app, place)
    token = (await runner.claim(made)).lease_token
    assert isinstance(
        await other.refused("UpdatePipelineStage", stage_report(made, "build", "completed")),
        LeaseHeld,
    )
    for who, wrong in ((runner, str(new_id())), (other, token)):
        report = stage_report(made, "build", "completed", wrong)
        assert isinstance(await who.refused("UpdatePipelineStage", report), LeaseLost)
    assert (await world.get(made)).status == pb.DEPLOYMENT_STATUS_PENDING
    await runner.report(made, "build", "completed", token)
    await world.check_events()


async def test_starting_and_finishing_need_the_token(world: World, app: str, place: str) -> None:
    runner = Executor(world)
    made = (await world.create(await world.release(f"{app}@1"), place)).id
    token = (await runner.claim(made)).lease_token
    start = pb.StartDeploymentRequest(deployment=made)
    assert isinstance(await world.refused("dev2", "StartDeployment", start), LeaseHeld)
    start.lease_token = token
    await world.call("dev1", "StartDeployment", start)
    done = pb.DEPLOYMENT_OUTCOME_COMPLETED
    finish = pb.FinishDeploymentRequest(deployment=made, outcome=done)
    assert isinstance(await world.refused("dev2", "FinishDeployment", finish), LeaseHeld)
    finish.lease_token = token
    answer = await world.call("dev1", "FinishDeployment", finish)
    assert answer.deployment.status == pb.DEPLOYMENT_STATUS_COMPLETED
    await world.check_events()


async def test_a_token_without_a_lease_is_lost(world: World, app: str, place: str) -> None:
    made = await promoted(world, app, place)
    report = stage_report(made, "build", "completed", str(new_id()))
    assert isinstance(await world.refused("dev1", "UpdatePipelineStage", report), LeaseLost)
    for method, request in (
        ("RenewLease", execution.RenewLeaseRequest(**held(made, str(new_id())))),
        ("ReleaseLease", execution.ReleaseLeaseRequest(**held(made, str(new_id())))),
        ("ConfirmCancelled", execution.ConfirmCancelledRequest(**held(made, str(new_id())))),
    ):
        error = await world.refused("dev1", method, request)
        assert isinstance(error, LeaseLost), method
        assert "Claim the deployment again" in str(error)


async def test_signs_of_life_make_no_version(world: World, app: str, place: str) -> None:
    runner = Executor(world)
    made = await promoted(world, app, place)
    claimed = await runner.claim(made, lease_duration=Duration(seconds=60))
    await world.database.execute(
        "UPDATE deployment_leases SET expires_at = expires_at - interval '50 seconds'"
        " WHERE deployment_id = $1",
        made,
    )
    renew = execution.RenewLeaseRequest(**held(made, claimed.lease_token))
    answer = await world.call("dev1", "RenewLease", renew)
    assert answer.expires_at.ToDatetime(UTC) >= claimed.expires_at.ToDatetime(UTC)
    assert answer.status == pb.DEPLOYMENT_STATUS_PENDING
    assert not answer.HasField("cancel_by")
    assert not answer.audit.event_ids
    after = await world.get(made)
    assert after.etag == claimed.deployment.etag
    assert after.lease.expires_at == answer.expires_at
    await runner.report(made, "build", "in_progress", claimed.lease_token)
    assert (await world.get(made)).lease.expires_at.ToDatetime() >= answer.expires_at.ToDatetime()
    assert len(await told_of(world, made)) == 3


async def test_work_is_handed_over(world: World, app: str, place: str) -> None:
    first, second = Executor(world), Executor(world, "dev2", "runner-2")
    made = await promoted(world, app, place)
    token = (await first.claim(made)).lease_token
    release = execution.ReleaseLeaseRequest(**held(made, token, reason="full"))
    answer = await world.call("dev1", "ReleaseLease", release)
    assert answer.deployment.status == pb.DEPLOYMENT_STATUS_PENDING
    assert not answer.deployment.HasField("lease")
    token = (await first.claim(made)).lease_token
    await first.report(made, "build", "completed", token)
    await world.call("dev1", "ReleaseLease", execution.ReleaseLeaseRequest(**held(made, token)))
    running = await world.get(made)
    assert running.status == pb.DEPLOYMENT_STATUS_IN_PROGRESS
    late = stage_report(made, "test", "completed", token)
    assert isinstance(await first.refused("UpdatePipelineStage", late), LeaseLost)
    token = (await second.claim(made)).lease_token
    await second.report(made, "test", "completed", token)
    told = await told_of(world, made)
    assert [action for action, _ in told].count("release_lease") == 2
    assert told[2][1]["reason"] == "full"
    await world.check_events()


async def test_what_was_claimed_and_never_started_waits_on(
    world: World, app: str, place: str
) -> None:
    made = await promoted(world, app, place)
    token = (await Executor(world).claim(made)).lease_token
    await lease_is_over(world, made)
    report = stage_report(made, "build", "in_progress", token)
    assert isinstance(await world.refused("dev1", "UpdatePipelineStage", report), LeaseLost)
    found = await world.get(made)
    assert found.status == pb.DEPLOYMENT_STATUS_PENDING
    assert not found.HasField("lease")
    assert [action for action, _ in await told_of(world, made)][-1] == "lose_lease"
    await Executor(world, "dev2").claim(made)
    await world.check_events()


async def test_a_lost_lease_is_claimed_at_once(world: World, app: str, place: str) -> None:
    made = await promoted(world, app, place)
    await Executor(world).claim(made)
    await lease_is_over(world, made)
    await Executor(world, "dev2", "runner-2").claim(made)
    told = await told_of(world, made)
    assert [action for action, _ in told] == ["promote", "claim", "lose_lease", "claim"]
    await world.check_events()


@pytest.mark.parametrize("who", ["holder", "person", "claimer", "nobody"])
async def test_running_work_whose_executor_is_lost_fails(
    world: World, app: str, place: str, who: str
) -> None:
    runner = Executor(world)
    made = await promoted(world, app, place)
    token = (await runner.claim(made)).lease_token
    await runner.report(made, "build", "in_progress", token)
    await lease_is_over(world, made)
    late = stage_report(made, "build", "completed", token)
    if who == "holder":
        assert isinstance(await runner.refused("UpdatePipelineStage", late), LeaseLost)
    elif who == "person":
        late.lease_token = ""
        await world.refused("dev2", "UpdatePipelineStage", late)
    elif who == "claimer":
        request = execution.ClaimDeploymentRequest(deployment=made, executor="runner-2")
        error = await world.refused("dev2", "ClaimDeployment", request)
        assert isinstance(error, IllegalTransition)
        assert error.facts["status"] == "failed"
    found = await becomes(world, made, "FAILED")
    assert found.failure_cause == pb.FAILURE_CAUSE_EXECUTOR_LOST
    assert found.failure_class == pb.FAILURE_CLASS_ERRORED
    assert found.status_reason.startswith("Executor runner-1 was not heard of until")
    assert {stage.status for stage in found.stages} == {pb.STAGE_STATUS_ABORTED}
    late.lease_token = token
    assert isinstance(await runner.refused("UpdatePipelineStage", late), LeaseLost)
    action, details = (await told_of(world, made))[-1]
    assert (action, details["failure_cause"]) == ("lose_lease", "executor_lost")
    assert details["before"] == {"status": "in-progress", "executor": "runner-1"}
    assert details["after"] == {"status": "failed", "executor": None}
    await world.check_events()


async def test_pausing_ends_the_lease(world: World, app: str, place: str) -> None:
    runner = Executor(world)
    await pausing(world, place)
    made = await promoted(world, app, place)
    token = (await runner.claim(made)).lease_token
    answer = await runner.report(made, "build", "failed", token)
    assert answer.deployment.status == pb.DEPLOYMENT_STATUS_PAUSED
    assert not answer.deployment.HasField("lease")
    request = execution.ClaimDeploymentRequest(deployment=made, executor="runner-1")
    error = await runner.refused("ClaimDeployment", request)
    assert isinstance(error, IllegalTransition)
    assert error.facts["allowed"] == "retry, ignore, fail, cancel"
    retry = execution.RetryStageRequest(deployment=made, stage="build")
    await world.call("dev1", "RetryStage", retry)
    late = stage_report(made, "build", "completed", token)
    assert isinstance(await runner.refused("UpdatePipelineStage", late), LeaseLost)
    again = (await runner.claim(made)).lease_token
    assert again != token
    await runner.report(made, "build", "completed", again)
    await world.check_events()


async def test_a_claim_has_the_manners_of_a_change(world: World, app: str, place: str) -> None:
    made = await promoted(world, app, place)
    request = execution.ClaimDeploymentRequest(deployment=made, executor="runner-1")
    request.etag = "99"
    assert isinstance(await world.refused("dev1", "ClaimDeployment", request), EtagMismatch)
    request.etag, request.validate_only = "", True
    await world.call("dev1", "ClaimDeployment", request)
    assert not (await world.get(made)).HasField("lease")
    request.validate_only, request.request_id = False, str(new_id())
    first = await world.call("dev1", "ClaimDeployment", request)
    second = await world.call("dev1", "ClaimDeployment", request)
    assert first.lease_token == second.lease_token
    unknown = execution.ClaimDeploymentRequest(deployment=str(new_id()), executor="runner-1")
    assert isinstance(await world.refused("dev1", "ClaimDeployment", unknown), ResourceNotFound)
    await world.check_events()


async def test_a_program_claims_and_people_can_see_it(own_world: World) -> None:
    program = await add_program(own_world.database_url, "ci", "developer", ("deploy",))
    own_world.tokens["ci"] = program.token
    made = await promoted(own_world, "app", "Dev")
    runner = Executor(own_world, "ci")
    token = (await runner.claim(made)).lease_token
    assert (await own_world.get(made)).lease.holder == "ci"
    await runner.report(made, "build", "completed", token)
