"""Entries that the audit service makes about its own ledger, outside of any call."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from services.audit.rules.events import Event, Sealed, seal
from services.audit.rules.leaf import request_key
from services.audit.rules.redaction import CATEGORY, PRODUCER
from services.audit.store import epochs
from services.audit.store.appending import append, driver_connection
from shared.db.engine import Database
from shared.ids import new_id


class OwnEntries:
    """Makes the entries of commands that an operator gives on the audit service's machine."""

    def __init__(self, writer: Database, reader: Database, secret: bytes) -> None:
        """Take the database under the roles of the writer and the reader, and the secret."""
        self._writer = writer
        self._reader = reader
        self._mac_key = request_key(secret)

    async def sealed(
        self,
        tx: AsyncConnection,
        action: str,
        resource_type: str,
        resource_id: str,
        details: Mapping[str, Any],
    ) -> Sealed:
        """Return an entry that is ready to be appended."""
        now = (await tx.execute(select(func.clock_timestamp()))).scalar_one()
        event = Event(
            action=action,
            resource_type=resource_type,
            resource_id=resource_id,
            event_id=new_id(),
            occurred_at=now,
            details=dict(details),
            category=CATEGORY,
        )
        return seal(event, producer=PRODUCER, user_id=None, now=now, mac_key=self._mac_key)

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[AsyncConnection]:
        """Wait until no other command runs, and let none begin before the block is left."""
        async with self._reader.transaction() as tx:
            await epochs.lock_commands(tx)
            yield tx

    async def once(
        self,
        tx: AsyncConnection,
        action: str,
        resource_type: str,
        resource_id: str,
        details: Mapping[str, Any],
    ) -> None:
        """Append an entry unless there is one of this action about this thing.

        So a command that was cut off can be given again. It must be `alone`.
        """
        if not await epochs.is_told(tx, PRODUCER, action, resource_type, resource_id):
            entry = await self.sealed(tx, action, resource_type, resource_id, details)
            async with driver_connection(self._writer.engine) as driver:
                await append(driver, [entry])
