"""Reconciliation: does the ledger hold every version of every aggregate? If not, send it again."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import structlog
from prometheus_client import Counter
from sqlalchemy import ARRAY, BigInteger, Text, bindparam, column, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.db.engine import Database
from shared.db.models.outbox import OutboxEvent

RECONCILE_EVERY_S = 300.0
BATCH = 1000
NAMED = 100

log = structlog.get_logger(__name__)
MISSING = Counter(
    "reconcile_missing_total", "Versions that the ledger lacked unexpectedly.", ["producer"]
)

Versions = Callable[[AsyncConnection], AsyncIterator[tuple[str, int]]]
Sequences = Callable[[Sequence[str]], Awaitable[Mapping[str, int]]]

_BEHIND = (
    func.unnest(
        bindparam("aggregates", type_=ARRAY(Text)), bindparam("held", type_=ARRAY(BigInteger))
    )
    .table_valued(column("aggregate", Text), column("held", BigInteger), name="behind")
    .render_derived()
)
_BEYOND = select(
    OutboxEvent.id, OutboxEvent.aggregate, OutboxEvent.aggregate_seq, OutboxEvent.sent_at
).where(
    OutboxEvent.producer == bindparam("producer"),
    OutboxEvent.aggregate == _BEHIND.c.aggregate,
    OutboxEvent.aggregate_seq > _BEHIND.c.held,
)
# It waits from now on; counted from when it was made, it would close the doors of the backlog.
_AGAIN = (
    update(OutboxEvent)
    .where(
        OutboxEvent.id == func.any(bindparam("ids", type_=ARRAY(BigInteger))),
        OutboxEvent.sent_at.is_not(None),
    )
    .values(sent_at=None, leaf_index=None, created_at=func.clock_timestamp())
)


@dataclass
class Reconciliation:
    """What one comparison found: versions missing in the ledger and not on their way there."""

    aggregates: int = 0
    missing: int = 0
    resent: int = 0
    missing_aggregates: list[str] = field(default_factory=list)


@dataclass
class _Suspect:
    """An aggregate of which the ledger holds 1 to `held`, and should hold what follows to `last`.

    `rows` are the delivered rows of the outbox with what follows, by sequence.
    """

    held: int
    last: int
    rows: dict[int, int] = field(default_factory=dict)

    @property
    def missing(self) -> int:
        """How many versions the ledger lacks."""
        return max(0, self.last - self.held)


class Reconciler:
    """Compares the aggregates of one producer with the ledger.

    `versions` yields every aggregate with its version, inside a snapshot; `sequences` asks the
    ledger for the highest sequence up to which it holds all entries of each aggregate.
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
        """Compare again and again until cancelled."""
        while True:
            await asyncio.sleep(self._every_s)
            try:
                await self.reconcile()
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
            suspects = await self._behind({name: _Suspect(0, last) for name, last in batch.items()})
            if suspects:
                await self._look_at_outbox(suspects)
                # Only now is the answer final: what the outbox says was delivered, was so before.
                await self._resend(await self._behind(suspects), found)
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

    async def _behind(self, suspects: Mapping[str, _Suspect]) -> dict[str, _Suspect]:
        """Ask the ledger; return those of which it still lacks something."""
        behind = {name: suspect for name, suspect in suspects.items() if suspect.missing}
        ledger = await self._sequences(list(behind)) if behind else {}
        for aggregate, suspect in behind.items():
            suspect.held = ledger.get(aggregate, 0)
        return {name: suspect for name, suspect in behind.items() if suspect.missing}

    async def _look_at_outbox(self, suspects: Mapping[str, _Suspect]) -> None:
        """Leave out what waits, and what follows it: the ledger cannot count beyond a gap."""
        wanted = {
            "producer": self._producer,
            "aggregates": list(suspects),
            "held": [suspect.held for suspect in suspects.values()],
        }
        async with self._db.snapshot() as tx:
            rows = (await tx.execute(_BEYOND, wanted)).all()
        for row_id, aggregate, sequence, sent_at in rows:
            suspect = suspects[aggregate]
            if sent_at is None:
                suspect.last = min(suspect.last, sequence - 1)
            else:
                suspect.rows[sequence] = row_id

    async def _resend(self, suspects: Mapping[str, _Suspect], found: Reconciliation) -> None:
        if not suspects:
            return
        ids = [
            row_id
            for suspect in suspects.values()
            for sequence, row_id in suspect.rows.items()
            if suspect.held < sequence <= suspect.last
        ]
        async with self._db.transaction() as tx:
            found.resent += (await tx.execute(_AGAIN, {"ids": ids})).rowcount
        found.missing += sum(suspect.missing for suspect in suspects.values())
        found.missing_aggregates.extend(sorted(suspects)[: NAMED - len(found.missing_aggregates)])
