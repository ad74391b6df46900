"""Reconciliation: does the ledger hold every version of every aggregate? If not, send it again."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import islice

import structlog
from prometheus_client import Counter
from sqlalchemy import delete, func, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.db.engine import Database
from shared.db.models.outbox import IdempotencyRecord, OutboxEvent

RECONCILE_EVERY_S = 300.0
BATCH = 1000
NAMED = 100
KEEP_SENT = timedelta(days=7)
KEEP_ANSWERS = timedelta(hours=48)
PURGE_BATCH = 5_000

log = structlog.get_logger(__name__)
MISSING = Counter(
    "reconcile_missing_total", "Versions that the ledger lacked unexpectedly.", ["producer"]
)

Versions = Callable[[AsyncConnection], AsyncIterator[tuple[str, int]]]
Sequences = Callable[[Sequence[str]], Awaitable[Mapping[str, int]]]


@dataclass
class Reconciliation:
    """What one comparison found: versions missing in the ledger and not on their way there."""

    aggregates: int = 0
    missing: int = 0
    resent: int = 0
    missing_aggregates: list[str] = field(default_factory=list)


class Reconciler:
    """Compares the aggregates of one producer with the ledger.

    `versions` yields every aggregate with its version, inside a snapshot; `sequences` asks the
    ledger for the highest sequence up to which it holds all entries of each aggregate. Versions
    are read before the ledger is asked, so what happens in between cannot look like a loss.
    """

    def __init__(
        self,
        db: Database,
        producer: str,
        versions: Versions,
        sequences: Sequences,
        *,
        every_s: float = RECONCILE_EVERY_S,
    ) -> None:
        """Compare what `versions` yields with what `sequences` answers."""
        self._db = db
        self._producer = producer
        self._versions = versions
        self._sequences = sequences
        self._every_s = every_s

    async def run(self) -> None:
        """Compare again and again until cancelled, and throw away what is no longer needed."""
        while True:
            await asyncio.sleep(self._every_s)
            try:
                await self.reconcile()
                await self.purge()
            except Exception as error:  # noqa: BLE001  (the next round follows anyhow)
                log.warning("reconciliation_failed", producer=self._producer, error=repr(error))

    async def reconcile(self) -> Reconciliation:
        """Compare all aggregates once; mark what is missing so that the relay sends it again."""
        found = Reconciliation()
        async with self._db.snapshot() as tx:
            known = [pair async for pair in self._versions(tx)]
        pairs = iter(known)
        while batch := dict(islice(pairs, BATCH)):
            found.aggregates += len(batch)
            ledger = await self._sequences(list(batch))
            behind = {
                aggregate: (ledger.get(aggregate, 0), version)
                for aggregate, version in batch.items()
                if ledger.get(aggregate, 0) < version
            }
            if behind:
                await self._resend(behind, found)
        if found.missing:
            MISSING.labels(self._producer).inc(found.missing)
            log.error(
                "ledger_incomplete",
                producer=self._producer,
                missing=found.missing,
                resent=found.resent,
                aggregates=found.missing_aggregates,
            )
        return found

    async def _resend(self, behind: Mapping[str, tuple[int, int]], found: Reconciliation) -> None:
        wanted = {
            (aggregate, sequence)
            for aggregate, (held, version) in behind.items()
            for sequence in range(held + 1, version + 1)
        }
        key = tuple_(OutboxEvent.aggregate, OutboxEvent.aggregate_seq)
        mine = OutboxEvent.producer == self._producer
        async with self._db.transaction() as tx:
            waiting = select(OutboxEvent.aggregate, OutboxEvent.aggregate_seq).where(
                mine, key.in_(wanted), OutboxEvent.sent_at.is_(None)
            )
            missing = wanted - {(row[0], row[1]) for row in await tx.execute(waiting)}
            if not missing:
                return
            again = (
                update(OutboxEvent)
                .where(mine, key.in_(missing), OutboxEvent.sent_at.is_not(None))
                .values(sent_at=None, leaf_index=None)
            )
            found.resent += (await tx.execute(again)).rowcount
        found.missing += len(missing)
        names = sorted({aggregate for aggregate, _ in missing})
        found.missing_aggregates.extend(names[: NAMED - len(found.missing_aggregates)])

    async def purge(self) -> None:
        """Delete delivered events after a week and answers after two days, a few at a time."""
        now = func.clock_timestamp()
        async with self._db.transaction() as tx:
            old = (
                select(OutboxEvent.id)
                .where(
                    OutboxEvent.producer == self._producer, OutboxEvent.sent_at < now - KEEP_SENT
                )
                .limit(PURGE_BATCH)
            )
            await tx.execute(delete(OutboxEvent).where(OutboxEvent.id.in_(old)))
            answers = delete(IdempotencyRecord).where(
                IdempotencyRecord.created_at < now - KEEP_ANSWERS
            )
            await tx.execute(answers)
