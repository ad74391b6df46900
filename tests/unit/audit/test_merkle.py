"""Trees, tiles and proofs: against RFC 6962, published vectors, and any way of growing."""

import json
import os
from base64 import b64decode
from collections.abc import Sequence
from functools import cache, partial
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.audit.rules.tiles import (
    WIDTH,
    TileKey,
    TileTooShort,
    edge_of,
    grown,
    hash_of,
    hashes_of,
    leaves_needed,
    root_of,
    tiles_of,
)
from shared.merkle.tree import (
    EMPTY_ROOT,
    Node,
    Span,
    consistency_spans,
    inclusion_spans,
    span_hash,
    verify_consistency,
    verify_inclusion,
)
from tests.unit.audit import trees

# The leaves and roots of the reference implementation of Certificate Transparency.
CT_LEAVES = (
    *("", "00", "10", "2021", "3031", "40414243", "5051525354555657"),
    "606162636465666768696a6b6c6d6e6f",
)
CT_ROOTS = (
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)
# Proof vectors of transparency-dev/merkle, one list each; they are not part of this repository.
VECTORS = os.environ.get("MERKLE_VECTORS")
LARGEST = 300


def tree(leaves: Sequence[bytes], sizes: Sequence[int]) -> dict[TileKey, bytes]:
    """Grow a tree from size to size."""
    tiles: dict[TileKey, bytes] = {}
    for first, end in pairwise((0, *sizes)):
        tiles |= grown(tiles, first, leaves[first:end])
    return tiles


@pytest.fixture(scope="module")
def leaves() -> list[bytes]:
    return trees.leaves(LARGEST)


@pytest.fixture(scope="module")
def tiles(leaves: list[bytes]) -> dict[TileKey, bytes]:
    return tree(leaves, [LARGEST])


def test_published_roots() -> None:
    hashes = [sha256(b"\x00" + bytes.fromhex(leaf)).digest() for leaf in CT_LEAVES]
    tiles = tree(hashes, [8])
    assert [root_of(size, tiles).hex() for size in range(1, 9)] == list(CT_ROOTS)
    assert root_of(0, {}) == EMPTY_ROOT


def vectors(name: str) -> list[dict[str, Any]]:
    if VECTORS is None:
        pytest.skip("the vectors of transparency-dev/merkle are not here: set MERKLE_VECTORS")
    found: list[dict[str, Any]] = json.loads(Path(VECTORS, f"merkle-{name}.json").read_text())
    return found


def decoded(vector: dict[str, Any], *names: str) -> list[bytes]:
    return [b64decode(vector[name] or "") for name in names]


def proof_in(vector: dict[str, Any]) -> list[bytes]:
    return [b64decode(one) for one in vector["proof"] or ()]


def test_inclusion_vectors() -> None:
    for vector in vectors("inclusion"):
        leaf, root = decoded(vector, "leafHash", "root")
        holds = verify_inclusion(
            leaf, vector["leafIdx"], vector["treeSize"], proof_in(vector), root
        )
        assert holds is not vector["wantErr"], vector["name"]


def test_consistency_vectors() -> None:
    for vector in vectors("consistency"):
        old_root, new_root = decoded(vector, "root1", "root2")
        holds = verify_consistency(
            vector["size1"], vector["size2"], proof_in(vector), old_root, new_root
        )
        assert holds is not vector["wantErr"], vector["name"]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 3_000), min_size=1, max_size=8))
def test_any_batching_gives_the_same_tiles(sizes: list[int]) -> None:
    sizes.sort()
    leaves = trees.leaves(sizes[-1])
    tiles = tree(leaves, sizes)
    assert tiles == tree(leaves, [sizes[-1]])
    assert root_of(sizes[-1], tiles) == trees.root(leaves)


def test_levels_above_the_first(leaves: list[bytes]) -> None:
    many = trees.leaves(WIDTH * WIDTH + 300)
    tiles = tree(many, [70, WIDTH * WIDTH - 1, WIDTH * WIDTH + 1, len(many)])
    assert max(key.level for key in tiles) == 2
    assert root_of(len(many), tiles) == trees.root(many)
    assert edge_of(len(many)) == {TileKey(0, 257), TileKey(1, 1), TileKey(2, 0)}
    assert leaves_needed(TileKey(1, 1), 1) == WIDTH * WIDTH + WIDTH
    index = 40_000
    spans = inclusion_spans(index, len(many))
    assert len(tiles_of(spans)) <= 5
    assert hashes_of(spans, tiles) == trees.path(index, many)
    assert leaves[3] == many[3]


def test_the_edge_is_all_that_a_tree_grows_from(leaves: list[bytes]) -> None:
    for size in (0, 1, 255, 256, 257, 299):
        tiles = tree(leaves, [size])
        edge = {key: tiles[key] for key in edge_of(size)}
        assert root_of(size, edge) == trees.root(leaves[:size])
        assert tiles | grown(edge, size, leaves[size:]) == tree(leaves, [LARGEST])


