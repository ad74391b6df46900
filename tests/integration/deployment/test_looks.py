"""Looks for what is due, all of them made by the tests; the times are moved in the database."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from release_manager.deployment.v1 import deployment_pb2 as pb
from release_manager.deployment.v1 import execution_pb2 as execution

from services.deployment.operations.deadlines import Deadlines
from services.deployment.store.versions import versions
from shared.db.engine import Database
from shared.outbox.backlog import OutboxLimits
from shared.outbox.delivery import Delivery, DeliveryBounds
from tests.support.deployments import World
from tests.support.executing import Executor, overdue_since_all_were_away, promoted

pytestmark = pytest.mark.asyncio(loop_scope="session")

TEN_MINUTES = Duration(seconds=600)


@pytest.fixture
def world(quiet_world: World) -> World:
    """A world in which nobody else looks: of two who do at once, one goes away again."""
    return quiet_world


async def test_leases_stand_still_while_nothing_may_change(
    world: World, database: Database, app: str, place: str
) -> None:
    runner = Executor(world)
    made = await promoted(world, app, place)
    token = (await runner.claim(made, lease_duration=TEN_MINUTES)).lease_token
    await runner.report(made, "build", "in_progress", token)
    bounds = DeliveryBounds(limits=replace(OutboxLimits(), hard_rows=-1))
    async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
        stuck = Deadlines(database, Delivery(database, "deployment", channel, versions, bounds))
        await world.database.execute(
            "UPDATE deployment_leases SET expires_at = now() + interval '20 seconds'"
            " WHERE deployment_id = $1",
            made,
        )
        await stuck.look()
    found = await world.get(made)
    left = found.lease.expires_at.ToDatetime(UTC) - datetime.now(UTC)
    assert found.status == pb.DEPLOYMENT_STATUS_IN_PROGRESS
    assert left > timedelta(minutes=9)
    await runner.report(made, "build", "completed", token)
    await world.check_events()


async def test_who_was_asked_to_stop_can_still_say_so_after_a_backlog(
    world: World, database: Database, app: str, place: str
) -> None:
    runner = Executor(world)
    made = await promoted(world, app, place)
    token = (await runner.claim(made, lease_duration=TEN_MINUTES)).lease_token
    await runner.report(made, "build", "in_progress", token)
    cancel = pb.CancelDeploymentRequest(deployment=made, reason="enough")
    await world.call("dev1", "CancelDeployment", cancel)
    await world.database.execute(
        "UPDATE deployments SET deadline = now() + interval '20 seconds' WHERE id = $1", made
    )
    bounds = DeliveryBounds(limits=replace(OutboxLimits(), hard_rows=-1))
    async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
        stuck = Deadlines(database, Delivery(database, "deployment", channel, versions, bounds))
        await stuck.look()
    left = (await world.get(made)).deadline.ToDatetime(UTC) - datetime.now(UTC)
    assert left > timedelta(seconds=50)
    confirm = execution.ConfirmCancelledRequest(deployment=made, lease_token=token)
    await world.call("dev1", "ConfirmCancelled", confirm)
    await world.check_events()


async def test_leases_stand_still_after_all_replicas_or_the_database_were_away(
    world: World, database: Database, app: str, place: str
) -> None:
    made = await promoted(world, app, place)
    token = (await Executor(world).claim(made, lease_duration=TEN_MINUTES)).lease_token
    soon = "UPDATE deployment_leases SET expires_at = now() + interval '20 seconds'"
    async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
        for passed, longer in ((5, False), (60, True), (5, False)):
            await world.database.execute(f"{soon} WHERE deployment_id = $1", made)
            await nobody_has_looked_for(world, passed)
            # Each time a replica that has just been started and knows of none before.
            await Deadlines(database, Delivery(database, "deployment", channel, versions)).look()
            left = (await world.get(made)).lease.expires_at.ToDatetime(UTC) - datetime.now(UTC)
            assert (left > timedelta(minutes=9)) is longer
    await Executor(world).report(made, "build", "completed", token)


async def test_what_somebody_changes_during_the_first_look_stands_still_at_the_next(
    world: World, database: Database, app: str, place: str
) -> None:
    made = await promoted(world, app, place)
    token = (await Executor(world).claim(made, lease_duration=TEN_MINUTES)).lease_token
    await Executor(world).report(made, "build", "in_progress", token)
    long_ago = "SELECT now() - looked_at > interval '15 seconds' FROM deadline_watch"
    async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
        looking = Deadlines(database, Delivery(database, "deployment", channel, versions))
        async with world.database.acquire() as busy, busy.transaction():
            await overdue_since_all_were_away(world, made)
            await busy.execute(
                "SELECT 1 FROM deployment_leases WHERE deployment_id = $1 FOR UPDATE", made
            )
            await looking.look()
            assert await world.database.fetchval(long_ago)
        await looking.look()
        assert not await world.database.fetchval(long_ago)
        await looking.look()
    await Executor(world).report(made, "build", "completed", token)


async def test_the_row_of_the_last_look_is_made_anew(world: World, database: Database) -> None:
    await world.database.execute("DELETE FROM deadline_watch")
    async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
        await Deadlines(database, Delivery(database, "deployment", channel, versions)).look()
    assert await world.database.fetchval("SELECT count(*) FROM deadline_watch") == 1


async def nobody_has_looked_for(world: World, seconds: int) -> None:
    await world.database.execute(
        "UPDATE deadline_watch SET looked_at = now() - make_interval(secs => $1)", seconds
    )
