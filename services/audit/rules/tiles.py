"""Tiles: the stored form of the tree, as in C2SP tlog-tiles.

`TileKey(level, place)` holds up to 256 hashes of the nodes at tree level `8 * level`, those from
`256 * place` on, one after another. A full tile never changes; its root is one hash of the level
above. So the tree of n leaves is about n / 255 tiles of 8 KiB, and any proof touches one tile for
each 8 levels.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from shared.merkle.tree import (
    HASH_BYTES,
    Node,
    Span,
    nodes_of,
    span_hash,
    whole_hash,
)

HEIGHT = 8
WIDTH = 1 << HEIGHT
# Tiles of this level and above cannot exist: a leaf index has 63 bits.
LEVELS = 8
FULL_BYTES = WIDTH * HASH_BYTES


class TileKey(NamedTuple):
    """The name of a tile."""

    level: int
    place: int


Tiles = Mapping[TileKey, bytes]


class TileTooShort(Exception):
    """A tile is missing or holds fewer hashes than the tree of that size has."""

    def __init__(self, key: TileKey) -> None:
        """Name the tile."""
        self.key = key
        super().__init__(f"tile {key.level}/{key.place} is missing or too short")


def tile_of(node: Node) -> TileKey:
    """Return the tile whose hashes give the hash of a node."""
    level, rest = divmod(node.level, HEIGHT)
    return TileKey(level, (node.place << rest) // WIDTH)


def hash_of(node: Node, tiles: Tiles) -> bytes:
    """Return the hash of a node; raises TileTooShort."""
    key = tile_of(node)
    rest = node.level % HEIGHT
    first = (node.place << rest) % WIDTH
    start, end = first * HASH_BYTES, (first + (1 << rest)) * HASH_BYTES
    content = tiles.get(key, b"")[start:end]
    if len(content) < end - start:
        raise TileTooShort(key)
    return whole_hash(hashes_in(content))


def hashes_in(content: bytes) -> list[bytes]:
    """Return the hashes of a tile, one by one."""
    return [content[at : at + HASH_BYTES] for at in range(0, len(content), HASH_BYTES)]


def tiles_of(spans: Iterable[Span]) -> set[TileKey]:
    """Return the tiles that hold what the spans are hashed from."""
    return {tile_of(node) for span in spans for node in nodes_of(span)}


def hashes_of(spans: Sequence[Span], tiles: Tiles) -> list[bytes]:
    """Return the hash of each span, which makes a proof; raises TileTooShort."""
    return [span_hash(span, lambda node: hash_of(node, tiles)) for span in spans]


def root_of(size: int, tiles: Tiles) -> bytes:
    """Return the root of the first `size` leaves; raises TileTooShort."""
    return span_hash(Span(0, size), lambda node: hash_of(node, tiles))


def edge_of(size: int) -> set[TileKey]:
    """Return the partial tiles of a tree: what its root is made from and what grows next."""
    keys = set()
    for level in range(LEVELS):
        held = size >> (HEIGHT * level)
        if held % WIDTH:
            keys.add(TileKey(level, held // WIDTH))
    return keys


def leaves_needed(key: TileKey, width: int) -> int:
    """Return the smallest tree that has the first `width` hashes of a tile."""
    return (key.place * WIDTH + width) << (HEIGHT * key.level)


def grown(tiles: Tiles, size: int, leaves: Sequence[bytes]) -> dict[TileKey, bytes]:
    """Append leaves to the tree of `size` leaves; return the tiles that are new or longer.

    `tiles` must hold those of `edge_of(size)`; raises TileTooShort. What they hold beyond `size`
    is left out.
    """
    changed: dict[TileKey, bytes] = {}
    first, hashes = size, list(leaves)
    level = 0
    while hashes:
        parents = []
        done = 0
        while done < len(hashes):
            key = TileKey(level, (first + done) // WIDTH)
            held = (first + done) % WIDTH
            before = tiles.get(key, b"")[: held * HASH_BYTES] if held else b""
            if len(before) < held * HASH_BYTES:
                raise TileTooShort(key)
            added = hashes[done : done + WIDTH - held]
            changed[key] = content = before + b"".join(added)
            if len(content) == FULL_BYTES:
                parents.append(whole_hash(hashes_in(content)))
            done += len(added)
        level, first, hashes = level + 1, first // WIDTH, parents
    return changed
