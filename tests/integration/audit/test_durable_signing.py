"""What is published is on the disks of all who must have it: the pass commits before it writes."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from shared.db.engine import Database
from tests.integration.audit.conftest import World
from tests.integration.audit.signing import SignedLedger
from tests.support.plans import statements_sent

FLUSH = "pg_logical_emit_message"


@pytest_asyncio.fixture
async def ledger(world: World, tmp_path: Path) -> AsyncIterator[SignedLedger]:
    tree = Database(world.url, role="rm_audit_integrator", application_name="test integrator")
    owner = Database(world.url, role=None, application_name="test command")
    yield SignedLedger(world, tmp_path, tree, owner)
    await tree.close()
    await owner.close()


async def flushes(ledger: SignedLedger) -> int:
    """Return how often a pass waits for the disks, having seen that this moves the log."""
    before = await ledger.owner.fetchval("SELECT pg_current_wal_flush_lsn()")
    with statements_sent(ledger.tree) as sent:
        await ledger.sign()
    count = sum(FLUSH in statement for statement, _parameters in sent)
    if count:
        assert await ledger.owner.fetchval("SELECT pg_current_wal_flush_lsn()") > before
    return count


async def test_a_pass_waits_for_the_disks_only_where_it_publishes(ledger: SignedLedger) -> None:
    await ledger.append(3, signed=False)
    assert await flushes(ledger) == 1
    assert await flushes(ledger) == 0
    # Stored, and in a file that somebody has lost: published again, which is no less final.
    ledger.file.path.unlink()
    assert await flushes(ledger) == 1
    assert await flushes(ledger) == 0


async def test_it_waits_whatever_the_database_does_without_being_asked(
    ledger: SignedLedger,
) -> None:
    """As appending does: a database that promises nothing by itself promises this."""
    name = await ledger.owner.fetchval("SELECT current_database()")
    await ledger.owner.execute(f'ALTER DATABASE "{name}" SET synchronous_commit = off')
    await ledger.append(3, signed=False)
    assert await flushes(ledger) == 1
