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
from uuid import UUID

import structlog
from google.protobuf import json_format
from release_manager.audit.v1 import audit_pb2
from sqlalchemy import text

from shared.db.engine import Database
from shared.domain_error import DomainError, Kind
from shared.errors import ScopeRequired
from shared.outbox.waiting import (
    Pending,
    delivered,
    lock_partitions,
    mark,
    pending_in,
    set_aside,
)

BATCH = 500
POLL_S = 0.5
AWAITED_POLL_S = 0.02
SEND_TIMEOUT_S = 2.0
LONGEST_PAUSE_S = 1.0
SHORTEST_PAUSE_S = 0.05

Results = Sequence[audit_pb2.AppendResult]
Send = Callable[[Sequence[audit_pb2.AuditEvent], float], Awaitable[Results]]

_THERE = (audit_pb2.APPEND_OUTCOME_APPENDED, audit_pb2.APPEND_OUTCOME_DUPLICATE)

log = structlog.get_logger(__name__)


class AnswerNotUnderstood(Exception):
    """The ledger's answer does not fit what was sent, so nothing can be concluded from it."""


class SenderRefused(Exception):
    """The ledger refuses the sender rather than an event: all of them wait until that is mended."""


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
        self._batch = BATCH
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
                waiting = self._waiting.get(event, set())
                waiting.discard(future)
                if not waiting:
                    self._waiting.pop(event, None)
        return {event: future.result() for event, future in futures.items() if future.done()}

    async def run(self) -> None:
        """Deliver until cancelled: at once when woken, twice a second otherwise.

        While a call waits for its events, another replica may have them: so look more often.
        """
        pause = SHORTEST_PAUSE_S
        while True:
            with contextlib.suppress(TimeoutError):
                # Not `wait_for`, which in Python 3.11 loses a cancellation that meets a wake.
                async with asyncio.timeout(AWAITED_POLL_S if self._waiting else POLL_S):
                    await self._awake.wait()
            self._awake.clear()
            try:
                while await self.deliver_once():
                    pass
                pause = SHORTEST_PAUSE_S
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
            mine = await lock_partitions(tx, self._producer)
            most = self._batch
            pending = await pending_in(tx, self._producer, mine, most)
            answered = await self._answered(pending)
            there = [(row, result) for row, result in answered if result.outcome in _THERE]
            refused = [(row, result) for row, result in answered if result.outcome not in _THERE]
            await mark(tx, {row.row_id: result.leaf_index for row, result in there})
            for row, result in refused:
                self._report(row, result)
                await set_aside(tx, row, result)
            acknowledged = {row.event_id: result.leaf_index for row, result in there}
            elsewhere = [event for event in self._waiting if event not in acknowledged]
            acknowledged |= await delivered(tx, elsewhere)
        for event, index in acknowledged.items():
            for waiter in self._waiting.pop(event, ()):
                if not waiter.done():
                    waiter.set_result(index)
        return len(pending) == most or len(answered) < len(pending) or bool(refused)

    async def _answered(
        self, pending: Sequence[Pending]
    ) -> list[tuple[Pending, audit_pb2.AppendResult]]:
        """Send the first events; return what the ledger says of each.

        After a failure the next batch is half as long, down to one event, and after a success
        twice as long: so one event because of which the ledger refuses whole batches is found,
        and one that takes too long gets through.
        """
        async with asyncio.timeout(SEND_TIMEOUT_S):
            while batch := pending[: self._batch]:
                events = [json_format.ParseDict(row.event, audit_pb2.AuditEvent()) for row in batch]
                try:
                    results = _fitting(batch, await self._send(events, SEND_TIMEOUT_S))
                except (Exception, asyncio.CancelledError) as error:
                    self._batch = max(1, len(batch) // 2)
                    if not (isinstance(error, DomainError) and error.kind is Kind.INVALID):
                        raise
                    if len(batch) > 1:
                        continue
                    results = [_refusal(batch[0], error)]
                else:
                    self._batch = min(BATCH, 2 * self._batch)
                return list(zip(batch, results, strict=True))
        return []

    def _report(self, row: Pending, result: audit_pb2.AppendResult) -> None:
        log.error(
            "event_refused",
            producer=self._producer,
            event_id=str(row.event_id),
            reason=result.reason,
            message=result.message,
        )


def _fitting(batch: Sequence[Pending], results: Results) -> Results:
    """Return the results if they speak of exactly these events and of nothing but them."""
    known = (*_THERE, audit_pb2.APPEND_OUTCOME_REFUSED)
    if [result.event_id for result in results] != [str(row.event_id) for row in batch]:
        raise AnswerNotUnderstood("The answer is about other events.")
    for result in results:
        if result.outcome not in known:
            raise AnswerNotUnderstood(f"Outcome {result.outcome} is not known.")
        if result.reason == ScopeRequired.reason:
            raise SenderRefused(result.message)
    return results


def _refusal(row: Pending, error: DomainError) -> audit_pb2.AppendResult:
    return audit_pb2.AppendResult(
        event_id=str(row.event_id),
        outcome=audit_pb2.APPEND_OUTCOME_REFUSED,
        reason=error.reason,
        message=str(error),
    )
