"""The epochs of the ledger, held against the entries that began them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from services.audit.rules.epochs import Beginning, placed, problem_of_entry
from services.audit.rules.replay import Mismatch, Root
from services.audit.signing.ledger_key import KeyRing
from services.audit.store import epochs
from services.audit.store.epochs import Abandoned, Epoch
from shared.merkle.checkpoint import Checkpoint
from shared.merkle.note import NoteInvalid


@dataclass(frozen=True, slots=True)
class History:
    """The later epochs, and the first thing about them that is not what their entries say."""

    beginnings: Sequence[Beginning]
    problem: Mismatch | None

    def root(self, checkpoint: Checkpoint, label: str) -> Root | Mismatch | None:
        """Return the root that a checkpoint demands; None when it was declared lost."""
        return placed(checkpoint, label, self.beginnings)


async def read_history(tx: AsyncConnection, ring: KeyRing) -> History:
    """Read all epochs and compare each with its entry."""
    found = await epochs.later_epochs(tx)
    forks = [epoch.fork for epoch in found]
    numbers = [epoch.number for epoch in found]
    beginnings, problems = [], []
    for epoch in found:
        lost = await epochs.abandoned(tx, numbers, forks, epoch.number)
        problem, named = _compared(epoch, lost, ring)
        problems += [problem] if problem else []
        beginnings.append(Beginning(epoch.number, epoch.leaf_index, epoch.fork, named))
    return History(beginnings, min(problems, default=None))


def details(  # noqa: PLR0913  (what the entry says)
    *, number: int, origin: str, fork: int, note: str, notes: Sequence[str], lost: Abandoned
) -> dict[str, Any]:
    """Return what the entry of an epoch must say at least; `notes` are quoted, `note` the first."""
    return {
        "epoch": number,
        "origin": origin,
        "agreed_entries": fork,
        "checkpoints": [*filter(None, [note]), *(other for other in notes if other != note)],
        "given_up": {"checkpoints": lost.count, "sha256": lost.sha256},
    }


def _compared(
    epoch: Epoch, lost: Abandoned, ring: KeyRing
) -> tuple[Mismatch | None, list[Checkpoint]]:
    """Compare an epoch with its entry; return the checkpoints that the entry quotes."""
    said = (epoch.entry or {}).get("details")
    quoted = said.get("checkpoints") if isinstance(said, dict) else None
    notes = [str(note) for note in quoted] if isinstance(quoted, list) else []
    if epoch.note != (notes[0] if notes else ""):
        notes = []
    expected = details(
        number=epoch.number,
        origin=epoch.origin,
        fork=epoch.fork,
        note=epoch.note,
        notes=notes,
        lost=lost,
    )
    named = []
    for note in notes:
        try:
            named.append(ring.opened(note))
        except NoteInvalid as error:
            problem = f"The entry at {epoch.leaf_index} quotes a checkpoint: {error}."
            return Mismatch(epoch.leaf_index, problem), named
    return problem_of_entry(epoch.entry, epoch.leaf_index, expected), named
