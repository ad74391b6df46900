"""What ends by itself when it has lasted too long; the time is moved in the database."""

from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.duration_pb2 import Duration
from release_manager.deployment.v1 import deployment_pb2 as pb
from release_manager.deployment.v1 import execution_pb2 as execution

from services.deployment.store import due
from shared.db.engine import Database
from shared.errors import LeaseHeld
from tests.support.deployments import STAGES, World
from tests.support.executing import (
    Executor,
    becomes,
    deadline_is_over,
    lease_is_over,
    nobody_looks,
    overdue_since_all_were_away,
    pausing,
    promoted,
    stage_deadline_is_over,
    told_of,
)
from tests.support.plans import indexes, plans_of, scanned, shown
from tests.support.publishing import publish

pytestmark = pytest.mark.asyncio(loop_scope="session")

TEN_MINUTES = Duration(seconds=600)
MANY = 20_000


async def test_the_policy_says_when_a_status_ends(world: World, app: str, place: str) -> None:
    limits = {"in_progress_limit": 3600, "paused_limit": 7200, "cancel_timeout": 60}
    given = {name: Duration(seconds=seconds) for name, seconds in limits.items()}
    await pausing(world, place, stage_limit=TEN_MINUTES, **given)
    made = await promoted(world, app, place)
    assert not (await world.get(made)).HasField("deadline")
    running = (await world.stage(made, "build", "in_progress")).deployment
    assert running.deadline.seconds - running.started_at.seconds == 3600
    ran = await world.database.fetchval(
        "SELECT deadline - started_at FROM pipeline_stages"
        " WHERE deployment_id = $1 AND name = 'build'",
        made,
    )
    assert ran == timedelta(minutes=10)
    paused = (await world.stage(made, "build", "failed")).deployment
    assert paused.deadline.seconds - paused.stages[0].completed_at.seconds == 7200
    retry = execution.RetryStageRequest(deployment=made, stage="build")
    again = (await world.call("dev1", "RetryStage", retry)).deployment
    assert again.deadline.seconds - again.stages[0].started_at.seconds == 3600
    await Executor(world).claim(made)
    request = pb.CancelDeploymentRequest(deployment=made, reason="enough")
    stopping = (await world.call("dev1", "CancelDeployment", request)).deployment
    left = stopping.deadline.ToDatetime(UTC) - datetime.now(UTC)
    assert left < timedelta(seconds=65)


async def test_what_runs_or_is_paused_for_too_long_fails(
    world: World, app: str, place: str
) -> None:
    await pausing(world, place)
    running = await promoted(world, app, place)
    await world.stage(running, "build", "in_progress")
    paused = await promoted(world, f"{app}b", place)
    await world.stage(paused, "build", "failed")
    for made in (running, paused):
        await deadline_is_over(world, made)
    for made, was in ((running, "in-progress"), (paused, "paused")):
        found = await becomes(world, made, "FAILED")
        assert found.failure_cause == pb.FAILURE_CAUSE_DEADLINE_EXCEEDED
        assert found.failure_class == pb.FAILURE_CLASS_ERRORED
        assert found.status_reason.startswith(f"It was {was} until its deadline, ")
        action, details = (await told_of(world, made))[-1]
        assert (action, details["before"]["status"]) == ("fail", was)
    await world.check_events()


async def test_a_stage_that_runs_for_too_long_can_pause_its_deployment(
    world: World, app: str, place: str
) -> None:
    await pausing(world, place, stage_limit=TEN_MINUTES)
    made = await promoted(world, app, place)
    await world.stage(made, "build", "in_progress")
    # What started keeps the policy of that moment.
    await publish(world, place, pb.Policy())
    unbound = await promoted(world, f"{app}b", place)
    await world.stage(unbound, "build", "in_progress")
    await stage_deadline_is_over(world, made, "build")
    paused = await becomes(world, made, "PAUSED")
    assert paused.stages[0].status == pb.STAGE_STATUS_FAILED
    assert paused.stages[0].reason.startswith("It ran until its deadline, ")
    assert paused.status_reason.startswith("Stage build failed. It ran until its deadline, ")
    retry = execution.RetryStageRequest(deployment=made, stage="build")
    again = (await world.call("dev1", "RetryStage", retry)).stage
    assert (again.attempt, again.reason) == (2, "")
    listed = await world.call(
        "viewer1", "ListStageAttempts", execution.ListStageAttemptsRequest(deployment=made)
    )
    first = listed.attempts[0]
    assert (first.status, first.ended_by) == (pb.STAGE_STATUS_FAILED, "")
    assert first.reason.startswith("It ran until its deadline, ")
    unbounded = await world.database.fetchval(
        "SELECT count(*) FROM pipeline_stages WHERE deployment_id = $1 AND deadline IS NULL",
        unbound,
    )
    assert unbounded == len(STAGES)
    assert [action for action, _ in await told_of(world, made)][-2:] == ["stage_timeout", "retry"]
    await world.check_events()


