"""The verification of what is kept beside the entries: the head, the ends of tiles, the keys.

None of it is in the tree, and all of it follows from the entries. It matters: without its key an
event that is sent again becomes a second entry, and with the key of an entry that is not there an
event is taken for a repetition and is lost.
"""

from sqlalchemy.ext.asyncio import AsyncConnection

from services.audit.rules.replay import Mismatch
from services.audit.store import surroundings, trees
from shared.db.engine import Database

ENTRIES_AT_ONCE = 32_768


async def problem_around(database: Database, first: int, end: int, entries: int) -> Mismatch | None:
    """Return what does not follow from the entries, of which those of a range are looked at.

    Everything but the keys of single entries is looked at only with the range of all `entries`.
    """
    if (first, end) == (0, entries):
        async with database.snapshot() as tx:
            found = await _head(tx) or await _tiles(tx)
            if found is not None:
                return found
    for start in range(first, end, ENTRIES_AT_ONCE):
        async with database.snapshot() as tx:
            stop = min(end, start + ENTRIES_AT_ONCE)
            position = await surroundings.wrong_key(tx, start, stop)
        if position is not None:
            return _key(position)
    if (first, end) == (0, entries):
        async with database.snapshot() as tx:
            position = await surroundings.key_too_many(tx, entries)
        if position is not None:
            return _key(position)
    return None


async def _head(tx: AsyncConnection) -> Mismatch | None:
    head = await surroundings.head_and_newest(tx)
    if head is None:
        return Mismatch(0, "The head of the ledger is missing.")
    if (head.origin, head.epoch) != (head.said_origin, head.said_epoch):
        return Mismatch(0, f"The head names the log {head.origin}, which is not its newest epoch.")
    if head.newest_at is not None and head.last_at != head.newest_at:
        return Mismatch(head.next_index, "The head has another time than the newest entry.")
    return None


async def _tiles(tx: AsyncConnection) -> Mismatch | None:
    newest = await trees.newest_checkpoint(tx)
    size = newest.size if newest else 0
    beyond = await surroundings.tile_beyond(tx, size)
    if beyond is None:
        return None
    level, tile = beyond
    return Mismatch(size, f"The tile {level}/{tile} has more than was signed.")


def _key(position: int) -> Mismatch:
    return Mismatch(position, f"The key of the event at {position} is not that of an entry.")
