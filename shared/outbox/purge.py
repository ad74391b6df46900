"""Throwing away what nobody needs any more: delivered events, and answers of old calls."""

import asyncio
from datetime import timedelta

import structlog
from sqlalchemy import delete, func, select, tuple_
from sqlalchemy.sql.dml import Delete

from shared.db.engine import Database
from shared.db.models.outbox import IdempotencyRecord, OutboxEvent

PURGE_EVERY_S = 300.0
KEEP_SENT = timedelta(days=7)
KEEP_ANSWERS = timedelta(hours=48)
BATCH = 5_000

log = structlog.get_logger(__name__)


class Purge:
    """Empties the outbox of one producer, and the answers that all of them share.

    Events are kept for a week after their delivery, so that a ledger restored from a backup can be
    completed; those that were refused are kept for ever, since only they hold what happened.
    """

    def __init__(self, db: Database, producer: str) -> None:
        """Delete in `db`."""
        self._db = db
        self._producer = producer

    async def run(self) -> None:
        """Purge again and again until cancelled."""
        while True:
            await asyncio.sleep(PURGE_EVERY_S)
            try:
                await self.purge()
            except Exception as error:  # noqa: BLE001  (the next round follows anyhow)
                log.warning("purge_failed", producer=self._producer, error=repr(error))

    async def purge(self) -> None:
        """Delete all that is old, some thousand rows in one transaction."""
        for statement in (self._old_events(), _old_answers()):
            deleted = BATCH
            while deleted == BATCH:
                async with self._db.transaction() as tx:
                    deleted = (await tx.execute(statement)).rowcount

    def _old_events(self) -> Delete:
        old = select(OutboxEvent.id).where(
            OutboxEvent.producer == self._producer,
            OutboxEvent.sent_at < func.clock_timestamp() - KEEP_SENT,
            OutboxEvent.original.is_(None),
        )
        # Replicas purge at the same time; each takes what the others have not.
        mine = old.limit(BATCH).with_for_update(skip_locked=True)
        return delete(OutboxEvent).where(OutboxEvent.id.in_(mine))


def _old_answers() -> Delete:
    record = IdempotencyRecord
    old = select(record.actor_id, record.method, record.request_id).where(
        record.created_at < func.clock_timestamp() - KEEP_ANSWERS
    )
    mine = old.limit(BATCH).with_for_update(skip_locked=True)
    key = tuple_(record.actor_id, record.method, record.request_id)
    return delete(record).where(key.in_(mine))
