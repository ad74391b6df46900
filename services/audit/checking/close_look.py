"""The close look at entries that are not plain: redacted, retired, or not as they should be."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from services.audit.checking.absences import Absences
from services.audit.rules import redaction
from services.audit.rules.recheck import EntryDiffers, recomputed_leaf
from services.audit.rules.replay import Mismatch
from services.audit.store import trees
from services.audit.store.appending import driver_connection
from shared.db.engine import Database

# Other calls get their turn after this many entries.
BETWEEN_TURNS = 25
UNREADABLE = (asyncpg.DataError, asyncpg.InternalClientError, ValueError, OverflowError)


@dataclass(slots=True)
class Look:
    """What was found from `first` on: leaves up to the first that differs, and that one.

    `redacted` and `retired` count those of them; `orders` are positions of entries that say that
    another one was redacted.
    """

    first: int
    leaves: list[bytes] = field(default_factory=list)
    mismatch: Mismatch | None = None
    redacted: int = 0
    retired: int = 0
    orders: list[int] = field(default_factory=list)

    @property
    def next(self) -> int:
        """The position after the last leaf."""
        return self.first + len(self.leaves)

    def __bool__(self) -> bool:
        """Tell whether all is well so far."""
        return self.mismatch is None


async def look_closely(database: Database, absences: Absences, look: Look, end: int) -> None:
    """Go on with a look up to `end`, or to the first entry that differs."""
    rows = await _rows(database, look.next, end)
    if rows is None:
        look.mismatch = Mismatch(look.next, f"The entry at {look.next} cannot be read.")
        return
    for row in rows:
        await _retired(absences, look, row["leaf_index"])
        if row["leaf_index"] != look.next:
            look.mismatch = misplaced(row["leaf_index"], look.next)
            return
        await _entry(absences, look, dict(row))
        if not look:
            return
        if len(look.leaves) % BETWEEN_TURNS == 0:
            await asyncio.sleep(0)
    await _retired(absences, look, end)
    if look.next < end:
        look.mismatch = misplaced(end, look.next)


async def _retired(absences: Absences, look: Look, end: int) -> None:
    """Take over the leaves of entries that are gone, up to `end`, as far as they may be."""
    while look.next < end:
        leaves = await absences.standing_in(look.next, end)
        if not leaves:
            return
        look.leaves += leaves
        look.retired += len(leaves)


async def _entry(absences: Absences, look: Look, row: dict[str, Any]) -> None:
    position = look.next
    try:
        leaf = recomputed_leaf(row)
        missing = redaction.erased(row["redactions"])
        problem = None if missing is None else await absences.problem_of(row, missing)
    except EntryDiffers as error:
        problem = str(error)
    if problem is not None:
        look.mismatch = Mismatch(position, f"The entry at {position} was changed: {problem}.")
        return
    look.leaves.append(leaf)
    look.redacted += missing is not None
    if is_order(row["action"], row["producer"]):
        look.orders.append(position)


def is_order(action: str, producer: str) -> bool:
    """Tell whether an entry may be one that says that another was redacted."""
    return action == redaction.REDACT and producer == redaction.PRODUCER


async def _rows(database: Database, first: int, end: int) -> Sequence[asyncpg.Record] | None:
    """Return the rows of a range up to the first that cannot be read; None if it is that."""
    try:
        async with driver_connection(database.engine) as driver:
            return await trees.rows(driver, first, end)
    except UNREADABLE:
        if end - first == 1:
            return None
    middle = (first + end) // 2
    left = await _rows(database, first, middle)
    if left is None or len(left) < middle - first:
        return left
    right = await _rows(database, middle, end)
    return [*left, *(right or ())]


def misplaced(found: int, expected: int) -> Mismatch:
    """Say what is wrong where an entry was expected and the next one there is another."""
    if found < expected:
        return Mismatch(found, f"There is more than one entry at {found}.")
    return Mismatch(expected, f"The entry at {expected} is missing.")
