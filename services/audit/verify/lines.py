"""The lines of an NDJSON export together: their order, the root they lead to, what was erased."""

from collections.abc import Mapping
from typing import Any

from services.audit.rules.exported import Exported
from services.audit.rules.manifest import Manifest, RangeProof, Retired
from services.audit.rules.ranges import GrowingTree, subtrees
from services.audit.rules.redaction import is_ordered
from services.audit.rules.retirement import announces, is_announced, month_named
from services.audit.verify.verdict import NotGenuine
from shared.merkle.tree import Span


class Position:
    """Where the lines are in the ledger; of a whole range, also the tree that grows from them.

    `roots` become known as the tree passes the sizes that are asked for.
    """

    def __init__(self, manifest: Manifest, sizes: frozenset[int]) -> None:
        """Take what the export says of itself, and the sizes of trees whose roots are wanted."""
        self._leaves = manifest.leaves
        self._proof = manifest.range
        self._sizes = sizes
        self._next = manifest.leaves.first
        self._time = 0
        self._tree = GrowingTree()
        self._gaps = list(manifest.range.retired) if manifest.range else []
        self.roots: dict[int, bytes] = {}
        if manifest.range is not None:
            self._add(Span(0, self._next), manifest.range.before)

    @property
    def retired(self) -> int:
        """How many positions are not in the file because their entries were retired."""
        gaps = self._proof.retired if self._proof else ()
        return sum(gap.leaves.end - gap.leaves.first for gap in gaps)

    def pass_by(self, entry: Exported) -> None:
        """Take the next entry; raises NotGenuine when it is not where it must be."""
        self._skip_retired()
        index = entry.leaf_index
        if index < self._next:
            raise NotGenuine(f"repeats or goes back: position {index} when {self._next} was due.")
        if index >= self._leaves.end:
            raise NotGenuine(f"has position {index}, which is beyond the export.")
        if self._proof is not None and index != self._next:
            raise NotGenuine(f"has position {index}: those from {self._next} on are missing.")
        if entry.created_at_us < self._time:
            raise NotGenuine("is older than the line before it.")
        self._time = entry.created_at_us
        self._next = index + 1
        if self._proof is not None:
            self._grow(entry.leaf, 0)

    def root(self, size: int) -> bytes | None:
        """Return the root of the whole tree of `size` leaves; None unless the range is whole.

        Raises NotGenuine when entries are missing at the end.
        """
        if self._proof is None:
            return None
        self._skip_retired()
        if self._next != self._leaves.end:
            raise NotGenuine(f"The entries from position {self._next} on are missing.")
        self._add(Span(self._next, size), self._proof.after)
        return self._tree.root()

    def _skip_retired(self) -> None:
        while self._gaps and self._gaps[0].leaves.first == self._next:
            gap = self._gaps.pop(0)
            self._add(gap.leaves, gap.hashes)
            self._next = gap.leaves.end

    def _add(self, span: Span, hashes: tuple[bytes, ...]) -> None:
        nodes = subtrees(span)
        if len(nodes) != len(hashes):
            raise NotGenuine("The manifest does not have the hashes that its range needs.")
        for node, digest in zip(nodes, hashes, strict=True):
            self._grow(digest, node.level)

    def _grow(self, digest: bytes, level: int) -> None:
        if not self._tree.size and 0 in self._sizes:
            self.roots[0] = self._tree.root()
        self._tree.add(digest, level)
        if self._tree.size in self._sizes:
            self.roots[self._tree.size] = self._tree.root()


class Retirements:
    """Intervals without lines, and the entries that announced it, as far as they are exported."""

    def __init__(self, proof: RangeProof | None) -> None:
        """Take what the manifest says of intervals."""
        self._open = list(proof.retired) if proof else []

    @property
    def untold(self) -> int:
        """How many intervals were announced by none of the entries so far."""
        return len(self._open)

    def pass_by(self, entry: Exported, told: Mapping[str, Any] | None) -> None:
        """Take the next entry, with its members if it announces anything.

        Raises NotGenuine when it announced nothing that it should have.
        """
        said = [gap for gap in self._open if gap.retired_by == entry.leaf_index]
        for gap in said:
            if told is None or not _announced(told, gap):
                raise NotGenuine(
                    f"is not the entry that retired positions {gap.leaves.first} to"
                    f" {gap.leaves.end - 1}, as the manifest says."
                )
            self._open.remove(gap)


def _announced(told: Mapping[str, Any], gap: Retired) -> bool:
    if not announces(told):
        return False
    try:
        month = month_named(told["resource_id"])
    except ValueError:
        return False
    return is_announced(told, month, gap.leaves, gap.hashes)


class Redactions:
    """Entries with erased fields, and the entries that ordered it, as far as they are exported."""

    def __init__(self, leaves: Span, proof: RangeProof | None) -> None:
        """Take the leaves of the export, and how whole it is."""
        self._leaves = leaves
        self._gone = [gap.leaves for gap in proof.retired] if proof else []
        self._whole = proof is not None
        self._open: dict[int, list[Exported]] = {}
        self.count = 0

    def pass_by(self, entry: Exported, order: Mapping[str, Any] | None) -> None:
        """Take the next entry, with its members if it orders a redaction at all.

        Raises NotGenuine when it ordered none of what it should have.
        """
        for earlier in self._open.pop(entry.leaf_index, ()):
            row = {"leaf_index": earlier.leaf_index, "id": earlier.id}
            missing = earlier.missing
            if order is None or missing is None or not is_ordered(row, missing, order):
                raise NotGenuine(
                    "is not the entry that ordered the erasure of fields of position"
                    f" {earlier.leaf_index}, which names it."
                )
        if entry.missing is None:
            return
        self.count += 1
        by = entry.missing.leaf
        if by <= entry.leaf_index:
            raise NotGenuine(f"has fields erased by position {by}, which is before it.")
        if self._whole and by < self._leaves.end and not any(by in range(*g) for g in self._gone):
            self._open.setdefault(by, []).append(entry)
