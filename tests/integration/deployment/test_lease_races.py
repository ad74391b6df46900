"""Executors, people and time at once: one lease, one end, and never work without a version."""

import asyncio
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any, TypeVar

import pytest
from release_manager.deployment.v1 import deployment_pb2 as pb
from release_manager.deployment.v1 import execution_pb2 as execution

from shared.errors import LeaseHeld, LeaseLost
from tests.integration.deployment.test_races import outcomes
from tests.support.deployments import World
from tests.support.executing import (
    Executor,
    becomes,
    lease_is_over,
    nobody_looks,
    pausing,
    promoted,
    stage_report,
    told_of,
)
from tests.support.waiting import waits_for_a_lock

pytestmark = pytest.mark.asyncio(loop_scope="session")

T = TypeVar("T")
ROUNDS = 6


async def test_of_twenty_claims_one_wins(world: World, app: str, place: str) -> None:
    made = await promoted(world, app, place)
    runners = [Executor(world, f"dev{1 + number % 3}", f"r{number}") for number in range(20)]
    won, refused = await outcomes([runner.claim(made) for runner in runners])
    assert len(won) == 1
    assert len(refused) == 19
    assert all(isinstance(error, LeaseHeld) for error in refused)
    found = await world.get(made)
    assert {error.facts["executor"] for error in refused} == {found.lease.executor}
    assert [action for action, _ in await told_of(world, made)] == ["promote", "claim"]
    await world.check_events()


async def test_claims_of_a_lost_lease_have_one_winner(world: World, app: str, place: str) -> None:
    made = await promoted(world, app, place)
    await Executor(world, name="gone").claim(made)
    await lease_is_over(world, made)
    won, refused = await outcomes([Executor(world, name=f"r{n}").claim(made) for n in range(10)])
    assert (len(won), len(refused)) == (1, 9)
    actions = [action for action, _ in await told_of(world, made)]
    assert actions == ["promote", "claim", "lose_lease", "claim"]
    await world.check_events()


async def test_claiming_cancelling_and_losing_at_once(world: World, app: str, place: str) -> None:
    ends = set()
    for number in range(ROUNDS):
        made = await promoted(world, app, place, str(number))
        runner = Executor(world)
        token = (await runner.claim(made)).lease_token
        await runner.report(made, "build", "in_progress", token)
        if number % 2:
            await lease_is_over(world, made)
        cancel = pb.CancelDeploymentRequest(deployment=made, reason="race")
        release = execution.ReleaseLeaseRequest(deployment=made, lease_token=token)
        confirm = execution.ConfirmCancelledRequest(deployment=made, lease_token=token)
        await asyncio.gather(
            world.call("dev1", "CancelDeployment", cancel),
            Executor(world, "dev2", "other").claim(made),
            runner.report(made, "build", "completed", token),
            world.call("dev1", "ReleaseLease", release),
            world.call("dev1", "ConfirmCancelled", confirm),
            return_exceptions=True,
        )
        found = await world.get(made)
        if found.status == pb.DEPLOYMENT_STATUS_CANCELLING:
            await lease_is_over(world, made)
            found = await becomes(world, made, "CANCELLED")
        assert found.status in {
            pb.DEPLOYMENT_STATUS_CANCELLED,
            pb.DEPLOYMENT_STATUS_FAILED,
        }, found
        assert not found.HasField("lease")
        assert not found.HasField("deadline")
        running = {pb.STAGE_STATUS_IN_PROGRESS, pb.STAGE_STATUS_PENDING}
        assert not running & {stage.status for stage in found.stages}
        ends.add(found.status)
    assert pb.DEPLOYMENT_STATUS_CANCELLED in ends
    await world.check_events()


async def test_a_stage_is_retried_once(world: World, app: str, place: str) -> None:
    await pausing(world, place)
    made = await promoted(world, app, place)
    await world.stage(made, "build", "failed")
    retry = execution.RetryStageRequest(deployment=made, stage="build")
    ignore = execution.IgnoreStageRequest(deployment=made, stage="build", reason="race")
    calls = [world.call("dev1", "RetryStage", retry) for _ in range(5)]
    calls += [world.call("dev2", "IgnoreStage", ignore) for _ in range(5)]
    won, refused = await outcomes(calls)
    assert (len(won), len(refused)) == (1, 9)
    await world.check_events()


async def test_old_and_new_holders_never_both_report(world: World, app: str, place: str) -> None:
    for number in range(ROUNDS):
        made = await promoted(world, app, place, str(number))
        old, new = Executor(world), Executor(world, "dev2", "new")
        token = (await old.claim(made)).lease_token
        await lease_is_over(world, made)

        late = stage_report(made, "build", "completed", token)
        (claimed,), (refused,) = await outcomes(
            [new.claim(made), world.call("dev1", "UpdatePipelineStage", late)]
        )
        assert isinstance(claimed, execution.ClaimDeploymentResponse)
        assert isinstance(refused, LeaseLost)
        taken = claimed.lease_token
        await new.report(made, "build", "completed", taken)
        cancel = pb.CancelDeploymentRequest(deployment=made, reason="next round")
        await world.call("dev1", "CancelDeployment", cancel)
        confirm = execution.ConfirmCancelledRequest(deployment=made, lease_token=taken)
        await world.call("dev2", "ConfirmCancelled", confirm)
    await world.check_events()


async def test_a_renewal_under_way_is_in_time(world: World, app: str, place: str) -> None:
    made, token = await running_with_a_lease(world, app, place)
    answer = await while_it_is_renewed(
        world, made, Executor(world).report(made, "build", "completed", token)
    )
    assert answer.deployment.status == pb.DEPLOYMENT_STATUS_IN_PROGRESS
    await world.check_events()


async def test_a_rollback_waits_for_a_renewal_under_way(world: World, app: str, place: str) -> None:
    await world.deployed(await world.release(f"{app}@0"), place)
    subject = await world.deployed(await world.release(f"{app}@1"), place)
    holder, _ = await running_with_a_lease(world, app, place, "2")
    await while_it_is_renewed(world, holder, world.roll_back(subject.id, preempt=True))
    assert (await world.get(holder)).status == pb.DEPLOYMENT_STATUS_CANCELLING
    await world.check_events()


async def running_with_a_lease(
    world: World, app: str, place: str, version: str = "1"
) -> tuple[str, str]:
    made = await promoted(world, app, place, version)
    token = (await Executor(world).claim(made)).lease_token
    await Executor(world).report(made, "build", "in_progress", token)
    return made, token


async def while_it_is_renewed(world: World, deployment: str, call: Coroutine[Any, Any, T]) -> T:
    """Make a call at which a lease is over, but for a renewal that commits while the call waits."""
    moves = "UPDATE deployment_leases SET expires_at = now() + $2 WHERE deployment_id = $1"
    async with nobody_looks(world), world.database.acquire() as printing:
        await world.database.execute(moves, deployment, timedelta(seconds=0.4))
        transaction = printing.transaction()
        await transaction.start()
        # As output does, which renews a lease and does not take the pair.
        await printing.execute(moves, deployment, timedelta(minutes=5))
        await asyncio.sleep(0.5)
        waiting = asyncio.create_task(call)
        await waits_for_a_lock(world)
        await transaction.commit()
    return await waiting
