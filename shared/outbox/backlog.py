"""How far the ledger lags behind, and which calls must wait for it because of that."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from functools import cache

import structlog
from google.protobuf import descriptor_pool
from prometheus_client import Gauge
from release_manager.common.v1 import access_pb2
from sqlalchemy import func, select

from shared.db.engine import Database
from shared.db.models.outbox import OutboxEvent
from shared.errors import AuditBacklog

LOOK_EVERY_S = 5.0
RETRY_AFTER = timedelta(seconds=30)

_NEVER_REFUSED = (
    access_pb2.DURING_AUDIT_BACKLOG_ALLOW,
    access_pb2.DURING_AUDIT_BACKLOG_UNSPECIFIED,
)

log = structlog.get_logger(__name__)
PENDING = Gauge("outbox_pending", "Events not yet acknowledged by the ledger.", ["producer"])
OLDEST = Gauge("outbox_oldest_age_seconds", "Age of the oldest such event.", ["producer"])
PARKED = Gauge("outbox_parked", "Events that the ledger refused for good.", ["producer"])


@dataclass(frozen=True, slots=True)
class OutboxLimits:
    """How far the ledger may lag: number of events and age of the oldest, for new work and all."""

    soft_rows: int = 250_000
    soft_age: timedelta = timedelta(minutes=30)
    hard_rows: int = 1_000_000
    hard_age: timedelta = timedelta(hours=2)


@cache
def _rule(method: str) -> int:
    """Return what the contract says of `/package.Service/Method` during a backlog."""
    name = method.removeprefix("/").replace("/", ".")
    options = descriptor_pool.Default().FindMethodByName(name).GetOptions()
    rule: int = options.Extensions[access_pb2.during_audit_backlog]
    return rule


class OutboxBacklog:
    """Measures the outbox of one producer every few seconds and admits or refuses changes.

    Beyond the soft limit new work is refused, beyond the hard one every change that the contract
    does not let through. It opens again by itself as soon as the ledger has caught up.
    """

    def __init__(self, db: Database, producer: str, limits: OutboxLimits) -> None:
        """Start as if nothing were pending; the first look follows at once."""
        self._db = db
        self._producer = producer
        self._limits = limits
        self._pending = 0
        self._oldest = timedelta()

    def admit(self, method: str) -> None:
        """Raise AuditBacklog when `method` must wait until the ledger has caught up."""
        rule = _rule(method)
        if rule == access_pb2.DURING_AUDIT_BACKLOG_REFUSE:
            self._refuse_beyond(self._limits.soft_rows, self._limits.soft_age)
        if rule not in _NEVER_REFUSED:
            self.admit_by_itself()

    def admit_by_itself(self) -> None:
        """Raise AuditBacklog when not even what nobody asked for may happen, such as an expiry."""
        self._refuse_beyond(self._limits.hard_rows, self._limits.hard_age)

    def _refuse_beyond(self, rows: int, age: timedelta) -> None:
        if self._pending > rows or self._oldest > age:
            raise AuditBacklog(pending=self._pending, retry_after=RETRY_AFTER)

    async def run(self) -> None:
        """Keep looking until cancelled; a look that fails leaves the last answer standing."""
        while True:
            try:
                await self.look()
            except Exception as error:  # noqa: BLE001  (the next look follows anyhow)
                log.warning("backlog_unknown", producer=self._producer, error=repr(error))
            await asyncio.sleep(LOOK_EVERY_S)

    async def look(self) -> None:
        """Count what is pending, as far as the hard limit, and how old the oldest is."""
        pending = (
            select(OutboxEvent.created_at)
            .where(
                OutboxEvent.producer == self._producer,
                OutboxEvent.sent_at.is_(None),
                OutboxEvent.parked_at.is_(None),
            )
            .limit(self._limits.hard_rows + 1)
            .subquery()
        )
        parked = select(func.count()).where(
            OutboxEvent.producer == self._producer,
            OutboxEvent.sent_at.is_(None),
            OutboxEvent.parked_at.is_not(None),
        )
        statement = select(
            func.count(),
            func.clock_timestamp() - func.min(pending.c.created_at),
            parked.scalar_subquery(),
        ).select_from(pending)
        async with self._db.snapshot() as tx:
            count, oldest, refused = (await tx.execute(statement)).one()
        self._pending = count
        self._oldest = oldest or timedelta()
        PENDING.labels(self._producer).set(count)
        OLDEST.labels(self._producer).set(self._oldest.total_seconds())
        PARKED.labels(self._producer).set(refused)
