"""Leaves that were computed anew, held against the stored tree and the signed roots.

`WholeTree` builds the tree from all leaves; `PartOfTree` takes those of a range, and of the rest of
the tree only the hashes in between.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from services.audit.checking.close_look import misplaced
from services.audit.checking.rechecking import Window
from services.audit.rules.branches import Branches, lowest_tiles, tiles_between
from services.audit.rules.replay import Mismatch, Replay, Root
from services.audit.rules.tiles import TileTooShort, grown
from services.audit.store import trees
from services.audit.store.trees import StoredCheckpoint
from shared.db.engine import Database

LEAVES_AT_ONCE = 16_384


@dataclass(slots=True)
class Pinned:
    """The ledger at the start of a verification, and what it is held against.

    `known` are roots from outside the database; `said` returns that of a stored checkpoint.
    """

    entries: int
    stored: StoredCheckpoint | None
    lowest: int | None
    highest: int | None
    said: Callable[[StoredCheckpoint], Root]
    known: list[Root] = field(default_factory=list)

    @property
    def signed(self) -> int:
        """How many entries the newest checkpoint covers."""
        return self.stored.size if self.stored else 0


class TreeCheck(Protocol):
    """Takes windows in order."""

    @property
    def held(self) -> int:
        """The size of the largest tree whose root has held so far."""

    async def window(self, window: Window) -> Mismatch | None:
        """Return the first thing in or about a window that does not match."""

    def end(self) -> Mismatch | None:
        """Return what does not match in the rest."""


class WholeTree:
    """All leaves: the tree is built anew and compared with every tile and every checkpoint."""

    def __init__(self, database: Database, pinned: Pinned) -> None:
        """Begin with the empty tree."""
        self._database = database
        self._pinned = pinned
        self._replay = Replay(pinned.signed)

    @property
    def held(self) -> int:
        """The size of the largest tree whose root has held so far."""
        return self._replay.held

    async def window(self, window: Window) -> Mismatch | None:
        """Add the leaves of a window."""
        first, end = window.first, window.first + len(window.leaves)
        async with self._database.snapshot() as tx:
            signed = min(end, self._pinned.signed)
            above = first or -1
            rows = await trees.checkpoints(tx, above=above, limit=max(0, signed - above))
            roots = [self._pinned.said(row) for row in rows if row.size <= signed]
            roots += [root for root in self._pinned.known if first < root.size <= end]
            found = self._replay.add(window.leaves, sorted(roots))
            tiles = await trees.tiles(tx, self._replay.changed.keys())
        return _first(found, self._replay.compare(tiles), window.mismatch)

    def end(self) -> Mismatch | None:
        """Return nothing: it was all in the windows."""
        return None


class PartOfTree:
    """The leaves of a range: held against their tiles, and these against the newest roots."""

    def __init__(
        self,
        database: Database,
        branches: Branches | None,
        problem: Mismatch | None,
        held: int = 0,
    ) -> None:
        """Take what `part_of_tree` made; a problem of the tree is told after those of leaves."""
        self.held = held
        self._database = database
        self._branches = branches
        self._problem = problem

    async def window(self, window: Window) -> Mismatch | None:
        """Hold the leaves of a window against the tree."""
        first, end = window.first, window.first + len(window.leaves)
        if self._branches is None or first == end:
            return window.mismatch
        async with self._database.snapshot() as tx:
            tiles = await trees.tiles(tx, lowest_tiles(first, end))
        return _first(self._branches.wrong_leaf(first, window.leaves, tiles), window.mismatch)

    def end(self) -> Mismatch | None:
        """Return what was the matter between the range and the roots."""
        return self._problem


async def part_of_tree(database: Database, pinned: Pinned, first: int, end: int) -> PartOfTree:
    """Read the hashes between a range and the newest roots."""
    roots = [root for root in pinned.known if 0 < root.size <= pinned.entries]
    if pinned.stored is not None and 0 < pinned.signed <= pinned.entries:
        roots.append(pinned.said(pinned.stored))
    size = max((root.size for root in roots), default=0)
    signed = min(pinned.signed, size)
    sizes = {signed, *(root.size for root in roots)}
    async with database.snapshot() as tx:
        tiles = await trees.tiles(tx, tiles_between(first, end, sizes))
        # What was known outside may be more than what is stored.
        while signed < size:
            stop = min(size, signed + LEAVES_AT_ONCE)
            rows = await trees.leaves(tx, signed, stop)
            for expected, (index, _leaf) in enumerate([*rows, (stop, b"")], signed):
                if index != expected:
                    return PartOfTree(database, None, misplaced(index, expected))
            try:
                tiles |= grown(tiles, signed, [leaf for _index, leaf in rows])
            except TileTooShort as error:
                return PartOfTree(database, None, Mismatch(0, f"The {error}."))
            signed = stop
    branches = Branches(first, end, size, tiles)
    problem = branches.wrong_root(roots)
    return PartOfTree(database, branches, problem, held=0 if problem else size)


def _first(*found: Mismatch | None) -> Mismatch | None:
    return min(filter(None, found), default=None)
