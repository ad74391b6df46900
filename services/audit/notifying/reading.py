"""The entries that webhooks are fed from: short windows of the signed ledger, in order."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Row

from services.audit.rules.happenings import Told
from services.audit.store import trees, windows
from services.audit.store.queries import Filter, Leaves
from shared.db.engine import Database
from shared.errors import EntryRetired

LARGEST_BATCH: Final = 100
# Windows read at a time, so that whoever reads pages finds free connections.
READS_AT_ONCE: Final = 2


@dataclass(frozen=True, slots=True)
class Batch:
    """Entries in order; all before `next_index` were looked at."""

    entries: Sequence[Told]
    next_index: int


class EntriesMissing(Exception):
    """Entries that a checkpoint covers were not found, and nothing says that they were retired.

    They may just have been retired, which the next read sees.
    """


class Windows:
    """Reads windows for all webhooks of one process."""

    def __init__(self, database: Database) -> None:
        """Take a database under the reader's role."""
        self._database = database
        self._reads = asyncio.Semaphore(READS_AT_ONCE)

    async def read(self, first: int, end: int) -> Batch:
        """Return the first entries from `first` on, before `end`, and none without those before.

        Raises EntryRetired and EntriesMissing.
        """
        leaves = Leaves(first, min(end, first + LARGEST_BATCH))
        async with self._reads, self._database.snapshot() as tx:
            retired = await windows.first_retirement(tx, leaves)
            if retired is not None and retired.first_index <= first:
                raise EntryRetired(
                    position=first, retired_by=retired.leaf_index, next_index=retired.end_index
                )
            if retired is not None:
                leaves = Leaves(first, retired.first_index)
            found = [
                told(row) async for row in windows.entries(tx, Filter(), leaves, LARGEST_BATCH)
            ]
        if [entry.leaf_index for entry in found] != list(range(leaves.first, leaves.end)):
            raise EntriesMissing
        return Batch(found, leaves.end)

    async def size(self) -> int:
        """Return how many entries the ledger has at this moment."""
        async with self._reads, self._database.snapshot() as tx:
            return (await trees.head(tx)).next_index


def told(row: Row[Any]) -> Told:
    """Return what is told others of an entry: who did it, but not from which address."""
    return Told(
        leaf_index=row.leaf_index,
        event_id=str(row.event_id),
        occurred_at=row.occurred_at,
        user_id="" if row.user_id is None else str(row.user_id),
        producer=row.producer,
        action=row.action,
        resource_type=row.resource_type,
        resource_id=row.resource_id,
        details=row.details,
    )
