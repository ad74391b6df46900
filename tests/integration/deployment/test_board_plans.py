"""The board of 200 services in 5 environments: as many statements as for one, each by indexes."""

from datetime import UTC, datetime

import pytest

from benchmarks.board_past import CELLS, SERVICES
from services.deployment.operations import board, difference
from services.deployment.operations.board import BoardQuery
from services.deployment.operations.difference import DifferenceQuery
from services.deployment.operations.facts import history
from services.deployment.rules.board import pair_state
from services.deployment.store import histories
from shared.db.engine import Database
from shared.db.keyset import PageRequest
from tests.support.plans import indexes, plans_of, scanned, shown, statements_sent

pytestmark = pytest.mark.asyncio(loop_scope="session")

PAST = datetime(2026, 6, 1, tzinfo=UTC)
WHEN = pytest.mark.parametrize("as_of", [None, PAST], ids=["now", "then"])
# Read whole because they are few: what is joined to is found by whatever way is cheapest.
FEW = {"services", "environments", "teams", "users", "releases", "freeze_windows"}
FEW |= {"freeze_window_subjects"}


async def shown_by(database: Database, as_of: datetime | None, size: int) -> int:
    """Return how many cells a page of the board has."""
    found = await board.cells(database, BoardQuery(PageRequest(size), as_of=as_of))
    return len(found.cells.entries)


async def compared_by(database: Database, as_of: datetime | None, size: int) -> int:
    """Return how many services a page of the comparison has."""
    query = DifferenceQuery(PageRequest(size), "place-1", "place-5", as_of=as_of)
    return len((await difference.differences(database, query)).services.entries)


@WHEN
@pytest.mark.parametrize("read", [shown_by, compared_by], ids=["board", "difference"])
async def test_any_number_of_services_takes_as_many_statements(
    filled: Database, read: object, as_of: datetime | None
) -> None:
    assert callable(read)
    counts, sizes = set(), []
    for size in (1, CELLS):
        with statements_sent(filled) as sent:
            sizes.append(await read(filled, as_of, size))
        counts.add(len(sent))
    assert sizes == [1, CELLS if read is shown_by else SERVICES]
    assert len(counts) == 1
    assert counts <= {5, 7}


@WHEN
@pytest.mark.parametrize("read", [shown_by, compared_by], ids=["board", "difference"])
async def test_histories_are_reached_by_indexes(
    filled: Database, read: object, as_of: datetime | None
) -> None:
    assert callable(read)

    async def whole() -> None:
        await read(filled, as_of, CELLS)

    plans = await plans_of(filled, whole)
    assert scanned(plans) <= FEW, shown(plans)
    assert "ix_deployments_failures" in indexes(plans), shown(plans)
    assert "uq_deployments_completed_seq" in indexes(plans), shown(plans)


async def test_the_few_deployments_that_are_read_tell_what_all_would(filled: Database) -> None:
    found = await board.cells(filled, BoardQuery(PageRequest(100)))
    async with filled.snapshot() as tx:
        for cell in found.cells.entries:
            names = cell.names
            rows = await histories.whole(tx, names.service_id, names.environment_id)
            whole, state = pair_state(history(rows)), cell.state
            assert state.health is whole.health
            for name in ("live", "running", "target", "last_failure"):
                one, other = getattr(state, name), getattr(whole, name)
                assert (one and one.id) == (other and other.id), name
            assert [one.id for one in state.waiting] == [one.id for one in whole.waiting]
