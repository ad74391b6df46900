"""Waits for decisions: what becomes of them when approvers change, and when nobody could decide."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import grpc
import pytest
from release_manager.deployment.v1 import deployment_pb2 as pb

from services.deployment.app import database
from services.deployment.operations import deadlines, decide
from services.deployment.operations.deadlines import Deadlines
from services.deployment.rules.approvals import AFTER_STANDSTILL
from services.deployment.store.versions import versions
from shared.db.engine import Database
from shared.outbox.delivery import Delivery
from shared.settings import read_settings
from tests.support.deployments import World
from tests.support.executing import LOOKED, becomes
from tests.support.polling import eventually
from tests.support.publishing import publish

pytestmark = pytest.mark.asyncio(loop_scope="session")

WITHIN = timedelta(days=3)
OLD_POLICIES = (
    "WITH policies AS (UPDATE environment_policies SET created_at = created_at - interval '9 days')"
)


@pytest.fixture
def world(own_world: World) -> World:
    """A world of its own for each test: these change who people are and when was looked last."""
    return own_world


async def waiting(world: World, **policy: Any) -> pb.Deployment:
    """Ask for a deployment to Dev that a person has to approve."""
    asked: dict[str, Any] = {"required_approvals": 1, "decide_within": WITHIN}
    await publish(world, "dev", pb.Policy(**(asked | policy)))
    return await world.create(await world.release("auth@1.0.0"), "dev")


async def change(world: World, who: str, values: str) -> None:
    """Change a user as the catalog does."""
    done = await world.database.execute(
        f"UPDATE users SET {values} WHERE id = $1", world.people[who]
    )
    assert done == "UPDATE 1"


async def nobody_could_decide(world: World, deployment: str) -> None:
    """Let the time to decide have passed while the service was away."""
    await world.database.execute(
        f"{OLD_POLICIES},"
        " looked AS (UPDATE deadline_watch SET looked_at = now() - interval '8 days')"
        " UPDATE deployments SET deployed_at = deployed_at - interval '9 days',"
        " decide_by = decide_by - interval '9 days' WHERE id = $1",
        deployment,
    )


@asynccontextmanager
async def replica(world: World) -> AsyncIterator[tuple[Database, Delivery]]:
    """Provide what another replica ends by itself with."""
    db = database(read_settings(database_url=world.database_url))
    async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
        yield db, Delivery(db, "deployment", channel, versions)
    await db.close()


@pytest.mark.parametrize("loss", ["role = 'developer'", "role = 'viewer'", "active = false"])
async def test_what_let_a_deployment_start_is_told_the_same_when_its_approver_has_changed(
    world: World, loss: str
) -> None:
    made = await waiting(world, required_approvals=2, lead_required=True)
    await world.approve(made.id, "lead1", "dev3")
    await world.start(made.id)
    await world.finish(made.id)
    await change(world, "lead1", loss)
    found = await world.get(made.id)
    assert found.approval_status == pb.APPROVAL_STATUS_APPROVED
    assert found.approvals_given == 2


async def test_a_lead_who_is_none_any_more_leaves_the_whole_time_to_ask_another(
    world: World,
) -> None:
    made = await waiting(world, required_approvals=2, lead_required=True)
    await world.approve(made.id, "lead1", "dev3")
    await world.database.execute(
        f"{OLD_POLICIES},"
        " given AS (UPDATE approvals SET decided_at = decided_at - interval '7 days')"
        " UPDATE deployments SET deployed_at = deployed_at - interval '9 days' WHERE id = $1",
        made.id,
    )
    await change(world, "lead1", "role = 'developer'")
    found = await world.get(made.id)
    assert found.approval_status == pb.APPROVAL_STATUS_PENDING
    left = found.decide_by.ToDatetime(UTC) - datetime.now(UTC)
    assert left > WITHIN - timedelta(minutes=1)
    assert (await world.approve(made.id, "lead2")).approval_status == pb.APPROVAL_STATUS_APPROVED


@pytest.mark.parametrize("nothing", ["full_name = 'Another'", "role = 'admin'", "active = true"])
async def test_only_what_is_taken_from_an_approver_starts_the_clock_anew(
    world: World, nothing: str
) -> None:
    made = await waiting(world)
    await world.approve(made.id, "dev3")
    await change(world, "dev3", "active = false")
    ends = (await world.get(made.id)).decide_by
    await change(world, "dev3", "full_name = 'Somebody', role = 'viewer'")
    assert (await world.get(made.id)).decide_by == ends
    await change(world, "lead1", nothing)
    demoted = await world.database.fetchval(
        "SELECT demoted_at FROM users WHERE id = $1", world.people["lead1"]
    )
    assert demoted is None


async def test_somebody_looks_again_at_what_is_approved_for_good(world: World) -> None:
    """Its approver may go, and then the wait has an end again that nobody else would notice."""
    made = await waiting(world)
    await world.approve(made.id, "dev3")
    await world.database.execute(
        f"{LOOKED} UPDATE deployments SET decide_by = now() - interval '1 second' WHERE id = $1",
        made.id,
    )
    reminder = "SELECT decide_by FROM deployments WHERE id = $1 AND decide_by IS DISTINCT FROM $2"
    overdue = await world.database.fetchval(reminder, made.id, None)
    looked = await eventually(lambda: world.database.fetchval(reminder, made.id, overdue), 60)
    await change(world, "dev3", "active = false")
    found = await world.get(made.id)
    assert found.approval_status == pb.APPROVAL_STATUS_PENDING
    assert datetime.now(UTC) < looked <= found.decide_by.ToDatetime(UTC)


async def test_people_can_decide_after_everybody_was_away(quiet_world: World) -> None:
    """Before anybody has looked again, and after."""
    world = quiet_world
    made = await waiting(world)
    await nobody_could_decide(world, made.id)
    async with replica(world) as (db, delivery):
        await Deadlines(db, delivery).look()
    found = await world.get(made.id)
    assert found.status == pb.DEPLOYMENT_STATUS_PENDING
    left = found.decide_by.ToDatetime(UTC) - datetime.now(UTC)
    assert AFTER_STANDSTILL - timedelta(minutes=1) < left <= AFTER_STANDSTILL
    await nobody_could_decide(world, made.id)
    assert (await world.approve(made.id, "dev3")).approval_status == pb.APPROVAL_STATUS_APPROVED


async def test_what_nobody_decides_in_the_time_left_expires(world: World) -> None:
    made = await waiting(world)
    await nobody_could_decide(world, made.id)
    await world.database.execute(
        "UPDATE deadline_watch SET looked_at = now(), stood_still_until = now() - $1::interval",
        AFTER_STANDSTILL,
    )
    found = await world.get(made.id)
    assert found.approval_status == pb.APPROVAL_STATUS_EXPIRED


async def test_a_look_that_lasts_gives_nobody_time_that_it_does_not_store(world: World) -> None:
    """As long as a replica looks, nothing tells a long look from a standstill."""
    made = await waiting(world)
    stored = "SELECT decide_by FROM deployments WHERE id = $1"
    async with (
        replica(world) as (_db, delivery),
        world.database.acquire() as looking,
        looking.transaction(),
    ):
        await looking.execute("SELECT pg_advisory_xact_lock($1)", deadlines.LOCK)
        await nobody_could_decide(world, made.id)
        overdue = await world.database.fetchval(stored, made.id)
        over = partial(decide.expire_if_overdue, deployment_id=UUID(made.id))
        await delivery.by_itself(over)
        assert await world.database.fetchval(stored, made.id) == overdue
        # A minute ahead, so that a look that a busy machine keeps waiting is none too late.
        await world.database.execute(
            "UPDATE deadline_watch SET looked_at = now() + interval '1 minute'"
        )
    await becomes(world, made.id, "EXPIRED")


async def test_what_ended_in_the_time_left_after_a_standstill_was_pending(
    quiet_world: World,
) -> None:
    world = quiet_world
    made = await waiting(world)
    await nobody_could_decide(world, made.id)
    async with replica(world) as (db, delivery):
        await Deadlines(db, delivery).look()
    request = pb.CancelDeploymentRequest(deployment=made.id, reason="not any more")
    ended = (await world.call("dev1", "CancelDeployment", request)).deployment
    assert ended.status == pb.DEPLOYMENT_STATUS_CANCELLED
    assert ended.approval_status == pb.APPROVAL_STATUS_PENDING


async def test_what_had_to_start_earlier_than_it_had_to_be_decided_was_pending(
    quiet_world: World,
) -> None:
    world = quiet_world
    made = await waiting(world)
    await nobody_could_decide(world, made.id)
    passed = "UPDATE deployments SET start_by = now() WHERE id = $1"
    async with replica(world) as (db, delivery):
        await Deadlines(db, delivery).look()
        await world.database.execute(passed, made.id)
        await Deadlines(db, delivery).look()
    ended = await world.get(made.id)
    assert ended.status == pb.DEPLOYMENT_STATUS_EXPIRED
    assert ended.status_reason.startswith("It had to start by")
    assert ended.approval_status == pb.APPROVAL_STATUS_PENDING


async def test_when_to_look_again_is_not_told_as_the_time_to_decide(world: World) -> None:
    made = await waiting(world)
    await world.approve(made.id, "dev3")
    await world.database.execute(
        "UPDATE deployments SET decide_by = decide_by + interval '9 days' WHERE id = $1", made.id
    )
    await world.start(made.id)
    assert (await world.get(made.id)).decide_by == made.decide_by
