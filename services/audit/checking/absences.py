"""What is missing from the ledger, held against the entries that say so.

A field may be missing where a later entry orders that, a whole month where one announced it. These
entries are entries of the ledger like all others, at a position of their own: what proves them is
their leaf, which the tree has.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg

from services.audit.rules import redaction, retirement
from services.audit.rules.ranges import subtrees
from services.audit.rules.recheck import EntryDiffers, recomputed_leaf
from services.audit.rules.redaction import Erased
from services.audit.rules.replay import Mismatch
from services.audit.rules.tiles import (
    WIDTH,
    TileKey,
    TileTooShort,
    hash_of,
    hashes_in,
    tile_of,
)
from services.audit.store import retention, trees
from services.audit.store.appending import driver_connection
from services.audit.store.retention import Retirement
from shared.db.engine import Database
from shared.merkle.tree import Node, Span

_UNREADABLE = (asyncpg.DataError, asyncpg.InternalClientError, ValueError, OverflowError)
Row = Mapping[str, Any]


class Absences:
    """Judges what is missing, for one verification."""

    def __init__(self, database: Database) -> None:
        """Take a database under the reader's role."""
        self._database = database
        self._announced: dict[Span, bool] = {}

    async def problem_of(self, row: Row, missing: Erased) -> str | None:
        """Return what is wrong with the erased fields of an entry that matches its leaf."""
        order = await self.entry(missing.leaf)
        if order is not None and redaction.is_ordered(row, missing, order):
            return None
        fields = ", ".join(missing.fields)
        return f"{fields} were erased, and no entry at {missing.leaf} orders that"

    async def not_done(self, position: int) -> Mismatch | None:
        """Return what is wrong with the entry that the one at `position` says was redacted.

        Fields that were erased must not come back. An entry that is gone is another matter.
        """
        try:
            order = await self._stored(position)
            ordered = None if order is None else redaction.orders(order)
            row = None if ordered is None else await self._stored(ordered[0])
            missing = None if row is None else redaction.erased(row["redactions"])
        except _UNREADABLE:
            return None  # found where the entry itself is looked at
        if ordered is None or row is None:
            return None
        target, fields = ordered
        if missing is not None and fields <= missing.commitments.keys():
            return None
        said = f"as the entry at {position} says"
        return Mismatch(target, f"The entry at {target} has fields that were erased, {said}.")

    async def standing_in(self, first: int, end: int) -> Sequence[bytes]:
        """Return the leaves that the tree has of retired entries from `first` on, at most to `end`.

        None when the entry at `first` is not one of a month that was announced and is gone as a
        whole.
        """
        async with self._database.snapshot() as tx:
            found = await retention.retirement_of(tx, first)
        if found is None or not await self._is_gone(found):
            return ()
        return await self._leaves(Span(first, min(end, found.span.end)))

    async def _is_gone(self, found: Retirement) -> bool:
        if found.span not in self._announced:
            self._announced[found.span] = await self._is_announced(found)
        if not self._announced[found.span]:
            return False
        async with driver_connection(self._database.engine) as driver:
            return await retention.is_empty(driver, found.span)

    async def _is_announced(self, found: Retirement) -> bool:
        nodes = subtrees(found.span)
        async with self._database.snapshot() as tx:
            tiles = await trees.tiles(tx, {tile_of(node) for node in nodes})
        try:
            hashes = [hash_of(node, tiles) for node in nodes]
        except TileTooShort:
            return False
        entry = await self.entry(found.leaf_index)
        return entry is not None and retirement.is_announced(entry, found.month, found.span, hashes)

    async def entry(self, position: int) -> Row | None:
        """Return the entry at a position if it matches its leaf, and that the one of the tree.

        An entry that the tree does not have yet is held against its own leaf only; not so one that
        was kept of a dropped month, which the tree has.
        """
        try:
            row = await self._stored(position)
            if row is None:
                return None
            leaf = recomputed_leaf(row)
        except (*_UNREADABLE, EntryDiffers):
            return None
        node = Node(0, position)
        async with self._database.snapshot() as tx:
            tiles = await trees.tiles(tx, {tile_of(node)})
        try:
            return row if hash_of(node, tiles) == leaf else None
        except TileTooShort:
            async with driver_connection(self._database.engine) as driver:
                return row if await trees.rows(driver, position, position + 1) else None

    async def _stored(self, position: int) -> Row | None:
        async with driver_connection(self._database.engine) as driver:
            found = await retention.entry_at(driver, position)
        return None if found is None else dict(found)

    async def _leaves(self, span: Span) -> list[bytes]:
        keys = [
            TileKey(0, place) for place in range(span.first // WIDTH, (span.end - 1) // WIDTH + 1)
        ]
        async with self._database.snapshot() as tx:
            tiles = await trees.tiles(tx, keys)
        leaves: list[bytes] = []
        for key in keys:
            first = key.place * WIDTH
            held = hashes_in(tiles.get(key, b""))
            wanted = held[max(span.first - first, 0) : span.end - first]
            leaves += wanted
            if len(held) < min(WIDTH, span.end - first):
                break
        return leaves
