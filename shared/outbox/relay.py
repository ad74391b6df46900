"""Delivery: the one path by which events leave the outbox, in order, until acknowledged.

Each pass runs in one transaction: it takes every partition that no other replica holds (a lock
that dies with the connection), reads what is pending in them, sends it as one `LogActions` batch,
and marks what the ledger acknowledged. The pending index is the work list, so an event that
commits late cannot be skipped; a crash at any point only repeats a batch, and the ledger knows
events it has by their ids. This is the one place where an RPC runs inside a transaction.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog
from google.protobuf import json_format
from release_manager.audit.v1 import audit_pb2
from sqlalchemy import bindparam, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.db.engine import Database
from shared.db.models.outbox import OutboxEvent
from shared.outbox.append import PARTITIONS
from shared.outbox.tombstone import tombstone

BATCH = 500
POLL_S = 0.5
SEND_TIMEOUT_S = 2.0
LONGEST_PAUSE_S = 1.0
SHORTEST_PAUSE_S = 0.05

Send = Callable[
    [Sequence[audit_pb2.AuditEvent], float], Awaitable[Sequence[audit_pb2.AppendResult]]
]

log = structlog.get_logger(__name__)

_MINE = text(
    "SELECT part FROM generate_series(0, :last) AS part"
    " WHERE pg_try_advisory_xact_lock(hashtext(:producer), part)"
)
_MARK = (
    update(OutboxEvent)
    .where(OutboxEvent.id == bindparam("row_id"))
    .values(sent_at=func.clock_timestamp(), leaf_index=bindparam("index"), last_error=None)
)


@dataclass(frozen=True, slots=True)
class _Pending:
    """A row of the outbox that waits."""

    row_id: int
    event_id: UUID
    event: dict[str, Any]
    attempts: int


class Relay:
    """Delivers the events of one producer, and tells waiting calls when theirs have arrived.

    Every replica runs one. `send` hands a batch to the ledger within a timeout in seconds and
    returns one result per event; it raises when the ledger cannot be reached.
    """

    def __init__(self, db: Database, producer: str, send: Send) -> None:
        """Prepare the relay; `run` does the work."""
        self._db = db
        self._producer = producer
        self._send = send
        self._awake = asyncio.Event()
        self._waiting: dict[UUID, set[asyncio.Future[int]]] = {}

    def wake(self) -> None:
        """Say that something was committed to the outbox."""
        self._awake.set()

    async def acknowledged(self, events: Sequence[UUID], seconds: float) -> dict[UUID, int]:
        """Return the leaf indexes of `events` as far as they are known within `seconds`."""
        loop = asyncio.get_running_loop()
        futures: dict[UUID, asyncio.Future[int]] = {event: loop.create_future() for event in events}
        for event, future in futures.items():
            self._waiting.setdefault(event, set()).add(future)
        try:
            await asyncio.wait(futures.values(), timeout=seconds)
        finally:
            for event, future in futures.items():
                waiting = self._waiting[event]
                waiting.discard(future)
                if not waiting:
                    del self._waiting[event]
        return {event: future.result() for event, future in futures.items() if future.done()}

    async def run(self) -> None:
        """Deliver until cancelled: at once when woken, twice a second otherwise."""
        pause = SHORTEST_PAUSE_S
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._awake.wait(), POLL_S)
            self._awake.clear()
            try:
                while await self.deliver_once():
                    pass
                pause = SHORTEST_PAUSE_S
            except asyncio.CancelledError:
                raise
            except Exception as error:  # noqa: BLE001  (whatever failed, the events stay pending)
                log.warning("delivery_failed", producer=self._producer, error=repr(error))
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE_S)
                self._awake.set()

    async def deliver_once(self) -> bool:
        """Deliver one batch; return whether more may be waiting."""
        async with self._db.transaction() as tx:
            # Losing a mark only repeats a delivery, so the mark need not wait for the disk.
            await tx.execute(text("SET LOCAL synchronous_commit = off"))
            mine = (
                await tx.execute(_MINE, {"last": PARTITIONS - 1, "producer": self._producer})
            ).scalars()
            pending = await self._pending(tx, list(mine))
            if pending:
                events = [_message(row) for row in pending]
                results = await self._send(events, SEND_TIMEOUT_S)
                acknowledged = await self._mark(tx, pending, results)
            else:
                acknowledged = {}
            acknowledged |= await self._marked_elsewhere(tx, acknowledged)
        for event, index in acknowledged.items():
            for waiter in self._waiting.get(event, ()):
                if not waiter.done():
                    waiter.set_result(index)
        return len(pending) == BATCH

    async def _pending(self, tx: AsyncConnection, partitions: list[int]) -> list[_Pending]:
        statement = (
            select(OutboxEvent.id, OutboxEvent.event_id, OutboxEvent.event, OutboxEvent.attempts)
            .where(
                OutboxEvent.producer == self._producer,
                OutboxEvent.partition.in_(partitions),
                OutboxEvent.sent_at.is_(None),
                OutboxEvent.parked_at.is_(None),
            )
            .order_by(OutboxEvent.id)
            .limit(BATCH)
        )
        return [_Pending(*row) for row in await tx.execute(statement)]

    async def _mark(
        self,
        tx: AsyncConnection,
        pending: Sequence[_Pending],
        results: Sequence[audit_pb2.AppendResult],
    ) -> dict[UUID, int]:
        accepted: dict[UUID, int] = {}
        marks = []
        for row, result in zip(pending, results, strict=True):
            if result.outcome == audit_pb2.APPEND_OUTCOME_REFUSED:
                await self._set_aside(tx, row, result)
            else:
                accepted[row.event_id] = result.leaf_index
                marks.append({"row_id": row.row_id, "index": result.leaf_index})
        if marks:
            await tx.execute(_MARK, marks)
        return accepted

    async def _set_aside(
        self, tx: AsyncConnection, row: _Pending, result: audit_pb2.AppendResult
    ) -> None:
        """Replace an event that the ledger refuses by a tombstone; park what even that refuses.

        The refused original is kept in the row, so nothing is lost and nothing else waits for it.
        """
        log.error(
            "event_refused",
            producer=self._producer,
            event_id=str(row.event_id),
            reason=result.reason,
            message=result.message,
        )
        values: dict[str, Any] = {
            "attempts": row.attempts + 1,
            "last_error": f"{result.reason}: {result.message}",
        }
        if row.attempts == 0:
            values["original"] = row.event
            values["event"] = tombstone(row.event, result.reason, result.message)
        else:
            values["parked_at"] = func.clock_timestamp()
        await tx.execute(update(OutboxEvent).where(OutboxEvent.id == row.row_id).values(**values))

    async def _marked_elsewhere(
        self, tx: AsyncConnection, known: dict[UUID, int]
    ) -> dict[UUID, int]:
        """Return what calls of this process wait for and another replica has delivered."""
        wanted = [event for event in self._waiting if event not in known]
        if not wanted:
            return {}
        statement = select(OutboxEvent.event_id, OutboxEvent.leaf_index).where(
            OutboxEvent.event_id.in_(wanted), OutboxEvent.leaf_index.is_not(None)
        )
        found = await tx.execute(statement)
        return {event: index for event, index in found if index is not None}


def _message(row: _Pending) -> audit_pb2.AuditEvent:
    return json_format.ParseDict(row.event, audit_pb2.AuditEvent())
