"""Freeze windows at the gate: what starts and what does not, and who is let through."""

import asyncio
import json
from collections.abc import Coroutine
from contextlib import suppress
from datetime import UTC
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from release_manager.deployment.v1 import deployment_pb2 as pb

from shared.errors import GateUnsatisfied, RoleRequired
from tests.support.deployments import World
from tests.support.freezing import (
    ALLOW,
    at,
    daily,
    freeze,
    freeze_again,
    new_window,
    once,
    refreeze,
    thaw,
)
from tests.support.publishing import until_waiting
from tests.support.restricting import override
from tests.support.waiting import Edge

pytestmark = pytest.mark.asyncio(loop_scope="session")
ROUNDS = 12


def minute(moment: Timestamp) -> str:
    return f"{moment.ToDatetime(UTC):%Y-%m-%d %H:%M} UTC"


async def test_what_is_frozen_does_not_start(world: World, app: str) -> None:
    waiting = await world.create(await world.release(f"{app}@1"), "dev")
    window = (await freeze(world, services=[app], reason="a sale")).window
    said = rf"{window.name} forbids it until {minute(window.closes_at)} \(a sale\)"
    with pytest.raises(GateUnsatisfied, match=said):
        await world.start(waiting.id)
    (blocker,) = (await world.get(waiting.id)).blockers
    assert (blocker.gate, blocker.earliest) == ("freeze", window.closes_at)
    assert blocker.remedy.startswith("Wait until ")
    assert blocker.remedy.endswith("or let it past the freeze with OverrideGate.")
    await thaw(world, window.id)
    assert not (await world.get(waiting.id)).blockers
    await freeze_again(world, window.name)
    with pytest.raises(GateUnsatisfied):
        await world.start(waiting.id)
    await refreeze(world, window.name, once=once(1, 2))
    await world.start(waiting.id)
    await world.check_events()


async def test_what_runs_goes_on_running(world: World, app: str) -> None:
    running = await world.create(await world.release(f"{app}@1"), "dev")
    await world.start(running.id)
    await freeze(world, services=[app])
    assert (await world.finish(running.id)).status == pb.DEPLOYMENT_STATUS_COMPLETED


@pytest.mark.parametrize(
    ("given", "frozen"),
    [
        ({"services": ["{app}"]}, (True, False)),
        ({"teams": ["Team {app}"]}, (True, False)),
        ({"environments": ["{place}"]}, (True, True)),
        ({"environments": ["{place}"], "exempt_services": ["{app}"]}, (False, True)),
        ({"environments": ["{place}"], "environment_types": [3]}, (False, False)),
        ({"environments": ["{place}"], "environment_types": [1, 3]}, (True, True)),
        ({"services": ["{app}"], "environments": ["staging"]}, (False, False)),
        ({"services": ["{app}"], "exception_dates": ["2001-01-01"]}, (True, False)),
    ],
    ids=["service", "team", "place", "exempt", "type", "types", "elsewhere", "exception"],
)
async def test_a_window_is_about_what_it_names(
    world: World, app: str, place: str, given: dict[str, list[Any]], frozen: tuple[bool, bool]
) -> None:
    other = f"{app}-other"
    mine, others = [await world.create(await world.release(f"{a}@1"), place) for a in (app, other)]
    meant: dict[str, Any] = {
        field: [one.format(app=app, place=place) if isinstance(one, str) else one for one in values]
        for field, values in given.items()
    }
    made = (await freeze(world, **meant)).window
    found = [await world.get(one.id) for one in (mine, others)]
    assert tuple(bool(one.blockers) for one in found) == frozen
    await thaw(world, made.id)


async def test_one_open_window_that_allows_is_enough(world: World, app: str) -> None:
    waiting = await world.create(await world.release(f"{app}@1"), "dev")
    closed = (await freeze(world, services=[app], kind=ALLOW, once=once(1, 2))).window
    (blocker,) = (await world.get(waiting.id)).blockers
    assert f"{closed.name} is closed until" in blocker.reason
    assert blocker.earliest == closed.next_opens_at
    await freeze(world, services=[app], kind=ALLOW, weekly=daily())
    await world.start(waiting.id)


async def test_an_override_lets_one_deployment_past(world: World, app: str) -> None:
    both = [app, f"{app}-2"]
    first, second = [await world.create(await world.release(f"{a}@1"), "dev") for a in both]
    await freeze(world, services=both)
    await override(world, first.id, "freeze")
    assert not (await world.get(first.id)).blockers
    assert (await world.start(first.id)).status == pb.DEPLOYMENT_STATUS_IN_PROGRESS
    with pytest.raises(GateUnsatisfied):
        await world.start(second.id)


async def test_rollbacks_pass_unless_the_window_says_otherwise(world: World, app: str) -> None:
    for number in range(2):
        latest = await world.deployed(await world.release(f"{app}@{number}"))
    window = (await freeze(world, services=[app])).window
    back = (await world.roll_back(latest.id)).deployment
    await refreeze(world, window.id, includes_rollbacks=True)
    with pytest.raises(GateUnsatisfied, match=window.name):
        await world.stage(back.id, "deploy", "in_progress")
    await refreeze(world, window.id, mask=["includes_rollbacks"])
    started = await world.stage(back.id, "deploy", "in_progress")
    assert started.deployment.status == pb.DEPLOYMENT_STATUS_IN_PROGRESS


