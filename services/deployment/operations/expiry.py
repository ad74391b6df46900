"""The end of waiting: what nobody decides about or starts in time expires, without a call."""

import asyncio
from functools import partial
from uuid import UUID

import structlog
from sqlalchemy import func, select

from services.deployment.operations import decide
from services.deployment.store import children
from shared.db.engine import Database
from shared.errors import AuditBacklog
from shared.outbox.delivery import Delivery

LOOK_EVERY_S = 5.0
BATCH = 100
_LOCK = 7263772  # any number; the same in every replica

log = structlog.get_logger(__name__)


class Expiry:
    """Looks after waiting deployments; of several replicas one at a time."""

    def __init__(self, db: Database, delivery: Delivery) -> None:
        """Find them in `db` and end each in a change of its own."""
        self._db = db
        self._delivery = delivery

    async def run(self) -> None:
        """Keep looking until cancelled."""
        while True:
            try:
                await self.look()
            except Exception as error:  # noqa: BLE001  (the next look follows anyhow)
                log.warning("expiry_failed", error=repr(error))
            await asyncio.sleep(LOOK_EVERY_S)

    async def look(self) -> None:
        """Expire what is overdue by the database's clock, as long as no other replica does."""
        async with self._db.transaction() as tx:
            mine = select(func.pg_try_advisory_xact_lock(_LOCK), func.clock_timestamp())
            alone, now = (await tx.execute(mine)).one()
            overdue = await children.overdue(tx, now, BATCH) if alone else []
            for deployment_id in overdue:
                await self._expire(deployment_id)

    async def _expire(self, deployment_id: UUID) -> None:
        """Expire one if its time has passed; what hinders it hinders no other."""
        work = partial(decide.expire_if_overdue, deployment_id=deployment_id)
        try:
            await self._delivery.by_itself(work)
        except AuditBacklog:
            raise
        except Exception as error:  # noqa: BLE001  (the next look finds it again)
            log.warning("expiry_failed", deployment=str(deployment_id), error=repr(error))
