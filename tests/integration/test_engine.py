"""The database as services use it: what its errors tell, what a cancelled call leaves behind."""

import asyncio

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import QueuePool

from seed.rows import Connection
from shared.db.engine import Database

SECRET = "a hash, a mail address, a whole audit event"


async def test_the_text_of_an_error_tells_no_values(db: Database) -> None:
    with pytest.raises(DBAPIError) as raised:
        async with db.transaction() as tx:
            await tx.execute(text("SELECT 1 / length(substr(:value, 1, 0))"), {"value": SECRET})
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize("kind", ["transaction", "snapshot"])
async def test_a_call_that_is_cancelled_leaves_no_transaction_open(
    db: Database, owner: Connection, kind: str
) -> None:
    async def work() -> None:
        async with getattr(db, kind)() as tx:
            await tx.execute(text("SELECT pg_advisory_xact_lock(1)"))
            await tx.execute(text("SELECT pg_sleep(10)"))

    tasks = [asyncio.create_task(work()) for _ in range(5)]
    await asyncio.sleep(0.3)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    pool = db.engine.pool
    assert isinstance(pool, QueuePool)
    assert pool.checkedout() == 0
    async with asyncio.timeout(5):
        await owner.execute("SELECT pg_advisory_lock(1)")
    busy = await owner.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'test'"
        " AND datname = current_database() AND state LIKE 'idle in transaction%'"
    )
    assert busy == 0
