"""Months with so many entries that looking at each takes longer than a statement may."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from services.audit.rules import retirement
from services.audit.rules.events import Event, Sealed, seal
from services.audit.store import retention
from services.audit.store.appending import Driver, driver_connection
from shared.clock import system_clock
from shared.db import engine
from shared.db.engine import Database
from shared.errors import UnderLegalHold
from shared.merkle.tree import Span
from shared.setting_values import driver_url
from tests.integration.audit.conftest import SECRET, World
from tests.integration.audit.keeping import MONTHS, PER_MONTH, Kept, hold, keeping
from tests.support.polling import eventually

MONTH, SPAN = MONTHS[0], Span(0, PER_MONTH)
# What other statements may take, and how long each of these looks at entries.
SHORT_S, LONG_S = 1.0, 1.5
# Less than an append waits for a lock.
APPENDED_S = 4.5
WAITING = """
    SELECT count(*) = $1 FROM pg_stat_activity
    WHERE application_name IN ('test large', 'test keeper') AND wait_event_type = 'Lock'
        AND datname = current_database()
"""


@pytest_asyncio.fixture
async def kept(world: World, tmp_path: Path) -> AsyncIterator[Kept]:
    async with keeping(world, tmp_path) as made:
        yield made


def announcement() -> Sealed:
    details = retirement.retire_details(SPAN, [], "over")
    name = retirement.name_of(MONTH)
    event = Event(retirement.RETIRE, retirement.RESOURCE, name, details=details)
    return seal(event, producer="audit", user_id=None, now=system_clock(), mac_key=SECRET)


async def waiting(kept: Kept, count: int) -> None:
    """Wait until so many wait for a lock; within a transaction, the first look would be kept."""

    async def look() -> bool:
        await kept.owner.execute("SELECT pg_stat_clear_snapshot()")
        return bool(await kept.owner.fetchval(WAITING, count))

    await eventually(look)


async def announced(kept: Kept) -> None:
    """Announce that the month leaves, and wait until that is signed."""
    async with driver_connection(kept.keeper.engine) as driver:
        done = await retention.retire(driver, announcement(), MONTH, SPAN)
    assert done.outcome == "retired"
    assert done.leaf_index is not None
    await kept.integrator.covering(done.leaf_index + 1)


STATEMENTS: dict[str, tuple[str, Callable[[Driver], Awaitable[Any]]]] = {
    "interval": ("rm_audit_reader", lambda driver: retention.interval(driver, MONTH)),
    "retire": (
        "rm_audit_keeper",
        lambda driver: retention.retire(driver, announcement(), MONTH, SPAN),
    ),
    "drop": ("rm_audit_keeper", lambda driver: retention.drop_month(driver, MONTH)),
}


@pytest.mark.parametrize("name", STATEMENTS)
async def test_a_month_may_take_longer_than_other_statements(
    kept: Kept, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    role, statement = STATEMENTS[name]
    await kept.integrator.covering(PER_MONTH)
    if name == "drop":
        await announced(kept)
    monkeypatch.setattr(engine, "STATEMENT_TIMEOUT_MS", int(SHORT_S * 1_000))
    monkeypatch.setattr(engine, "COMMAND_TIMEOUT_S", SHORT_S)
    database = Database(kept.world.url, role=role, application_name="test large")
    async with driver_connection(database.engine) as driver:
        async with kept.owner.transaction():
            await kept.owner.execute("LOCK TABLE audit_logs_y2025m01 IN ACCESS EXCLUSIVE MODE")
            looking = asyncio.ensure_future(statement(driver))
            await waiting(kept, 1)
            await asyncio.sleep(LONG_S)
        found = await looking
    await database.close()
    assert found == (SPAN, PER_MONTH) or found.outcome in {"retired", "dropped"}


async def meanwhile(kept: Kept, action: str, look: Awaitable[Any]) -> Any:
    """Have something look through a month, place a hold on an action while it does."""
    async with kept.owner.transaction():
        await kept.owner.execute("SELECT FROM audit_log_head FOR UPDATE")
        placing = asyncio.ensure_future(
            kept.keeping.holds.place(hold(kept.world, f"on-{action}", action=action), {})
        )
        await waiting(kept, 1)
        looking = asyncio.ensure_future(look)
        await waiting(kept, 2)
    await placing
    return await looking


@pytest.mark.parametrize("name", ["retire", "drop"])
async def test_appending_does_not_wait_for_a_second_look(kept: Kept, name: str) -> None:
    await kept.integrator.covering(PER_MONTH)
    if name == "drop":
        await announced(kept)
    async with driver_connection(kept.keeper.engine) as driver, driver.transaction():
        with pytest.raises(asyncpg.SerializationError):
            await meanwhile(kept, "nothing", STATEMENTS[name][1](driver))
        await asyncio.wait_for(kept.append(), APPENDED_S)


@pytest.mark.parametrize("announced_before", [False, True])
async def test_a_hold_that_is_placed_meanwhile_is_looked_at_from_the_start(
    kept: Kept,
    announced_before: bool,  # noqa: FBT001
) -> None:
    await kept.integrator.covering(PER_MONTH)
    if announced_before:
        await announced(kept)
    retire = kept.keeping.retiring.retire
    with pytest.raises(UnderLegalHold):
        await meanwhile(kept, "deploy", retire(MONTH, "over"))
    await kept.keeping.holds.release("on-deploy", "over")
    assert (await meanwhile(kept, "nothing", retire(MONTH, "over"))).span == SPAN


async def test_a_service_that_is_killed_leaves_no_look_behind(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "CALLER_LOOKED_FOR_MS", 100)
    driver = await asyncpg.connect(
        driver_url(kept.world.url), server_settings={"application_name": "test large"}
    )
    async with kept.owner.transaction():
        await kept.owner.execute("LOCK TABLE audit_logs_y2025m01 IN ACCESS EXCLUSIVE MODE")
        looking = asyncio.ensure_future(retention.interval(driver, MONTH))
        await waiting(kept, 1)
        driver.terminate()
        await waiting(kept, 0)
    with pytest.raises(asyncpg.InterfaceError):
        await looking
