"""The verification of the whole ledger: fields → digest → leaf → tiles → root → signature.

It stops at the first position that does not match. What is read is pinned to the size that the
ledger had at the start; entries do not change, so appending goes on meanwhile.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from services.audit.checkpoint_file import CheckpointFile, CheckpointFileInvalid
from services.audit.integrator import Integrator
from services.audit.rules.checkpoint import Checkpoint, opened
from services.audit.rules.merkle import EMPTY_ROOT
from services.audit.rules.note import NoteInvalid, Verifier
from services.audit.rules.recheck import EntryDiffers, recomputed_leaf
from services.audit.rules.replay import Mismatch, Replay, Root
from services.audit.store import trees
from services.audit.store.appending import driver_connection
from services.audit.store.trees import StoredCheckpoint
from shared.db.engine import Database
from shared.errors import FieldViolation, SigningStopped, ValidationFailed

ROWS_AT_ONCE = 2_000
# Other calls get their turn after this many entries.
BETWEEN_TURNS = 50
WAITING_S = 5.0
_UNREADABLE = (asyncpg.DataError, asyncpg.InternalClientError, ValueError, OverflowError)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a verification is: entries verified, and how many there and covered by signature.

    The last one is `complete`, with the mismatch if there is one.
    """

    verified: int
    entries: int
    signed: int
    complete: bool = False
    mismatch: Mismatch | None = None


@dataclass(slots=True)
class _Pinned:
    """The ledger at the start of a verification, and what it is held against."""

    entries: int
    stored: StoredCheckpoint | None
    lowest: int | None
    highest: int | None
    known: list[Root] = field(default_factory=list)

    @property
    def signed(self) -> int:
        return self.stored.size if self.stored else 0


