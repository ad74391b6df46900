"""Epochs: what the entry that begins one says, and which checkpoints hold since."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.audit.rules.replay import Mismatch, Root
from services.audit.rules.tiles import TileKey, edge_of, grown, root_of
from shared.merkle.checkpoint import Checkpoint
from shared.merkle.tree import EMPTY_ROOT

ACTION = "epoch"
RESOURCE_TYPE = "ledger"
PRODUCER = "audit"


@dataclass(frozen=True, slots=True)
class Beginning:
    """How an epoch began: by the entry at `leaf_index`; earlier checkpoints hold up to `fork`.

    `named` are the checkpoints beyond the fork that the entry quotes.
    """

    number: int
    leaf_index: int
    fork: int
    named: Sequence[Checkpoint]


def placed(
    checkpoint: Checkpoint, label: str, beginnings: Sequence[Beginning]
) -> Root | Mismatch | None:
    """Return the root that a checkpoint demands of the ledger.

    None when a later epoch declares it lost, a mismatch when one should have and does not.
    """
    for begun in beginnings:
        if begun.number <= checkpoint.epoch or checkpoint.size <= begun.fork:
            continue
        if checkpoint in begun.named:
            return None
        return Mismatch(
            begun.fork,
            f"The checkpoint {label} covers {checkpoint.size} entries, of which those from"
            f" {begun.fork} on may be lost since the entry at {begun.leaf_index}; that entry does"
            " not name it.",
        )
    return Root(checkpoint.size, checkpoint.root, label)


def problem_of_entry(
    entry: Mapping[str, Any] | None, leaf_index: int, expected: Mapping[str, Any]
) -> Mismatch | None:
    """Compare the entry that began an epoch with what the epoch says of itself."""
    if entry is None:
        return Mismatch(leaf_index, f"The entry at {leaf_index} that began an epoch is missing.")
    told = (entry["action"], entry["resource_type"], entry["producer"])
    details = entry["details"]
    said = isinstance(details, dict) and {name: details.get(name) for name in expected}
    if told != (ACTION, RESOURCE_TYPE, PRODUCER) or said != expected:
        return Mismatch(leaf_index, f"The entry at {leaf_index} did not begin the epoch it should.")
    return None


class Fork:
    """Finds how far a ledger agrees with checkpoints, while its leaves come in from the first."""

    def __init__(self, checkpoints: Iterable[Checkpoint]) -> None:
        """Take all checkpoints that were ever signed."""
        self._waiting = sorted(checkpoints, key=lambda checkpoint: -checkpoint.size)
        self._edge: dict[TileKey, bytes] = {}
        self._size = 0
        # The largest size at which every checkpoint agrees, and the first one that does not.
        self.size = self._before = 0
        self.differing: Checkpoint | None = None

    def add(self, leaves: Sequence[bytes]) -> None:
        """Append leaves and compare the checkpoints that they complete."""
        start, end = self._size, self._size + len(leaves)
        stops = self._due(start, end)
        for stop in sorted({*stops, end}):
            tiles = self._edge | grown(
                self._edge, self._size, leaves[self._size - start : stop - start]
            )
            self._edge = {key: tiles[key] for key in edge_of(stop)}
            self._size = stop
            self._compare()

    def _due(self, start: int, end: int) -> set[int]:
        """Return the sizes up to `end` that are waited for; the smallest wait at the back."""
        found: set[int] = set()
        for checkpoint in reversed(self._waiting):
            if checkpoint.size > end:
                break
            if checkpoint.size > start:
                found.add(checkpoint.size)
        return found

    def _compare(self) -> None:
        while self._waiting and self._waiting[-1].size <= self._size:
            checkpoint = self._waiting.pop()
            if self.differing is not None:
                continue
            root = root_of(self._size, self._edge) if checkpoint.size else EMPTY_ROOT
            if root != checkpoint.root:
                self.differing = checkpoint
                if checkpoint.size == self.size:
                    self.size = self._before
            elif checkpoint.size > self.size:
                self._before, self.size = self.size, checkpoint.size

    @property
    def beyond(self) -> Checkpoint | None:
        """The largest checkpoint that there are not enough leaves for."""
        return self._waiting[0] if self._waiting else None
