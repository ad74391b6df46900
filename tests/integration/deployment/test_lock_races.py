"""Locks made and released while others start: which of the two came first is never in doubt."""

import asyncio
from typing import Any

import pytest
from release_manager.deployment.v1 import deployment_pb2 as pb

from shared.errors import GateUnsatisfied
from tests.support.deployments import World
from tests.support.publishing import held_up, releases_held, until_waiting
from tests.support.restricting import lock, locks, unlock

pytestmark = pytest.mark.asyncio(loop_scope="session")

ROUNDS = 200
AT_ONCE = 8
PLACES = ("service", "environment", "pair", "everything")


def what(place: str, app: str, environment: str) -> dict[str, Any]:
    """Return what to lock."""
    things: dict[str, dict[str, Any]] = {
        "service": {"service": app},
        "environment": {"environment": environment},
        "pair": {"service": app, "environment": environment},
        "everything": {"everything": True},
    }
    return things[place]


async def started_under_locks(world: World) -> int:
    """Return how many deployments started while a lock held that concerns them."""
    found: int = await world.database.fetchval(
        "SELECT count(*) FROM deployments d JOIN locks l"
        " ON coalesce(l.service_id, d.service_id) = d.service_id"
        " AND coalesce(l.environment_id, d.environment_id) = d.environment_id"
        " WHERE d.started_at >= l.created_at AND d.started_at < l.ends_at"
    )
    return found


@pytest.mark.parametrize("kind", PLACES)
async def test_a_start_that_waits_for_a_lock_minds_it(
    world: World, place: str, app: str, kind: str
) -> None:
    waiting = await world.create(await world.release(f"{app}@1"), place)
    async with held_up(world, "lead2"):
        locking = asyncio.create_task(lock(world, **what(kind, app, place), who="lead2"))
        await until_waiting(world, 1)
        starting = asyncio.create_task(world.start(waiting.id))
        await until_waiting(world, 2)
    made = (await locking).lock
    with pytest.raises(GateUnsatisfied, match="lead2 has locked"):
        await starting
    await unlock(world, made.id)
    await world.start(waiting.id)
    assert await started_under_locks(world) == 0


async def test_a_lock_waits_for_a_start_and_comes_after_it(
    world: World, place: str, app: str
) -> None:
    waiting = await world.create(await world.release(f"{app}@1"), place)
    async with world.database.acquire() as connection, connection.transaction():
        await connection.execute("SELECT FROM deployments WHERE id = $1 FOR UPDATE", waiting.id)
        starting = asyncio.create_task(world.start(waiting.id))
        await until_waiting(world, 1)
        locking = asyncio.create_task(lock(world, app))
        await until_waiting(world, 2)
    started, made = await starting, (await locking).lock
    assert started.started_at.ToNanoseconds() < made.created_at.ToNanoseconds()
    assert await started_under_locks(world) == 0


async def test_a_start_that_began_under_a_lock_comes_after_its_release(
    world: World, place: str, app: str
) -> None:
    waiting = await world.create(await world.release(f"{app}@1"), place)
    made = (await lock(world, app, place)).lock
    async with releases_held(world, app):
        starting = asyncio.create_task(world.start(waiting.id))
        await until_waiting(world, 1)
        gone = (await unlock(world, made.id)).lock
    started = await starting
    assert started.started_at.ToNanoseconds() >= gone.released_at.ToNanoseconds()
    assert await started_under_locks(world) == 0


async def test_of_those_who_release_a_lock_one_does(world: World, app: str) -> None:
    await world.release(f"{app}@1")
    made = (await lock(world, app)).lock
    answers = await asyncio.gather(
        *(unlock(world, made.id, who=who) for who in ("lead1", "lead2", "admin") * 2)
    )
    assert sum(len(answer.audit.event_ids) for answer in answers) == 1
    assert len({answer.lock.released_by for answer in answers}) == 1
    assert not await locks(world, service=app)
    await world.check_events()


@pytest.mark.timeout(600)
async def test_nothing_starts_under_a_lock(world: World, place: str, app: str) -> None:
    """Many rounds of a lock and a start at once, whichever comes first."""
    outcomes = {"started": 0, "refused": 0}

    async def one_round(number: int) -> None:
        service = f"{app}-{number}"
        waiting = await world.create(await world.release(f"{service}@1"), place)

        async def locking() -> str:
            await asyncio.sleep(0.004 * (number % 4))
            return (await lock(world, **what(PLACES[number % 3], service, place))).lock.id

        async def starting() -> None:
            await asyncio.sleep(0.004 * (number // 4 % 4))
            try:
                started = await world.start(waiting.id)
            except GateUnsatisfied:
                outcomes["refused"] += 1
            else:
                assert started.status == pb.DEPLOYMENT_STATUS_IN_PROGRESS
                outcomes["started"] += 1

        made, _ = await asyncio.gather(locking(), starting())
        await unlock(world, made)

    for first in range(0, ROUNDS, AT_ONCE):
        await asyncio.gather(*(one_round(first + number) for number in range(AT_ONCE)))
    assert await started_under_locks(world) == 0
    assert sum(outcomes.values()) == ROUNDS
    assert min(outcomes.values()) > 0, outcomes
    await world.check_events()
