"""Checkpoints, proofs and tiles for whoever checks the ledger from outside."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from services.audit.rules.tiles import (
    TileKey,
    TileTooShort,
    hash_of,
    hashes_of,
    leaves_needed,
    tile_of,
    tiles_of,
)
from services.audit.signing.integrator import Integrator
from services.audit.store import trees
from services.audit.store.trees import StoredCheckpoint
from shared.db.engine import Database
from shared.errors import PositionOutOfRange
from shared.merkle.tree import HASH_BYTES, Node, Span, consistency_spans, inclusion_spans


@dataclass(frozen=True, slots=True)
class Inclusion:
    """The proof of a leaf in the tree of `size` leaves; `note` is "" when none was signed."""

    leaf_index: int
    leaf_hash: bytes
    size: int
    hashes: Sequence[bytes]
    note: str


@dataclass(frozen=True, slots=True)
class Consistency:
    """The proof that the tree of `new` leaves begins with that of `old` ones, and their notes."""

    old: int
    new: int
    hashes: Sequence[bytes]
    old_note: str
    new_note: str


class Proofs:
    """Makes proofs from the tiles, for trees that a signed checkpoint covers."""

    def __init__(self, database: Database, integrator: Integrator) -> None:
        """Take a database under the reader's role, and who makes checkpoints."""
        self._database = database
        self._integrator = integrator

    async def newest(self) -> StoredCheckpoint:
        """Return the newest checkpoint; waits for the very first one. Raises SigningStopped."""
        await self._integrator.covering(0)
        async with self._database.snapshot() as tx:
            return await _newest(tx)

    async def inclusion(self, leaf_index: int, size: int = 0) -> Inclusion:
        """Prove an entry in the tree of `size`, or of the newest checkpoint when that is 0.

        Waits until a checkpoint covers it. Raises PositionOutOfRange and SigningStopped.
        """
        if size and leaf_index >= size:
            raise PositionOutOfRange(position=leaf_index, size=size)
        await self._covered(size or leaf_index + 1)
        leaf = Node(0, leaf_index)
        known = self._integrator.newest
        # Checkpoints stay and tiles only grow: the statements need no common state.
        async with self._database.statements() as tx:
            if known is not None and size in {0, known.size} and leaf_index < known.size:
                size, note = known.size, known.note
            else:
                size, note = await _size_and_note(tx, size)
            spans = inclusion_spans(leaf_index, size)
            tiles = await trees.tiles(tx, {tile_of(leaf), *tiles_of(spans)})
        return Inclusion(leaf_index, hash_of(leaf, tiles), size, hashes_of(spans, tiles), note)

    async def consistency(self, old: int, new: int = 0) -> Consistency:
        """Prove that the tree of `new`, or of the newest checkpoint when 0, begins with `old`.

        Waits until a checkpoint covers both. Raises PositionOutOfRange and SigningStopped.
        """
        await self._covered(max(old, new))
        async with self._database.snapshot() as tx:
            new, new_note = await _size_and_note(tx, new)
            old_one = await trees.checkpoint_at(tx, old)
            spans: list[Span] = consistency_spans(old, new)
            tiles = await trees.tiles(tx, tiles_of(spans))
        note = old_one.note if old_one else ""
        return Consistency(old, new, hashes_of(spans, tiles), note, new_note)

    async def tile(self, key: TileKey, width: int) -> bytes:
        """Return the first `width` hashes of a tile, once a checkpoint covers them.

        Raises PositionOutOfRange and SigningStopped.
        """
        await self._covered(leaves_needed(key, width))
        async with self._database.snapshot() as tx:
            content = (await trees.tiles(tx, {key})).get(key, b"")
        if len(content) < width * HASH_BYTES:
            raise TileTooShort(key)
        return content[: width * HASH_BYTES]

    async def _covered(self, size: int) -> None:
        if size <= self._integrator.covered:
            return
        async with self._database.snapshot() as tx:
            head = await trees.head(tx)
        if size > head.next_index:
            raise PositionOutOfRange(position=size - 1, size=head.next_index)
        await self._integrator.covering(size)


async def _size_and_note(tx: AsyncConnection, size: int) -> tuple[int, str]:
    """Return the size of a tree, the newest for 0, and its signed note if there is one."""
    if not size:
        newest = await _newest(tx)
        return newest.size, newest.note
    found = await trees.checkpoint_at(tx, size)
    return size, found.note if found else ""


async def _newest(tx: AsyncConnection) -> StoredCheckpoint:
    newest = await trees.newest_checkpoint(tx)
    if newest is None:  # there was one a moment ago
        raise PositionOutOfRange(position=0, size=0)
    return newest