async def test_a_stage_timeout_can_end_the_deployment(world: World, app: str, place: str) -> None:
    await publish(world, place, pb.Policy(stage_limit=TEN_MINUTES))
    made = await promoted(world, app, place)
    runner = Executor(world)
    token = (await runner.claim(made)).lease_token
    await runner.report(made, "build", "in_progress", token)
    await stage_deadline_is_over(world, made, "build")
    found = await becomes(world, made, "FAILED")
    assert found.failure_cause == pb.FAILURE_CAUSE_STAGE_TIMEOUT
    assert found.failure_class == pb.FAILURE_CLASS_ERRORED
    assert not found.HasField("lease")
    action, details = (await told_of(world, made))[-1]
    assert (action, details["failure_cause"]) == ("stage_timeout", "stage_timeout")
    await world.check_events()


async def test_what_was_overdue_when_everybody_came_back_is_not_lost(
    world: World, app: str, place: str
) -> None:
    """Neither by whoever reports first, before anybody has looked, nor by others."""
    made = await promoted(world, app, place)
    token = (await Executor(world).claim(made, lease_duration=TEN_MINUTES)).lease_token
    claim = execution.ClaimDeploymentRequest(deployment=made, executor="runner-2")
    cancel = pb.CancelDeploymentRequest(deployment=made, reason="enough")
    async with nobody_looks(world):
        await overdue_since_all_were_away(world, made)
        other = await Executor(world, name="runner-2").refused("ClaimDeployment", claim)
        assert isinstance(other, LeaseHeld)
        await overdue_since_all_were_away(world, made)
        await Executor(world).report(made, "build", "in_progress", token)
        await overdue_since_all_were_away(world, made)
        asked = await world.call("dev1", "CancelDeployment", cancel)
    assert asked.deployment.status == pb.DEPLOYMENT_STATUS_CANCELLING
    confirm = execution.ConfirmCancelledRequest(deployment=made, lease_token=token)
    await world.call("dev1", "ConfirmCancelled", confirm)
    await world.check_events()


async def test_no_stage_is_due_of_what_is_to_stop(
    world: World, database: Database, app: str, place: str
) -> None:
    await publish(world, place, pb.Policy(stage_limit=TEN_MINUTES))
    runner = Executor(world)
    made = await promoted(world, app, place)
    token = (await runner.claim(made)).lease_token
    await runner.report(made, "build", "in_progress", token)
    cancel = pb.CancelDeploymentRequest(deployment=made, reason="enough")
    await world.call("dev1", "CancelDeployment", cancel)
    await stage_deadline_is_over(world, made, "build")
    async with database.transaction() as tx:
        found = await due.by(tx, datetime.now(UTC), 1000)
    assert made not in {str(one.deployment_id) for one in found}


async def test_what_is_due_is_found_by_indexes(own_world: World) -> None:
    made = await own_world.promote(await own_world.release("app@1"), "Dev")
    await own_world.stage(made.id, "build", "in_progress")
    await own_world.database.execute(
        "INSERT INTO deployments SELECT (d).* FROM ("
        " SELECT jsonb_populate_record(x, jsonb_build_object("
        "  'id', gen_random_uuid(), 'status', 'failed', 'deadline', NULL)) AS d"
        f" FROM deployments x, generate_series(1, {MANY}) WHERE x.id = $1) AS made",
        made.id,
    )
    await own_world.database.execute(
        "INSERT INTO pipeline_stages (id, deployment_id, name, stage_order, status)"
        " SELECT gen_random_uuid(), id, 'build', 1, 'aborted' FROM deployments"
        " WHERE status = 'failed'"
    )
    await own_world.database.execute("ANALYZE")
    db = Database(
        own_world.database_url, role="rm_deployment", application_name="test", pool_size=2
    )
    try:

        async def look() -> None:
            async with db.transaction() as tx:
                await due.by(tx, datetime.now(UTC) - timedelta(days=1), 100)

        plans = await plans_of(db, look)
    finally:
        await db.close()
    # Of leases there is one for each deployment that runs, so a few are read at once.
    assert scanned(plans) <= {"deployment_leases"}, shown(plans)
    assert indexes(plans) >= {
        "ix_deployments_deadline",
        "ix_deployments_expires",
        "ix_pipeline_stages_deadline",
    }, shown(plans)


async def test_a_lease_that_is_renewed_in_time_is_not_lost(
    world: World, database: Database, app: str, place: str
) -> None:
    runner = Executor(world)
    made = await promoted(world, app, place)
    token = (await runner.claim(made)).lease_token
    await runner.report(made, "build", "in_progress", token)
    async with database.transaction() as tx:
        now = datetime.now(UTC)
        seen = await due.by(tx, now + timedelta(hours=1), 1000)
    assert made in {str(one.deployment_id) for one in seen}
    await runner.report(made, "build", "completed", token)
    assert (await world.get(made)).status == pb.DEPLOYMENT_STATUS_IN_PROGRESS
    await lease_is_over(world, made)
    await becomes(world, made, "FAILED")
