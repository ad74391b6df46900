"""Waiting for what can only be asked again and again."""

import asyncio
from collections.abc import Awaitable, Callable

import asyncpg

PATIENCE_S = 10.0
LOOK_EVERY_S = 0.05


async def eventually(
    holds: Callable[[], Awaitable[object]], seconds: float = PATIENCE_S, every: float = LOOK_EVERY_S
) -> None:
    """Ask until the answer is true; fail with `TimeoutError` after so many seconds."""
    async with asyncio.timeout(seconds):
        while not await holds():  # noqa: ASYNC110  (by polling)
            await asyncio.sleep(every)


async def no_open_transaction(database: asyncpg.Connection | asyncpg.Pool) -> None:
    """Wait until no connection to this database idles in a transaction.

    Somebody's short one may be seen between two of its statements; one that is held stays.
    """

    async def none_open() -> bool:
        return not await database.fetchval(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND state LIKE 'idle in transaction%'"
        )

    await eventually(none_open)
