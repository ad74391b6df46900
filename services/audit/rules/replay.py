"""The tree built anew, step by step, and held against stored tiles and signed roots."""

from collections.abc import Sequence
from typing import NamedTuple

from services.audit.rules.tiles import TileKey, Tiles, edge_of, grown, leaves_needed, root_of
from shared.merkle.tree import HASH_BYTES


class Root(NamedTuple):
    """The root that a tree of `size` leaves must have; `label` says by which checkpoint."""

    size: int
    root: bytes
    label: str

    @property
    def problem(self) -> str:
        """What to say when it has another one."""
        return f"The first {self.size} entries do not have the root of the checkpoint {self.label}."


class Mismatch(NamedTuple):
    """The first position that does not match, and what is the matter, as a sentence."""

    first: int
    problem: str


class Replay:
    """A tree that grows from the first leaf on; tiles are compared up to `signed` leaves."""

    def __init__(self, signed: int) -> None:
        """Begin with the empty tree."""
        self._signed = signed
        self._size = 0
        # The size of the largest tree whose root held.
        self.held = 0
        self._edge: dict[TileKey, bytes] = {}
        # The tiles that the last leaves have changed, as far as signed trees need them.
        self.changed: dict[TileKey, bytes] = {}

    def add(self, leaves: Sequence[bytes], roots: Sequence[Root]) -> Mismatch | None:
        """Append leaves; return the first of `roots`, in order of size, that does not hold."""
        start, end = self._size, self._size + len(leaves)
        self.changed = {}
        wrong = None
        stops = sorted({*(root.size for root in roots), min(max(self._signed, start), end), end})
        for stop in stops:
            grew = grown(self._edge, self._size, leaves[self._size - start : stop - start])
            if stop <= self._signed:
                self.changed |= grew
            tiles = self._edge | grew
            self._edge = {key: tiles[key] for key in edge_of(stop)}
            self._size = stop
            due = [root for root in roots if root.size == stop]
            broken = [root for root in due if root_of(stop, self._edge) != root.root]
            if broken and wrong is None:
                wrong = Mismatch(self.held, broken[0].problem)
            elif due and not broken:
                self.held = stop
        return wrong

    def compare(self, stored: Tiles) -> Mismatch | None:
        """Return the first stored hash that is not the one of the tree, in tiles of `changed`.

        A hash of a higher level differs with each leaf below it, and only the leaf is of interest.
        """
        differing = [
            (leaves_needed(key, place), leaves_needed(key, place + 1), key)
            for key, content in self.changed.items()
            if (place := _differs_at(content, stored.get(key, b""))) is not None
        ]
        leaves = [first for first, _end, key in differing if key.level == 0]
        return min(
            (
                Mismatch(first, f"The tile {key.level}/{key.place} was changed.")
                for first, end, key in differing
                if key.level == 0 or not any(first <= leaf < end for leaf in leaves)
            ),
            default=None,
        )


def _differs_at(content: bytes, stored: bytes) -> int | None:
    """Return the number of the first hash that is not stored so, None when all are."""
    if stored.startswith(content):
        return None
    at = 0
    while content[at : at + HASH_BYTES] == stored[at : at + HASH_BYTES]:
        at += HASH_BYTES
    return at // HASH_BYTES
