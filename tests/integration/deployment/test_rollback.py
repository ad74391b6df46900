"""Rollbacks through the service: what one leaves behind, and when it is refused."""

import pytest
from release_manager.deployment.v1 import deployment_pb2 as pb

from shared.errors import (
    GateUnsatisfied,
    IllegalTransition,
    NothingDeployed,
    RollbackExists,
    SlotTaken,
    StaleRollback,
    TargetNeverDeployed,
)
from tests.support.deployments import World

pytestmark = pytest.mark.asyncio(loop_scope="session")

CARRIER_STAGES = ("deploy", "smoke_test")


async def live(world: World, release: str) -> str:
    """Deploy a release completely and return the deployment's id."""
    return (await world.deployed(release)).id


async def carry_out(world: World, carrier_id: str, last: str = "completed") -> pb.Deployment:
    """Run what a rollback runs."""
    return await world.run_stages(carrier_id, *CARRIER_STAGES, last=last)


async def test_everything_follows_in_one_step(world: World, app: str) -> None:
    first, second = await world.release(f"{app}@1"), await world.release(f"{app}@2")
    await live(world, first)
    subject = await live(world, second)
    again = await world.create(second, "dev")
    made = await world.roll_back(subject)
    carrier = made.deployment
    assert carrier.kind == pb.DEPLOYMENT_KIND_ROLLBACK
    assert carrier.status == pb.DEPLOYMENT_STATUS_PENDING
    assert carrier.rollback_of == subject
    assert carrier.approval_status == pb.APPROVAL_STATUS_NOT_REQUIRED
    skipped, pending = pb.STAGE_STATUS_SKIPPED, pb.STAGE_STATUS_PENDING
    assert [stage.status for stage in carrier.stages] == [*[skipped] * 3, *[pending] * 2]
    assert made.rollback.status == pb.ROLLBACK_STATUS_IN_PROGRESS
    undone = await world.get(subject)
    assert undone.status == pb.DEPLOYMENT_STATUS_ROLLED_BACK
    assert undone.rolled_back_by == carrier.id
    assert [entry.id for entry in undone.rollbacks] == [made.rollback.id]
    waiting = await world.get(again.id)
    assert waiting.status == pb.DEPLOYMENT_STATUS_SUPERSEDED
    row = await world.database.fetchrow(
        "SELECT r.status, m.reason FROM releases r JOIN release_marks m ON m.release_id = r.id"
        " WHERE r.service_id = $1",
        world.services[app],
    )
    assert row is not None
    assert tuple(row) == ("rolled_back", "it broke")
    assert len(made.audit.event_ids) == 3
    done = await carry_out(world, carrier.id)
    assert done.status == pb.DEPLOYMENT_STATUS_COMPLETED
    ended = pb.GetRollbackRequest(rollback=made.rollback.id)
    answer = await world.call("viewer1", "GetRollback", ended)
    assert answer.rollback.status == pb.ROLLBACK_STATUS_COMPLETED
    with pytest.raises(GateUnsatisfied):
        await world.create(second, "dev")
    await world.check_events()


async def test_the_wrong_subjects_are_refused(world: World, app: str) -> None:
    first, second, third = [await world.release(f"{app}@{n}") for n in (1, 2, 3)]
    old, new = await live(world, first), await live(world, second)
    waiting = await world.create(third, "dev")
    with pytest.raises(StaleRollback) as stale:
        await world.roll_back(old)
    assert stale.value.facts["latest"] == new
    with pytest.raises(NothingDeployed):
        await world.roll_back(waiting.id)
    await world.start(waiting.id)
    with pytest.raises(SlotTaken) as taken:
        await world.roll_back(waiting.id)
    assert taken.value.facts["deployment"] == waiting.id


async def test_a_running_deployment_makes_room(world: World, app: str) -> None:
    first, second = await world.release(f"{app}@1"), await world.release(f"{app}@2")
    await live(world, first)
    running = await world.create(second, "dev")
    await world.start(running.id)
    made = await world.roll_back(running.id, preempt=True)
    assert made.deployment.release == f"{app}@1"
    assert (await world.get(running.id)).status == pb.DEPLOYMENT_STATUS_ROLLED_BACK
    marks = await world.database.fetchval(
        "SELECT count(*) FROM release_marks WHERE deployment_id = $1", running.id
    )
    assert marks == 0
    with pytest.raises(RollbackExists):
        await world.roll_back(made.deployment.id)
    await world.check_events()


async def test_another_one_in_its_build_makes_room(world: World, app: str) -> None:
    first, second, third = [await world.release(f"{app}@{n}") for n in (1, 2, 3)]
    await live(world, first)
    subject = await live(world, second)
    building = await world.promote(third, "dev")
    await world.stage(building.id, "build", "in_progress")
    made = await world.roll_back(subject, preempt=True)
    stopped = await world.get(building.id)
    assert stopped.status == pb.DEPLOYMENT_STATUS_CANCELLED
    assert stopped.stages[0].status == pb.STAGE_STATUS_ABORTED
    assert len(made.audit.event_ids) == 3
    assert (await carry_out(world, made.deployment.id)).status == pb.DEPLOYMENT_STATUS_COMPLETED
    await world.check_events()


async def test_a_rollback_that_is_cancelled_has_failed(world: World, app: str) -> None:
    first, second = await world.release(f"{app}@1"), await world.release(f"{app}@2")
    await live(world, first)
    subject = await live(world, second)
    made = await world.roll_back(subject)
    cancel = pb.CancelDeploymentRequest(deployment=made.deployment.id, reason="wrong one")
    await world.call("dev1", "CancelDeployment", cancel)
    listed = pb.ListRollbacksRequest(deployment=subject)
    found = (await world.call("viewer1", "ListRollbacks", listed)).rollbacks
    assert [entry.status for entry in found] == [pb.ROLLBACK_STATUS_FAILED]
    again = await world.roll_back(made.deployment.id)
    assert again.deployment.release == f"{app}@1"
    assert again.deployment.rollback_of == subject
    await world.check_events()


async def test_nothing_else_starts_before_the_rollback(world: World, app: str) -> None:
    first, second, third = [await world.release(f"{app}@{n}") for n in (1, 2, 3)]
    await live(world, first)
    subject = await live(world, second)
    made = await world.roll_back(subject)
    fix = await world.create(third, "dev")
    assert [blocker.gate for blocker in fix.blockers] == ["slot"]
    with pytest.raises(SlotTaken):
        await world.start(fix.id)
    await carry_out(world, made.deployment.id)
    assert (await world.start(fix.id)).status == pb.DEPLOYMENT_STATUS_IN_PROGRESS


async def test_a_named_target_must_have_been_there(world: World, app: str) -> None:
    names = [await world.release(f"{app}@{n}") for n in (1, 2, 3, 4)]
    for name in names[:3]:
        subject = await live(world, name)
    with pytest.raises(TargetNeverDeployed):
        await world.roll_back(subject, target_release=f"{app}@4")
    made = await world.roll_back(subject, target_release=f"{app}@1")
    assert made.deployment.release == f"{app}@1"
    with pytest.raises(IllegalTransition):
        await world.start(subject)