class Verification:
    """Verifies the ledger, for one caller at a time."""

    def __init__(
        self,
        database: Database,
        integrator: Integrator,
        verifier: Verifier,
        published: CheckpointFile,
    ) -> None:
        """Take a database under the reader's role, the public key, and the file outside."""
        self._database = database
        self._integrator = integrator
        self._verifier = verifier
        self._published = published
        self._one_at_a_time = asyncio.Lock()

    async def run(self, known: str = "") -> AsyncIterator[Progress]:
        """Verify all entries, also against a note that the caller has kept.

        Raises ValidationFailed when that is no checkpoint of this ledger's key.
        """
        kept = [self._kept(known)] if known else []
        async with self._one_at_a_time:
            pinned = await self._pin()
            pinned.known += kept
            mismatch = await self._outside(pinned) or _below(pinned)
            done = 0
            replay = Replay(pinned.signed)
            while mismatch is None and done < pinned.entries:
                end = min(done + ROWS_AT_ONCE, pinned.entries)
                mismatch = await self._window(pinned, replay, done, end)
                done = end if mismatch is None else max(done, min(mismatch.first, end))
                yield Progress(done, pinned.entries, pinned.signed)
            mismatch = mismatch or _beyond(pinned)
            yield Progress(done, pinned.entries, pinned.signed, complete=True, mismatch=mismatch)

    def _kept(self, note: str) -> Root:
        try:
            checkpoint = opened(note, self._verifier)
        except NoteInvalid as error:
            violation = FieldViolation("known_checkpoint", f"is not one of this ledger: {error}")
            raise ValidationFailed(
                count=1, first=f"known_checkpoint {violation.description}", fields=(violation,)
            ) from error
        return _root(checkpoint, "that you have kept")

    async def _pin(self) -> _Pinned:
        async with self._database.snapshot() as tx:
            size = (await trees.head(tx)).next_index
        # So that as much as possible is held against a signature.
        with suppress(SigningStopped, TimeoutError):
            await asyncio.wait_for(self._integrator.covering(size), WAITING_S)
        async with self._database.snapshot() as tx:
            head = await trees.head(tx)
            stored = await trees.newest_checkpoint(tx)
            lowest, highest = await trees.ends(tx)
            return _Pinned(head.next_index, stored, lowest, highest)

    async def _outside(self, pinned: _Pinned) -> Mismatch | None:
        """Add what was published outside; anything the matter with the file is a mismatch."""
        try:
            published = await asyncio.to_thread(self._published.newest, self._verifier)
        except CheckpointFileInvalid as error:
            return Mismatch(0, str(error))
        if published is not None:
            pinned.known.append(_root(published, "published outside the database"))
        return None

    async def _window(
        self, pinned: _Pinned, replay: Replay, first: int, end: int
    ) -> Mismatch | None:
        leaves, differing = await self._leaves(first, end)
        signed = min(first + len(leaves), pinned.signed)
        async with self._database.snapshot() as tx:
            roots = [self._signed(row) for row in await self._checkpoints(tx, first, signed)]
            roots += [root for root in pinned.known if first < root.size <= first + len(leaves)]
            found = replay.add(leaves, sorted(roots))
            tiles = await trees.tiles(tx, replay.changed.keys())
        return min(filter(None, (found, replay.compare(tiles), differing)), default=None)

    async def _checkpoints(self, tx: Any, first: int, end: int) -> list[StoredCheckpoint]:  # noqa: ANN401
        above = first or -1
        found = await trees.checkpoints(tx, above=above, limit=max(0, end - above))
        return [row for row in found if row.size <= end]

    def _signed(self, row: StoredCheckpoint) -> Root:
        """Return what a stored checkpoint says; one that was not signed so cannot match."""
        label = "stored"
        try:
            checkpoint = opened(row.note, self._verifier)
        except NoteInvalid as error:
            return Root(row.size, b"", f"{label} ({error})")
        if (checkpoint.size, checkpoint.root) != (row.size, row.root):
            return Root(row.size, b"", f"{label}, which is not what was signed")
        return Root(row.size, row.root, label)

    async def _leaves(self, first: int, end: int) -> tuple[list[bytes], Mismatch | None]:
        """Return the recomputed leaves of a range, up to the first that differs, and that one."""
        leaves: list[bytes] = []
        rows = await self._rows(first, end)
        if rows is None:
            return leaves, Mismatch(first, f"The entry at {first} cannot be read.")
        for row in rows:
            expected = first + len(leaves)
            if row["leaf_index"] != expected:
                return leaves, _misplaced(row["leaf_index"], expected)
            try:
                leaves.append(recomputed_leaf(dict(row)))
            except EntryDiffers as error:
                return leaves, Mismatch(expected, f"The entry at {expected} was changed: {error}.")
            if len(leaves) % BETWEEN_TURNS == 0:
                await asyncio.sleep(0)
        if len(leaves) < end - first:
            return leaves, _misplaced(end, first + len(leaves))
        return leaves, None

    async def _rows(self, first: int, end: int) -> Sequence[asyncpg.Record] | None:
        """Return the rows of a range up to the first that cannot be read; None if it is that."""
        try:
            async with driver_connection(self._database.engine) as driver:
                return await trees.rows(driver, first, end)
        except _UNREADABLE:
            if end - first == 1:
                return None
        middle = (first + end) // 2
        left = await self._rows(first, middle)
        if left is None or len(left) < middle - first:
            return left
        right = await self._rows(middle, end)
        return [*left, *(right or ())]


def _root(checkpoint: Checkpoint, label: str) -> Root:
    return Root(checkpoint.size, checkpoint.root, label)


def _misplaced(found: int, expected: int) -> Mismatch:
    if found < expected:
        return Mismatch(found, f"There is more than one entry at {found}.")
    return Mismatch(expected, f"The entry at {expected} is missing.")


def _below(pinned: _Pinned) -> Mismatch | None:
    """Find what is there before the first entry, or was signed of an empty ledger."""
    if pinned.lowest is not None and pinned.lowest < 0:
        return Mismatch(pinned.lowest, f"There is an entry at {pinned.lowest}.")
    wrong = [root for root in pinned.known if root.size == 0 and root.root != EMPTY_ROOT]
    return Mismatch(0, wrong[0].problem) if wrong else None


def _beyond(pinned: _Pinned) -> Mismatch | None:
    """Find what is there after the last entry, or what was there once."""
    entries = pinned.entries
    longest = max(pinned.known, default=Root(0, b"", ""))
    if longest.size > entries:
        return Mismatch(
            entries,
            f"The ledger ends at {entries}, but the checkpoint {longest.label} covers"
            f" {longest.size} entries.",
        )
    if pinned.signed > entries:
        return Mismatch(
            entries, f"The ledger ends at {entries}, but {pinned.signed} entries were signed."
        )
    if pinned.highest is not None and pinned.highest >= entries:
        return Mismatch(entries, f"There is an entry at {pinned.highest}, beyond the end.")
    return None
