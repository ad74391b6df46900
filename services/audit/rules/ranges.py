"""Ranges of the tree: the subtrees that stand for leaves that somebody does not have.

Whoever holds all leaves of a range, and the hashes of the whole subtrees left and right of it, can
compute the root of the tree from them, and so prove that nothing is missing in between.
"""

from shared.merkle.tree import EMPTY_ROOT, Node, Span, node_hash


def subtrees(span: Span) -> list[Node]:
    """Return the largest whole subtrees that make up a span that may begin anywhere, in order."""
    found = []
    first = span.first
    while first < span.end:
        level = (span.end - first).bit_length() - 1
        if first:
            level = min(level, (first & -first).bit_length() - 1)
        found.append(Node(level, first >> level))
        first += 1 << level
    return found


class GrowingTree:
    """A tree that grows by leaves and whole subtrees from the left, in memory of log2(size)."""

    def __init__(self) -> None:
        """Begin with the empty tree."""
        self.size = 0
        self._hashes: list[bytes] = []

    def add(self, digest: bytes, level: int = 0) -> None:
        """Append the subtree of 2**level leaves with this hash; a leaf is its own subtree.

        Raises ValueError where the tree has no place for a subtree of that size.
        """
        if self.size & ((1 << level) - 1):
            raise ValueError(level)
        joined = self.size >> level
        while joined & 1:
            digest = node_hash(self._hashes.pop(), digest)
            joined >>= 1
        self._hashes.append(digest)
        self.size += 1 << level

    def root(self) -> bytes:
        """Return the root of the tree as it is."""
        if not self._hashes:
            return EMPTY_ROOT
        *left, folded = self._hashes
        while left:
            folded = node_hash(left.pop(), folded)
        return folded
