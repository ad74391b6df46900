"""The Merkle tree of RFC 6962 over leaf hashes: which hashes a proof needs, and how it is checked.

A node is a whole subtree of the tree: `Node(level, place)` covers the 2^level leaves from
`place * 2^level` on. Nodes never change while the tree grows, so every proof for every past size is
made from them. A proof is a list of 32-byte hashes, the one nearest to the leaf first.

Verifiers answer with a bool and never raise: what they are given comes from somebody else.
"""

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from typing import NamedTuple

HASH_BYTES = 32
EMPTY_ROOT = sha256(b"").digest()


class Node(NamedTuple):
    """A whole subtree: the leaves from `place * 2**level` on, 2**level of them."""

    level: int
    place: int


class Span(NamedTuple):
    """The leaves from `first` up to, not including, `end`, as one subtree of a proof."""

    first: int
    end: int


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of an inner node."""
    return sha256(b"\x01" + left + right).digest()


def nodes_of(span: Span) -> list[Node]:
    """Return the whole subtrees that make up a span of a proof or tree, the largest first.

    Empty for an empty span.
    """
    found = []
    first = span.first
    while first < span.end:
        level = (span.end - first).bit_length() - 1
        found.append(Node(level, first >> level))
        first += 1 << level
    return found


def span_hash(span: Span, hash_of: Callable[[Node], bytes]) -> bytes:
    """Return the Merkle tree hash of a span; that of (0, size) is the root."""
    hashes = [hash_of(node) for node in nodes_of(span)]
    if not hashes:
        return EMPTY_ROOT
    folded = hashes.pop()
    while hashes:
        folded = node_hash(hashes.pop(), folded)
    return folded


def whole_hash(hashes: Sequence[bytes]) -> bytes:
    """Return the hash over a power of two of neighbouring hashes."""
    level = list(hashes)
    while len(level) > 1:
        level = [
            sha256(b"\x01" + level[at] + level[at + 1]).digest() for at in range(0, len(level), 2)
        ]
    return level[0]


def inclusion_spans(leaf_index: int, size: int) -> list[Span]:
    """Return what an inclusion proof consists of; 0 <= leaf_index < size."""
    spans = []
    first, end = 0, size
    while end - first > 1:
        middle = first + _split(end - first)
        if leaf_index < middle:
            spans.append(Span(middle, end))
            end = middle
        else:
            spans.append(Span(first, middle))
            first = middle
    return spans[::-1]


def consistency_spans(old: int, new: int) -> list[Span]:
    """Return what a consistency proof consists of; 0 <= old <= new.

    Nothing is needed when one of the trees is empty or both are the same.
    """
    if old in {0, new}:
        return []
    spans = []
    first, end = 0, new
    while end != old:
        middle = first + _split(end - first)
        if old <= middle:
            spans.append(Span(middle, end))
            end = middle
        else:
            spans.append(Span(first, middle))
            first = middle
    if first:
        spans.append(Span(first, end))
    return spans[::-1]


def _split(width: int) -> int:
    """Return the largest power of two below `width`, which is at least 2."""
    return 1 << ((width - 1).bit_length() - 1)


def verify_inclusion(
    leaf_hash: bytes, leaf_index: int, size: int, proof: Sequence[bytes], root: bytes
) -> bool:
    """Tell whether the leaf is at this place in the tree of `size` leaves with this root."""
    if not 0 <= leaf_index < size or not _are_hashes((leaf_hash, root, *proof)):
        return False
    at, last = leaf_index, size - 1
    folded = leaf_hash
    for sibling in proof:
        if last == 0:
            return False
        if at & 1 or at == last:
            folded = node_hash(sibling, folded)
            while not at & 1 and at:
                at >>= 1
                last >>= 1
        else:
            folded = node_hash(folded, sibling)
        at >>= 1
        last >>= 1
    return last == 0 and folded == root


def verify_consistency(
    old: int, new: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes
) -> bool:
    """Tell whether the tree of `new` leaves begins with all leaves of the tree of `old` ones.

    The empty tree is the beginning of every other one; its root and its proof must be empty too.
    """
    if not 0 <= old <= new or not _are_hashes((old_root, new_root, *proof)):
        return False
    if new == 0 and new_root != EMPTY_ROOT:
        return False
    if old in {0, new}:
        return not proof and old_root == (new_root if old == new else EMPTY_ROOT)
    given = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    at, last = old - 1, new - 1
    while at & 1:
        at >>= 1
        last >>= 1
    if not given:
        return False
    small = large = given[0]
    for sibling in given[1:]:
        if last == 0:
            return False
        if at & 1 or at == last:
            small, large = node_hash(sibling, small), node_hash(sibling, large)
            while not at & 1 and at:
                at >>= 1
                last >>= 1
        else:
            large = node_hash(large, sibling)
        at >>= 1
        last >>= 1
    return last == 0 and small == old_root and large == new_root


def _are_hashes(given: Iterable[bytes]) -> bool:
    return all(len(one) == HASH_BYTES for one in given)