async def test_a_request_waits_for_the_end_unless_it_may_not(world: World, app: str) -> None:
    release = await world.release(f"{app}@1")
    await freeze(world, services=[app])
    request = pb.CreateDeploymentRequest(release=release, environment="dev", fail_if_blocked=True)
    assert isinstance(await world.refused("dev1", "CreateDeployment", request), GateUnsatisfied)
    waiting = await world.create(release, "dev")
    assert [blocker.gate for blocker in waiting.blockers] == ["freeze"]


async def test_a_window_opens_and_closes_by_itself(world: World, app: str) -> None:
    """Its row stays as it is; the time that a deployment is judged at is the database's."""
    waiting = await world.create(await world.release(f"{app}@1"), "dev")
    window = (await freeze(world, services=[app], once=once(1, 2))).window
    assert not window.open
    assert not (await world.get(waiting.id)).blockers
    await _moved(world, window.id, -1, 1)
    assert [one.gate for one in (await world.get(waiting.id)).blockers] == ["freeze"]
    await _moved(world, window.id, -2, -1)
    await world.start(waiting.id)


async def test_only_admins_freeze(world: World, app: str) -> None:
    await world.release(f"{app}@1")
    window = (await freeze(world, services=[app])).window
    for change in (
        freeze(world, who="lead1", services=[app]),
        refreeze(world, window.id, who="lead1", reason="another"),
        thaw(world, window.id, who="lead1"),
        freeze_again(world, window.id, who="lead1"),
    ):
        with pytest.raises(RoleRequired):
            await change


async def test_a_start_waits_for_a_window_that_is_being_made(world: World, app: str) -> None:
    waiting = await world.create(await world.release(f"{app}@1"), "dev")
    service = ("services", world.services[app])  # the new window refers to it
    await _refused_behind(freeze(world, services=[app]), service, world, waiting.id)


async def test_a_start_waits_for_a_window_that_is_being_changed(world: World, app: str) -> None:
    waiting = await world.create(await world.release(f"{app}@1"), "dev")
    window = (await freeze(world, services=[app], once=once(1, 2))).window.id
    row = ("freeze_windows", window)
    await _refused_behind(refreeze(world, window, once=once()), row, world, waiting.id)
    await thaw(world, window)
    await _refused_behind(freeze_again(world, window), row, world, waiting.id)


async def test_a_window_waits_for_starts_and_is_later_than_they(world: World, app: str) -> None:
    await world.release(f"{app}@1")
    async with world.database.acquire() as connection, connection.transaction():
        await connection.execute("SELECT FROM environments WHERE name = 'Dev' FOR SHARE")
        making = asyncio.create_task(freeze(world, services=[app]))
        await until_waiting(world, 1)
        until = await connection.fetchval("SELECT clock_timestamp()")
    assert (await making).window.created_at.ToDatetime(UTC) > until


async def test_no_start_slips_past_a_window_that_is_being_made(world: World, app: str) -> None:
    """Either it started before the window was made, or it did not start."""
    edge = Edge()
    for number in range(ROUNDS):
        name = f"{app}-{number}"
        waiting = await world.create(await world.release(f"{name}@1"), "dev")
        window = world.call("admin", "CreateFreezeWindow", new_window(services=[name]))
        made, started = await asyncio.gather(*edge.between(window, _started(world, waiting.id)))
        edge.note(second_won=started)
        found = await world.get(waiting.id)
        if started:
            begun, frozen = found.started_at, made.window.created_at
            assert begun.ToNanoseconds() < frozen.ToNanoseconds(), number
        else:
            assert [one.gate for one in found.blockers] == ["freeze"]
    assert edge.both
    await world.check_events()


async def _refused_behind(
    change: Coroutine[Any, Any, Any], row: tuple[str, object], world: World, deployment_id: str
) -> None:
    """Check that a start which comes while windows are changed is refused after that.

    The change needs the row after it has taken its locks, and so is held up.
    """
    table, row_id = row
    async with world.database.acquire() as connection, connection.transaction():
        await connection.execute(f"SELECT FROM {table} WHERE id = $1 FOR UPDATE", row_id)
        changing = asyncio.create_task(change)
        await until_waiting(world, 1)
        starting = asyncio.create_task(world.start(deployment_id))
        await until_waiting(world, 2)
    await changing
    with pytest.raises(GateUnsatisfied, match="the end of the year"):
        await starting


async def _started(world: World, deployment_id: str) -> bool:
    with suppress(GateUnsatisfied):
        await world.start(deployment_id)
        return True
    return False


async def _moved(world: World, window_id: str, opens: int, closes: int) -> None:
    """Set a window to be open once, from one hour to another from now, as if it had been before."""
    span = {"opens_at": at(hours=opens), "closes_at": at(hours=closes)}
    schedule = {"once": {name: end.ToDatetime(UTC).isoformat() for name, end in span.items()}}
    await world.database.execute(
        "UPDATE freeze_windows SET schedule = $2 WHERE id = $1", window_id, json.dumps(schedule)
    )
