"""The entries of a range computed anew, window by window, each read while the last is computed."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import asyncpg

from services.audit.checking.absences import Absences
from services.audit.checking.close_look import (
    BETWEEN_TURNS,
    UNREADABLE,
    Look,
    is_order,
    look_closely,
    misplaced,
)
from services.audit.rules.quick_recheck import plain_leaf
from services.audit.rules.replay import Mismatch
from services.audit.store.appending import driver_connection
from services.audit.store.plain_rows import ACTION, PRODUCER, plain_rows
from shared.db.engine import Database

# Windows end at multiples of it; each level-0 tile lies in one window.
ROWS_AT_ONCE = 2_048


@dataclass(frozen=True, slots=True)
class Window:
    """The leaves of the entries from `first` on, up to the first that differs, and that one.

    Of them, `redacted` have erased fields, and of `retired` only the tree has the leaves.
    """

    first: int
    leaves: Sequence[bytes]
    mismatch: Mismatch | None = None
    redacted: int = 0
    retired: int = 0


async def windows(
    database: Database, first: int, end: int, part: int = 0, parts: int = 1
) -> AsyncGenerator[Window, None]:
    """Compute the leaves of the entries from `first` up to, not including, `end`.

    Of the windows of the range only each `parts`-th, from number `part` on. Ends after a window
    with a mismatch.
    """
    absences = Absences(database)
    ahead = iter(_bounds(first, end)[part::parts])
    bounds = next(ahead, None)
    fetching = asyncio.create_task(_plain(database, bounds))
    try:
        while bounds is not None:
            rows, following = await fetching, next(ahead, None)
            fetching = asyncio.create_task(_plain(database, following))
            window = await _window(database, absences, rows, *bounds)
            del rows
            yield window
            if window.mismatch is not None:
                return
            bounds = following
    finally:
        fetching.cancel()
        await asyncio.gather(fetching, return_exceptions=True)


def _bounds(first: int, end: int) -> Sequence[tuple[int, int]]:
    """Return where each window of a range begins and ends."""
    cuts = range(first - first % ROWS_AT_ONCE + ROWS_AT_ONCE, end, ROWS_AT_ONCE)
    return list(pairwise([first, *cuts, end])) if first < end else []


async def _plain(database: Database, bounds: tuple[int, int] | None) -> Sequence[asyncpg.Record]:
    """Return the rows of a range for the quick recheck; none if one cannot be read."""
    if bounds is None:
        return ()
    try:
        async with driver_connection(database.engine) as driver:
            return await plain_rows(driver, *bounds)
    except UNREADABLE:
        return ()


async def _window(
    database: Database, absences: Absences, rows: Sequence[Any], first: int, end: int
) -> Window:
    """Compute a window: quickly as far as entries are plain, then with a close look."""
    look = Look(first)
    for row in rows:
        if row[0] < look.next:
            look.mismatch = misplaced(row[0], look.next)
            break
        leaf = plain_leaf(row) if row[0] == look.next else None
        if leaf is None:
            break
        if is_order(row[ACTION], row[PRODUCER]):
            look.orders.append(look.next)
        look.leaves.append(leaf)
        if len(look.leaves) % BETWEEN_TURNS == 0:
            await asyncio.sleep(0)
    if look and look.next < end:
        await look_closely(database, absences, look, end)
    not_done = [await absences.not_done(position) for position in look.orders]
    mismatch = min(filter(None, (look.mismatch, *not_done)), default=None)
    return Window(first, look.leaves, mismatch, look.redacted, look.retired)