def test_all_pairs_of_sizes_prove(leaves: list[bytes], tiles: dict[TileKey, bytes]) -> None:
    node = cache(partial(hash_of, tiles=tiles))  # each is asked for thousands of times
    roots = [span_hash(Span(0, size), node) for size in range(LARGEST + 1)]
    assert roots[LARGEST] == trees.root(leaves)
    for new in range(LARGEST + 1):
        for old in range(new + 1):
            proof = [span_hash(span, node) for span in consistency_spans(old, new)]
            assert verify_consistency(old, new, proof, roots[old], roots[new]), (old, new)
        for index in range(new):
            proof = [span_hash(span, node) for span in inclusion_spans(index, new)]
            assert verify_inclusion(leaves[index], index, new, proof, roots[new]), (index, new)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_proofs_are_those_of_the_definition(data: st.DataObject) -> None:
    new = data.draw(st.integers(1, LARGEST))
    old = data.draw(st.integers(1, new))
    leaves = trees.leaves(new)
    tiles = tree(leaves, [new])
    assert hashes_of(inclusion_spans(old - 1, new), tiles) == trees.path(old - 1, leaves)
    assert hashes_of(consistency_spans(old, new), tiles) == trees.proof(old, leaves)


def flipped(given: bytes, bit: int) -> bytes:
    changed = bytearray(given)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def test_every_flipped_bit_is_found(leaves: list[bytes], tiles: dict[TileKey, bytes]) -> None:
    old, new = 70, 101
    old_root, new_root = root_of(old, tiles), root_of(new, tiles)
    inclusion = hashes_of(inclusion_spans(old, new), tiles)
    consistency = hashes_of(consistency_spans(old, new), tiles)
    for bit in range(256):
        assert not verify_inclusion(flipped(leaves[old], bit), old, new, inclusion, new_root)
        assert not verify_inclusion(leaves[old], old, new, inclusion, flipped(new_root, bit))
        for place, one in enumerate(inclusion):
            proof = [*inclusion[:place], flipped(one, bit), *inclusion[place + 1 :]]
            assert not verify_inclusion(leaves[old], old, new, proof, new_root)
        for place, one in enumerate(consistency):
            proof = [*consistency[:place], flipped(one, bit), *consistency[place + 1 :]]
            assert not verify_consistency(old, new, proof, old_root, new_root)
        for roots in ((flipped(old_root, bit), new_root), (old_root, flipped(new_root, bit))):
            assert not verify_consistency(old, new, consistency, *roots)


@settings(deadline=None)
@given(st.data())
def test_any_flipped_bit_is_found(tiles: dict[TileKey, bytes], data: st.DataObject) -> None:
    """In trees of any size, in whatever a verifier is given."""
    new = data.draw(st.integers(1, LARGEST))
    old = data.draw(st.integers(0, new - 1))
    root, old_root = root_of(new, tiles), root_of(old, tiles)
    leaf = hash_of(Node(0, old), tiles)
    inclusion = [leaf, root, *hashes_of(inclusion_spans(old, new), tiles)]
    consistency = [old_root, root, *hashes_of(consistency_spans(old, new), tiles)]
    for told in (inclusion, consistency):
        place = data.draw(st.integers(0, len(told) - 1))
        # The empty tree begins every other, so that nothing of the newer one is looked at.
        if told is consistency and old == 0 and place == 1:
            continue
        told[place] = flipped(told[place], data.draw(st.integers(0, 255)))
        first, last, *proof = told
        if told is inclusion:
            assert not verify_inclusion(first, old, new, proof, last)
        else:
            assert not verify_consistency(old, new, proof, first, last)


def test_other_places_and_lengths_are_found(
    leaves: list[bytes], tiles: dict[TileKey, bytes]
) -> None:
    new = 101
    root = root_of(new, tiles)
    for index in range(new):
        proof = hashes_of(inclusion_spans(index, new), tiles)
        for other in (-1, index + 1, index - 1, index + new, 2**63):
            assert not verify_inclusion(leaves[index], other, new, proof, root)
        assert not verify_inclusion(leaves[index], index, new, proof[:-1], root)
        assert not verify_inclusion(leaves[index], index, new, [*proof, root], root)
        consistency = hashes_of(consistency_spans(index, new), tiles)
        old_root = root_of(index, tiles)
        assert not verify_consistency(index, new, [*consistency, root], old_root, root)
        if consistency:
            assert not verify_consistency(index, new, consistency[1:], old_root, root)
        assert not verify_consistency(new, index, consistency, root, old_root)


def test_the_empty_tree_begins_every_other(tiles: dict[TileKey, bytes]) -> None:
    root = root_of(5, tiles)
    assert verify_consistency(0, 0, [], EMPTY_ROOT, EMPTY_ROOT)
    assert verify_consistency(0, 5, [], EMPTY_ROOT, root)
    assert not verify_consistency(0, 5, [], root, root)
    assert not verify_consistency(0, 5, [root], EMPTY_ROOT, root)
    assert not verify_consistency(0, 0, [], root, root)


def test_a_tile_that_is_missing_or_short_is_named(tiles: dict[TileKey, bytes]) -> None:
    key = TileKey(0, 1)
    for broken in ({k: v for k, v in tiles.items() if k != key}, tiles | {key: tiles[key][:-32]}):
        with pytest.raises(TileTooShort) as missing:
            hashes_of([Span(299, 300)], broken)
        assert missing.value.key == key
        with pytest.raises(TileTooShort):
            grown(broken, 300, [b"x" * 32])
