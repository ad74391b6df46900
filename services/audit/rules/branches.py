"""The part of the tree between a range of leaves and the signed roots, held together by hashes.

What a tile holds of the leaves of the range must be those leaves, the hash of a full tile must be
the one that the tile above it has, and the topmost ones must have the signed roots. Then nothing of
the range can be other than what was signed, whatever the rest of the stored tree says.
"""

from collections.abc import Iterable, Sequence

from services.audit.rules.replay import Mismatch, Root
from services.audit.rules.tiles import (
    HEIGHT,
    LEVELS,
    WIDTH,
    TileKey,
    Tiles,
    TileTooShort,
    edge_of,
    hashes_in,
    leaves_needed,
    root_of,
)
from shared.merkle.tree import HASH_BYTES, whole_hash


def tiles_between(first: int, end: int, sizes: Iterable[int]) -> set[TileKey]:
    """Return the tiles above the lowest level over a range, and the edges of trees of `sizes`."""
    keys = set().union(*map(edge_of, sizes))
    for level in range(1, LEVELS):
        low, high = first >> HEIGHT * level, (end - 1) >> HEIGHT * level
        keys |= {TileKey(level, place) for place in range(low // WIDTH, high // WIDTH + 1)}
    return keys


def lowest_tiles(first: int, end: int) -> list[TileKey]:
    """Return the tiles that hold the leaves of a range."""
    return [TileKey(0, place) for place in range(first // WIDTH, (end - 1) // WIDTH + 1)]


class Branches:
    """The tiles over the range from `first` to `end` in a tree of `size` leaves."""

    def __init__(self, first: int, end: int, size: int, tiles: Tiles) -> None:
        """Take what is there of the tiles of `tiles_between`."""
        self._first, self._end, self._size = first, min(end, size), size
        self._tiles = tiles

    def wrong_root(self, roots: Iterable[Root]) -> Mismatch | None:
        """Return the smallest of the roots that the tiles do not have.

        Also finds a full tile of the range, above the lowest level, without its place in the next.
        """
        held = 0
        for root in sorted(roots):
            try:
                if root_of(root.size, self._tiles) != root.root:
                    return Mismatch(held, root.problem)
            except TileTooShort as error:
                return _changed(error.key, 0)
            held = root.size
        above = sorted(
            key for key in tiles_between(self._first, self._end, ()) if self._first < self._end
        )
        return next(filter(None, map(self._wrong_link, above)), None)

    def wrong_leaf(self, first: int, leaves: Sequence[bytes], lowest: Tiles) -> Mismatch | None:
        """Return the first of neighbouring leaves of the range that is not in the tree.

        `lowest` are the stored tiles of `lowest_tiles`. Leaves beyond the tree are let pass.
        """
        end = min(first + len(leaves), self._size)
        for key in lowest_tiles(first, end) if first < end else ():
            content = self._tiles.get(key) or lowest.get(key, b"")
            start = key.place * WIDTH
            low, high = max(start, first), min(start + WIDTH, end)
            wrong = _wrong_hash(key, content, low - start, leaves[low - first : high - first])
            wrong = wrong or self._wrong_link(key, content)
            if wrong is not None:
                return wrong
        return None

    def _wrong_link(self, key: TileKey, content: bytes | None = None) -> Mismatch | None:
        """Return what is the matter between a tile and its hash in the one above, if it is full."""
        width = min(WIDTH, (self._size >> HEIGHT * key.level) - key.place * WIDTH)
        if width <= 0:
            return None
        if content is None:
            content = self._tiles.get(key, b"")
        if len(content) < width * HASH_BYTES:
            return _changed(key, len(content) // HASH_BYTES)
        if width < WIDTH or key.level + 1 == LEVELS:
            return None  # the edge of the tree, which the root is made from
        above = TileKey(key.level + 1, key.place // WIDTH)
        at = key.place % WIDTH * HASH_BYTES
        said = self._tiles.get(above, b"")[at : at + HASH_BYTES]
        if whole_hash(hashes_in(content)[:WIDTH]) == said:
            return None
        return Mismatch(
            leaves_needed(key, 0),
            f"The tile {key.level}/{key.place} does not have the hash that"
            f" {above.level}/{above.place} has of it.",
        )


def _wrong_hash(
    key: TileKey, content: bytes, place: int, leaves: Sequence[bytes]
) -> Mismatch | None:
    """Return the first leaf that a tile does not have from `place` on."""
    if content[place * HASH_BYTES :].startswith(b"".join(leaves)):
        return None
    for at, leaf in enumerate(leaves, place):
        if content[at * HASH_BYTES : (at + 1) * HASH_BYTES] != leaf:
            return _changed(key, at)
    return None


def _changed(key: TileKey, place: int) -> Mismatch:
    return Mismatch(leaves_needed(key, place), f"The tile {key.level}/{key.place} was changed.")
