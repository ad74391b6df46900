"""A range of leaves held against the roots: sound at every border, and no tampering gets past."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.audit.rules.branches import Branches, lowest_tiles, tiles_between
from services.audit.rules.replay import Mismatch, Root
from services.audit.rules.tiles import TileKey, Tiles, grown
from tests.unit.audit import trees

LEAVES = trees.leaves(70_000)
BORDERS = [0, 1, 255, 256, 257, 511, 512, 65_535, 65_536, 65_537, 65_792, 69_999]
ROOTS: dict[int, bytes] = {}


def stored(size: int) -> dict[TileKey, bytes]:
    return grown({}, 0, LEAVES[:size])


ALL = stored(70_000)


def root(size: int) -> Root:
    if size not in ROOTS:
        ROOTS[size] = trees.root(LEAVES[:size])
    return Root(size, ROOTS[size], f"of {size}")


def found(
    first: int, end: int, tiles: Tiles, roots: list[Root], leaves: list[bytes] | None = None
) -> Mismatch | None:
    sizes = [one.size for one in roots]
    needed = {key: tiles[key] for key in tiles_between(first, end, sizes) if key in tiles}
    branches = Branches(first, end, max(sizes), needed)
    lowest = {key: tiles[key] for key in lowest_tiles(first, end) if key in tiles}
    wrong = branches.wrong_leaf(first, leaves or LEAVES[first:end], lowest)
    return wrong or branches.wrong_root(roots)


@pytest.mark.parametrize("first", BORDERS[:-1])
def test_every_range_between_borders_holds(first: int) -> None:
    for end in BORDERS:
        if end > first:
            for sizes in ([70_000], [end, 70_000], [first + 1, 300, 65_536, 70_000]):
                assert found(first, end, ALL, [root(size) for size in sizes]) is None, (end, sizes)


@pytest.mark.parametrize("size", [1, 2, 255, 256, 257, 600])
def test_small_trees_hold_in_every_range(size: int) -> None:
    tiles = stored(size)
    for first in range(0, size, 1 if size < 9 else 51):
        for end in {first + 1, (first + size + 1) // 2, size}:
            if end > first:
                assert found(first, end, tiles, [root(size)]) is None


def test_a_tile_that_grew_since_the_root_was_signed_still_holds() -> None:
    assert found(100, 200, stored(600), [root(300)]) is None


@settings(deadline=None)
@given(st.data())
def test_a_flipped_bit_between_leaf_and_root_is_found(data: st.DataObject) -> None:
    first = data.draw(st.sampled_from(BORDERS[:-1]))
    end = data.draw(st.sampled_from([border for border in BORDERS if border > first]))
    between = sorted(tiles_between(first, end, [70_000]) | set(lowest_tiles(first, end)))
    key = data.draw(st.sampled_from([key for key in between if key in ALL]))
    at = data.draw(st.integers(0, len(ALL[key]) - 1))
    changed = bytearray(ALL[key])
    changed[at] ^= 1 << data.draw(st.integers(0, 7))
    wrong = found(first, end, ALL | {key: bytes(changed)}, [root(70_000)])
    assert wrong is not None


@pytest.mark.parametrize("index", [1_000, 1_023, 1_024, 65_536])
def test_another_leaf_is_named_where_it_is(index: int) -> None:
    leaves = LEAVES[1_000:65_600]
    leaves[index - 1_000] = b"\x07" * 32
    wrong = found(1_000, 65_600, ALL, [root(70_000)], leaves)
    assert wrong == Mismatch(index, f"The tile 0/{index // 256} was changed.")


def test_a_tile_rewritten_with_the_leaf_contradicts_the_one_above() -> None:
    leaves = LEAVES[:1_000]
    leaves[300] = b"\x07" * 32
    tiles = ALL | {TileKey(0, 1): b"".join(leaves[256:512])}
    wrong = found(290, 310, tiles, [root(70_000)], leaves[290:310])
    assert wrong == Mismatch(256, "The tile 0/1 does not have the hash that 1/0 has of it.")


def test_a_tree_rewritten_from_the_leaf_up_contradicts_every_root_signed_before() -> None:
    other = [*LEAVES[:300], b"\x07" * 32, *LEAVES[301:]]
    tiles = grown({}, 0, other)
    own = Root(70_000, trees.root(other), "signed anew")
    assert found(290, 310, tiles, [own], other[290:310]) is None
    for size in (301, 400, 512, 65_536, 66_000):
        assert found(290, 310, tiles, [root(size), own], other[290:310]) == Mismatch(
            0, root(size).problem
        )
    # Also with the tiles of the old root kept where the range does not need them.
    mixed = tiles | {key: ALL[key] for key in tiles_between(0, 1, [66_000]) if key.level == 0}
    assert found(290, 310, mixed, [root(66_000), own], other[290:310]) is not None
    # A root of the time before is none of its business.
    assert found(290, 310, tiles, [root(300), own], other[290:310]) is None


def test_missing_tiles_are_told() -> None:
    for key in tiles_between(290, 310, [70_000]) | set(lowest_tiles(290, 310)):
        if key in ALL:
            without = {one: content for one, content in ALL.items() if one != key}
            assert found(290, 310, without, [root(70_000)]) is not None, key
