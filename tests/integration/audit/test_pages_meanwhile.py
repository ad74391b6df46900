"""Pages of a ledger that changes between the statements that a page is read with."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from sqlalchemy import event

from services.audit.appending.ledger import Logged
from services.audit.reading import searching
from services.audit.reading.entries import PageQuery, Reading
from services.audit.rules.events import Event
from services.audit.store.pages import PLANS
from services.audit.store.queries import ALL_CATEGORIES, Filter
from shared.db.engine import Database
from shared.ids import new_id
from shared.paging import PageTokens
from tests.integration.audit.conftest import World
from tests.support.past_entries import made_up, put_in

FIRST, STEP, BATCH, MOST = 20, 40, 100, 800
MONTHS = 7
CALLER = UUID(int=1)


@pytest_asyncio.fixture
async def reader(world: World) -> AsyncIterator[Database]:
    """Connections as the service reads pages with."""
    database = Database(
        world.url, role="rm_audit_reader", application_name="test pages", settings=PLANS
    )
    yield database
    await database.close()


@pytest.fixture(autouse=True)
def _short_walks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searching, "FIRST", FIRST)
    monkeypatch.setattr(searching, "STEP", STEP)


@contextmanager
def after_each(database: Database, change: Callable[[], Awaitable[Any]]) -> Iterator[None]:
    """Let something happen each time that a statement was answered, before the next is sent."""

    def happen(connection: Any, *_given: Any) -> None:
        connection.connection.run_async(lambda _driver: change())

    listened = (database.engine.sync_engine, "after_cursor_execute", happen)
    event.listen(*listened)
    try:
        yield
    finally:
        event.remove(*listened)


async def listed(database: Database, wanted: Filter, *, oldest_first: bool) -> list[int]:
    reading = Reading(database, PageTokens(b"k" * 32))
    found, token = [], ""
    while True:
        asked = PageQuery("/m", CALLER, wanted, size=3, token=token, oldest_first=oldest_first)
        page = await reading.page(asked)
        found += [int(entry.leaf_index) for entry in page.entries]
        token = page.next_token
        if not token:
            return found


def made(leaf: int) -> Event:
    """Return the event at a position: one in three is wanted by each of the filters."""
    is_wanted = leaf % 3 == 1
    return Event(
        action="deploy" if is_wanted else "approve",
        resource_type="deployment",
        resource_id=f"d-{leaf}",
        event_id=new_id(),
        category="security" if leaf % 6 == 1 else "change" if is_wanted else "access",
        details={"wanted": is_wanted},
    )


@pytest.mark.parametrize(
    "wanted",
    [
        Filter(details='{"wanted":true}', categories=ALL_CATEGORIES),
        Filter(),
        Filter(action="deploy", categories=ALL_CATEGORIES),
        Filter(action="deploy"),
        Filter(resource_type="deployment", action="deploy"),
    ],
    ids=["details", "usual", "action", "usual_action", "two_equalities"],
)
async def test_what_is_appended_while_a_page_is_read_is_on_a_later_one(
    world: World, reader: Database, wanted: Filter
) -> None:
    size = 0

    async def append(count: int = BATCH) -> None:
        nonlocal size
        if size < MOST:
            batch = [made(leaf) for leaf in range(size, size + count)]
            outcomes = await world.ledger.log_all(world.producer, batch)
            assert all(isinstance(outcome, Logged) for outcome in outcomes)
            size += count

    await append(5)
    with after_each(reader, append):
        found = await listed(reader, wanted, oldest_first=True)
    # What came when the last page was read already is on none.
    assert found == [leaf for leaf in range(size) if leaf % 3 == 1][: len(found)]
    assert len(found) >= 2


@pytest.mark.parametrize("oldest_first", [True, False])
@pytest.mark.parametrize(
    "wanted",
    [
        Filter(details='{"environment":"prod","count":1.5}', categories=ALL_CATEGORIES),
        Filter(categories=("security", "access")),
        Filter(resource_id="r7", categories=ALL_CATEGORIES),
    ],
    ids=["details", "categories", "resource"],
)
async def test_a_month_that_leaves_while_a_page_is_read_takes_no_other_entry_with_it(
    world: World,
    reader: Database,
    wanted: Filter,
    oldest_first: bool,  # noqa: FBT001
) -> None:
    entries = made_up(400, months=MONTHS, seed=5)
    await put_in(world.owner, entries, size=400)
    before = await listed(reader, wanted, oldest_first=oldest_first)
    edge = entries[0] if oldest_first else entries[-1]
    leaving = edge.created_at
    stay = {one.leaf_index for one in entries if one.created_at.month != leaving.month}
    drop = f"DROP TABLE IF EXISTS audit_logs_y{leaving:%Y}m{leaving:%m}"
    with after_each(reader, lambda: world.owner.execute(drop)):
        found = await listed(reader, wanted, oldest_first=oldest_first)
    assert [leaf for leaf in found if leaf in stay] == [leaf for leaf in before if leaf in stay]
