"""Waiting for what can only be asked again and again."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import asyncpg

PATIENCE_S = 10.0
LOOK_EVERY_S = 0.05
LAST_LOOK_S = 10.0

Result = TypeVar("Result")


async def eventually(
    holds: Callable[[], Awaitable[Result | None]],
    seconds: float = PATIENCE_S,
    every: float = LOOK_EVERY_S,
) -> Result:
    """Ask until the answer is true, and return it; `TimeoutError` after so many seconds.

    Then it asks once more: on a machine that stood still, the time is over before anybody looked.
    """
    try:
        async with asyncio.timeout(seconds) as time_is_over:
            while not (answer := await holds()):  # noqa: ASYNC110  (by polling)
                await asyncio.sleep(every)
    except TimeoutError:
        if not time_is_over.expired():
            raise
        async with asyncio.timeout(LAST_LOOK_S):
            if not (answer := await holds()):
                raise
    return answer


async def keeps_promise(seconds: float, scene: Callable[[int], Awaitable[float]]) -> None:
    """Hold a promise of seconds against what a scene takes, in the best of three, by number.

    Not in each of them: a machine may stand still.
    """
    took: list[float] = []
    for number in range(3):
        took.append(await scene(number))
        if took[-1] < seconds:
            return
    raise AssertionError(f"within {seconds} s is promised, and it took {took}")


async def no_open_transaction(database: asyncpg.Connection | asyncpg.Pool) -> None:
    """Wait until no connection to this database idles in a transaction.

    Somebody's short one may be seen between two of its statements; one that is held stays.
    """
    await eventually(
        lambda: database.fetchval(
            "SELECT count(*) = 0 FROM pg_stat_activity"
            " WHERE datname = current_database() AND state LIKE 'idle in transaction%'"
        )
    )
