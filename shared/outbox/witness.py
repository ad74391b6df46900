"""A witness of the ledger: a service that keeps the newest checkpoint it has seen.

The answers to appends carry checkpoints. Once a minute the newest of them, or one that is asked
for when none came, is compared with the one kept: a proof must show that one tree continues the
other. Only then it is kept instead. So a ledger that was cut off, or written and signed anew, is
found out by whoever has appended to it, even if key and checkpoint file were in the same hands.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog
from prometheus_client import Gauge
from release_manager.audit.v1 import audit_pb2
from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert

from shared.db.engine import Database
from shared.db.models.outbox import WitnessedCheckpoint
from shared.errors import PositionOutOfRange
from shared.merkle.checkpoint import Checkpoint, opened, parse
from shared.merkle.note import NoteInvalid, Verifier
from shared.merkle.tree import verify_consistency
from shared.outbox.ledger import Ledger

LOOK_EVERY_S = 60.0

log = structlog.get_logger(__name__)
WITNESSED = Gauge(
    "ledger_witnessed_entries", "Entries under the newest checkpoint kept.", ["producer"]
)
CONTRADICTED = Gauge(
    "ledger_contradicts_witness",
    "1 while the ledger does not continue the checkpoint kept.",
    ["producer"],
)

Keys = Callable[[], Sequence[Verifier]]


@dataclass(frozen=True, slots=True)
class _Seen:
    """A checkpoint and the note that it came in."""

    checkpoint: Checkpoint
    note: str


class Witness:
    """Keeps and compares checkpoints for one producer; all its replicas share what is kept.

    `keys` returns the public keys of the ledger; without any, notes are taken as they come.
    """

    def __init__(
        self,
        db: Database,
        producer: str,
        ledger: Ledger,
        keys: Keys,
        *,
        every_s: float = LOOK_EVERY_S,
    ) -> None:
        """Keep checkpoints in `db`; ask `ledger` for proofs."""
        self._db = db
        self._producer = producer
        self._ledger = ledger
        self._keys = keys
        self._every_s = every_s
        self._problem: str | None = None

    async def run(self) -> None:
        """Look again and again until cancelled."""
        while True:
            await asyncio.sleep(self._every_s)
            try:
                await self.look()
            except Exception as error:  # noqa: BLE001  (the next look follows anyhow)
                log.warning("ledger_not_witnessed", producer=self._producer, error=repr(error))

    async def look(self) -> str | None:
        """Compare once; return what contradicts, as a sentence, None when nothing does."""
        given = self._ledger.take_seen() or await self._ledger.checkpoint()
        problem = await self._compared(given)
        if problem is not None and problem != self._problem:
            log.error("ledger_contradicts_witness", producer=self._producer, problem=problem)
        elif problem is None and self._problem is not None:
            log.info("ledger_continues", producer=self._producer)
        self._problem = problem
        CONTRADICTED.labels(self._producer).set(problem is not None)
        return problem

    async def _compared(self, given: audit_pb2.Checkpoint) -> str | None:
        try:
            seen = self._opened(given.note)
            kept = [_Seen(parse(_text(note)), note) for note in await self._kept()]
            newest = max(kept, key=lambda one: one.checkpoint.epoch, default=None)
            if newest is None:
                await self._begin(seen)
                return None
            epoch, before = seen.checkpoint.epoch, newest.checkpoint.epoch
        except NoteInvalid as error:
            return f"A checkpoint is none of the ledger: {error}."
        if epoch < before:
            return f"The ledger goes by the name {seen.checkpoint.origin} again."
        problem = await self._contradiction(newest.checkpoint, seen.checkpoint)
        if epoch > before:
            self._tell_epoch(newest, seen, problem)
            await self._begin(seen)
            return None
        if problem is None and seen.checkpoint.size > newest.checkpoint.size:
            await self._advance(newest, seen)
        return problem

    def _opened(self, note: str) -> _Seen:
        """Read a note, and check who signed it where the keys are known; raises NoteInvalid."""
        keys = self._keys()
        return _Seen(opened(note, *keys) if keys else parse(_text(note)), note)

    async def _contradiction(self, one: Checkpoint, other: Checkpoint) -> str | None:
        """Say how two checkpoints contradict, unless a proof shows that they do not."""
        old, new = sorted((one, other), key=lambda checkpoint: checkpoint.size)
        if old.size == new.size:
            if old.root == new.root:
                return None
            return f"There are two roots for {old.size} entries."
        try:
            proof = await self._ledger.consistency(old.size, new.size)
        except PositionOutOfRange:
            return f"The ledger has fewer than the {new.size} entries that were signed."
        if verify_consistency(old.size, new.size, proof, old.root, new.root):
            return None
        return f"The tree of {new.size} entries does not begin with that of {old.size}."

    def _tell_epoch(self, before: _Seen, seen: _Seen, problem: str | None) -> None:
        facts = {
            "producer": self._producer,
            "origin": seen.checkpoint.origin,
            "before": before.checkpoint.origin,
            "kept_entries": before.checkpoint.size,
        }
        if problem is None:
            log.warning("ledger_epoch_begun", **facts)
        else:  # which the new name admits; the checkpoint of before stays as evidence
            log.error("ledger_epoch_lost_entries", problem=problem, **facts)

    async def _kept(self) -> list[str]:
        """Return the notes kept, one for each name of the ledger."""
        wanted = select(WitnessedCheckpoint.note).where(
            WitnessedCheckpoint.producer == self._producer
        )
        async with self._db.snapshot() as tx:
            return list((await tx.execute(wanted)).scalars())

    async def _begin(self, seen: _Seen) -> None:
        """Keep the first checkpoint under a name."""
        row = insert(WitnessedCheckpoint).values(
            producer=self._producer,
            origin=seen.checkpoint.origin,
            tree_size=seen.checkpoint.size,
            root=seen.checkpoint.root,
            note=seen.note,
        )
        async with self._db.transaction() as tx:
            await tx.execute(row.on_conflict_do_nothing())
        WITNESSED.labels(self._producer).set(seen.checkpoint.size)

    async def _advance(self, before: _Seen, seen: _Seen) -> None:
        """Keep a checkpoint instead of the one it continues, unless a replica was faster."""
        change = (
            update(WitnessedCheckpoint)
            .where(
                WitnessedCheckpoint.producer == self._producer,
                WitnessedCheckpoint.origin == seen.checkpoint.origin,
                WitnessedCheckpoint.note == before.note,
            )
            .values(
                tree_size=seen.checkpoint.size,
                root=seen.checkpoint.root,
                note=seen.note,
                seen_at=func.clock_timestamp(),
            )
        )
        async with self._db.transaction() as tx:
            await tx.execute(change)
        WITNESSED.labels(self._producer).set(seen.checkpoint.size)


def _text(note: str) -> str:
    """Return what a note says, whoever signed it."""
    return note.partition("\n\n")[0] + "\n"
