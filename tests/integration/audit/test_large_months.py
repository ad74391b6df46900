"""Months with so many entries that looking at each takes longer than a statement may."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from services.audit.rules import retirement
from services.audit.rules.events import Event, Sealed, seal
from services.audit.store import retention
from services.audit.store.appending import Driver, driver_connection
from shared.clock import system_clock
from shared.db import engine
from shared.db.engine import Database
from shared.merkle.tree import Span
from tests.integration.audit.conftest import SECRET, World
from tests.integration.audit.keeping import MONTHS, PER_MONTH, Kept, keeping
from tests.support.polling import eventually

MONTH, SPAN = MONTHS[0], Span(0, PER_MONTH)
# What other statements may take, and how long each of these looks at entries.
SHORT_S, LONG_S = 0.3, 0.8
WAITING = """
    SELECT count(*) = 1 FROM pg_stat_activity
    WHERE application_name = 'test large' AND wait_event_type = 'Lock'
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
        async with driver_connection(kept.keeper.engine) as driver:
            done = await retention.retire(driver, announcement(), MONTH, SPAN)
        assert done.outcome == "retired"
        assert done.leaf_index is not None
        await kept.integrator.covering(done.leaf_index + 1)
    monkeypatch.setattr(engine, "STATEMENT_TIMEOUT_MS", int(SHORT_S * 1_000))
    monkeypatch.setattr(engine, "COMMAND_TIMEOUT_S", SHORT_S)
    database = Database(kept.world.url, role=role, application_name="test large")
    async with driver_connection(database.engine) as driver:
        async with kept.owner.transaction():
            await kept.owner.execute("LOCK TABLE audit_logs_y2025m01 IN ACCESS EXCLUSIVE MODE")
            looking = asyncio.ensure_future(statement(driver))
            await eventually(lambda: kept.owner.fetchval(WAITING))
            await asyncio.sleep(LONG_S)
        found = await looking
    await database.close()
    assert found == (SPAN, PER_MONTH) or found.outcome in {"retired", "dropped"}
