"""What ends by itself: waits, runs, stages and leases whose time has passed, without a call."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from functools import partial
from typing import Final

import structlog
from sqlalchemy import func, select

from services.deployment.operations import claims, decide, limits
from services.deployment.store import due, leases
from services.deployment.store.due import Due, Kind
from shared.db.engine import Database
from shared.errors import AuditBacklog
from shared.outbox.delivery import Delivery

LOOK_EVERY_S = 5.0
# A little later than the next look.
SOON: Final = timedelta(seconds=LOOK_EVERY_S + 1)
BATCH = 100
LOCK: Final = 7263772  # any number; the same in every replica

log = structlog.get_logger(__name__)

ENDS: Final[Mapping[Kind, Callable[..., Awaitable[None]]]] = {
    Kind.LEASE: claims.lose_if_over,
    Kind.STAGE: limits.end_stages_if_over,
    Kind.STATUS: limits.end_status_if_over,
    Kind.WAIT: decide.expire_if_overdue,
}


class Deadlines:
    """Looks after what has an end; of several replicas one at a time.

    The clock is the database's. While the ledger lags so far that nothing may change, and after
    the database or all replicas were away, leases stand still: who could not report has not gone
    away. Waits for decisions, which nobody could give, have some time left afterwards.
    """

    def __init__(self, db: Database, delivery: Delivery) -> None:
        """Find what is due in `db` and end each in a change of its own."""
        self._db = db
        self._delivery = delivery

    async def run(self) -> None:
        """Keep looking until cancelled; first a while after the backlog began to be known."""
        await asyncio.sleep(LOOK_EVERY_S)
        while True:
            try:
                await self.look()
            except Exception as error:  # noqa: BLE001  (the next look follows anyhow)
                log.warning("deadlines_failed", error=repr(error))
            await asyncio.sleep(LOOK_EVERY_S)

    async def look(self) -> None:
        """End what is due by the database's clock, as long as no other replica does."""
        async with self._db.transaction() as tx:
            mine = select(func.pg_try_advisory_xact_lock(LOCK), func.clock_timestamp())
            alone, now = (await tx.execute(mine)).one()
            if not alone:
                return
            stood_still = await leases.nobody_has_looked(tx) or self._is_behind()
            if stood_still:
                await leases.stand_still(tx, now)
                # What somebody was changing just now stands still at the next look.
                if any(one.kind is not Kind.WAIT for one in await due.by(tx, now + SOON, 1)):
                    return
            else:
                for one in await due.by(tx, now, BATCH):
                    await self._end(one)
            # Last, so that this transaction writes nothing while the others are under way.
            await leases.note_look(tx, stood_still=stood_still)

    def _is_behind(self) -> bool:
        """Say whether the ledger lags so far that nothing may change."""
        try:
            self._delivery.backlog.admit_by_itself()
        except AuditBacklog:
            return True
        return False

    async def _end(self, one: Due) -> None:
        """End one thing if its time has passed; what hinders it hinders no other."""
        work = partial(ENDS[one.kind], deployment_id=one.deployment_id)
        try:
            await self._delivery.by_itself(work)
        except AuditBacklog:
            raise
        except Exception as error:  # noqa: BLE001  (the next look finds it again)
            log.warning(
                "deadline_not_kept",
                kind=one.kind.value,
                deployment=str(one.deployment_id),
                error=repr(error),
            )
