"""Following the ledger: entries as they come, in order, each exactly once.

The position in the ledger is the cursor, and nothing can appear before it; so a stream is a number,
and resuming one is passing that number. A window is a short read of some leaves: no transaction
stays open while a slow reader takes it. Followers that want the same at the same position, as all
do who are up to date, share one read.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from prometheus_client import Gauge
from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from services.audit.reading.head_watch import HeadWatch, Seen
from services.audit.store import windows
from services.audit.store.queries import Filter, Leaves
from services.audit.store.trees import StoredCheckpoint
from shared.db.engine import Database
from shared.errors import EntryRetired, FollowSlotsTaken, PositionOutOfRange
from shared.rpc.slots import Slots

PER_CALLER = 10
TOTAL = 200
# Half of what is promised, since a heartbeat may have to wait its turn.
HEARTBEAT_S = 5.0
LARGEST_BATCH = 500
# A quarter of what clients receive unless told otherwise.
BATCH_BYTES = 1_048_576
# Leaves looked at by one statement, however few of them match.
WINDOW = 10_000
# Windows read at a time, so that whoever reads pages finds free connections.
READS_AT_ONCE = 3
SHARED_WINDOWS = 32
# Not longer, because an entry may be redacted or retired meanwhile.
SHARED_S = 1.0

FOLLOWED = Gauge("ledger_followers", "Streams that follow the ledger.")


@dataclass(frozen=True, slots=True)
class FollowQuery:
    """What somebody follows: from a position, or from now on when it is None."""

    caller: UUID
    wanted: Filter
    from_index: int | None = None
    only_signed: bool = False


@dataclass(frozen=True, slots=True)
class Batch:
    """Matching entries in order, as `Render` made them; all before `next_index` were looked at."""

    entries: Sequence[Any]
    next_index: int
    checkpoint: StoredCheckpoint | None = None


Send = Callable[[Batch], Awaitable[None]]
# Makes of a stored entry what is sent for it, a message that knows its `ByteSize`.
Render = Callable[[Row[Any]], Any]


class Following:
    """Serves all followers of one process."""

    def __init__(self, database: Database, render: Render) -> None:
        """Take a database under the reader's role, and what makes messages of entries."""
        self.slots = Slots(FollowSlotsTaken, per_caller=PER_CALLER, total=TOTAL)
        self.watch = HeadWatch(database)
        self._windows = _Windows(database, render)

    async def close(self) -> None:
        """Wait for what still reads; to be called when nobody follows any more."""
        await self.watch.close()
        await self._windows.close()

    async def run(self, asked: FollowQuery, send: Send) -> None:
        """Send what is asked for, as fast as `send` returns, until cancelled.

        The first batch is empty and says where the stream begins. Raises PositionOutOfRange and
        EntryRetired.
        """
        with self.watch.followed(), FOLLOWED.track_inprogress():
            seen = await self.watch.look()
            position = seen.next_index if asked.from_index is None else asked.from_index
            stream = _Stream(asked, send, self._windows, position)
            stream.check(seen)
            await stream.send(())
            while True:
                await stream.catch_up(seen)
                seen = await self.watch.moved(seen, stream.seconds_left())
                stream.check(seen)
                if stream.seconds_left() <= 0:
                    await stream.send(())


