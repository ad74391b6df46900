"""What is done beside the calls: sessions and failures forgotten, suppressed refusals recorded."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

import structlog
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from services.catalog.operations import refusals
from services.catalog.store import login_throttles, sessions
from shared.db.engine import Database
from shared.outbox.delivery import Delivery

LOOK_EVERY_S = 60.0
KEEP_ENDED = timedelta(days=90)
"""How long a session that has ended, and the failures of a source, are kept."""
KEEP_QUIET = timedelta(hours=1)
BATCH = 1_000

log = structlog.get_logger(__name__)

Purge = Callable[[AsyncConnection, datetime], Awaitable[int]]


class Housekeeping:
    """Keeps the tables of who logs in small; replicas may do it at the same time."""

    def __init__(self, db: Database, delivery: Delivery, lifetime: timedelta) -> None:
        """Take how long a session lives."""
        self._db = db
        self._delivery = delivery
        self._lifetime = lifetime

    async def run(self) -> None:
        """Keep looking until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                await self.look()
            except Exception as error:  # noqa: BLE001  (the next look follows anyhow)
                log.warning("housekeeping_failed", error=repr(error))

    async def look(self) -> None:
        """Record what was suppressed, then delete what is old."""
        await self._delivery.by_itself(refusals.record_suppressed)
        for purge in (self._old_sessions, _old_failures):
            await self._delete(purge)

    async def _delete(self, purge: Purge) -> None:
        deleted = BATCH
        while deleted == BATCH:
            async with self._db.transaction() as tx:
                now = (await tx.execute(select(func.clock_timestamp()))).scalar_one()
                deleted = await purge(tx, now)

    async def _old_sessions(self, tx: AsyncConnection, now: datetime) -> int:
        ended = now - KEEP_ENDED
        return await sessions.purge(tx, ended=ended, began=ended - self._lifetime, most=BATCH)


async def _old_failures(tx: AsyncConnection, now: datetime) -> int:
    quiet, failed = now - KEEP_QUIET, now - KEEP_ENDED
    return await login_throttles.purge(tx, now, quiet=quiet, failed=failed, most=BATCH)