class _Stream:
    """One follower and where it is."""

    def __init__(self, asked: FollowQuery, send: Send, windows_: "_Windows", position: int) -> None:
        self._asked = asked
        self._send = send
        self._windows = windows_
        self._position = position
        self._note = ""
        self._now = asyncio.get_running_loop().time
        self._sent_at = self._now()

    def check(self, seen: Seen) -> None:
        """Raise PositionOutOfRange when the ledger ends before what was passed already."""
        if self._position > seen.next_index:
            raise PositionOutOfRange(position=self._position, size=seen.next_index)

    def seconds_left(self) -> float:
        """Return the seconds until a message is due."""
        return self._sent_at + HEARTBEAT_S - self._now()

    async def catch_up(self, seen: Seen) -> None:
        """Send everything that was there when `seen` was."""
        end = seen.signed_index if self._asked.only_signed else seen.next_index
        while self._position < end:
            leaves = Leaves(self._position, min(end, self._position + WINDOW))
            batch = await self._windows.read(self._asked.wanted, leaves)
            self._position = batch.next_index
            checkpoint = self._checkpoint(seen)
            if batch.entries or checkpoint or self.seconds_left() <= 0:
                await self.send(batch.entries, checkpoint)
        if checkpoint := self._checkpoint(seen):
            await self.send((), checkpoint)

    def _checkpoint(self, seen: Seen) -> StoredCheckpoint | None:
        """Return the newest checkpoint if all that it covers was looked at, and it is news."""
        signed = seen.signed
        is_due = signed is not None and signed.size <= self._position and signed.note != self._note
        return signed if is_due else None

    async def send(
        self, entries: Sequence[Any], checkpoint: StoredCheckpoint | None = None
    ) -> None:
        """Send entries up to the position; returns when there is room for more."""
        await self._send(Batch(entries, self._position, checkpoint))
        self._sent_at = self._now()
        if checkpoint is not None:
            self._note = checkpoint.note


_Key = tuple[bytes, Leaves]


@dataclass(frozen=True, slots=True)
class _Reading:
    """A window that is being read, or was a moment ago."""

    began_at: float
    batch: asyncio.Task[Batch]

    def is_fresh(self) -> bool:
        age = asyncio.get_running_loop().time() - self.began_at
        failed = self.batch.done() and (self.batch.cancelled() or self.batch.exception())
        return age < SHARED_S and not failed


class _Windows:
    """Reads windows, each once for all who want it at the same time."""

    def __init__(self, database: Database, render: Render) -> None:
        self._database = database
        self._render = render
        self._reads = asyncio.Semaphore(READS_AT_ONCE)
        self._shared: OrderedDict[_Key, _Reading] = OrderedDict()

    async def read(self, wanted: Filter, leaves: Leaves) -> Batch:
        """Return the first matching entries of a range, and how far they reach."""
        key = wanted.encoded(), leaves
        reading = self._shared.get(key)
        if reading is None or not reading.is_fresh():
            began_at = asyncio.get_running_loop().time()
            task = asyncio.create_task(self._read(wanted, leaves), name="audit window")
            reading = self._shared[key] = _Reading(began_at, task)
            self._shared.move_to_end(key)
            if len(self._shared) > SHARED_WINDOWS:
                self._shared.popitem(last=False)
        # Shielded: one follower that goes away must not take the window from the others.
        return await asyncio.shield(reading.batch)

    async def close(self) -> None:
        """Wait for what is being read; nobody wants it any more."""
        await asyncio.gather(
            *(reading.batch for reading in self._shared.values()), return_exceptions=True
        )

    async def _read(self, wanted: Filter, leaves: Leaves) -> Batch:
        """Read a window again until no month of it was dropped meanwhile.

        A snapshot knows nothing of a table that is dropped: its rows would be passed in silence.
        """
        async with self._reads:
            while True:
                async with self._database.snapshot() as tx:
                    kept = await _not_retired(tx, leaves)
                    batch = await self._entries(tx, wanted, kept)
                async with self._database.statements() as tx:
                    if await _not_retired(tx, leaves) == kept:
                        return batch

    async def _entries(self, tx: AsyncConnection, wanted: Filter, leaves: Leaves) -> Batch:
        found: list[Any] = []
        size = 0
        async for row in windows.entries(tx, wanted, leaves, LARGEST_BATCH):
            entry = self._render(row)
            size += entry.ByteSize()
            if found and size > BATCH_BYTES:
                return Batch(found, row.leaf_index)
            found.append(entry)
            last = row.leaf_index
        is_full = len(found) == LARGEST_BATCH
        return Batch(found, last + 1 if is_full else leaves.end)


async def _not_retired(tx: AsyncConnection, leaves: Leaves) -> Leaves:
    """Return the leaves up to the first that was retired; raises EntryRetired when all were."""
    retired = await windows.first_retirement(tx, leaves)
    if retired is None:
        return leaves
    if retired.first_index <= leaves.first:
        raise EntryRetired(
            position=leaves.first, retired_by=retired.leaf_index, next_index=retired.end_index
        )
    return Leaves(leaves.first, retired.first_index)
