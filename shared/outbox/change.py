"""One change: one transaction, one answer, one audit entry for each version it makes.

Every RPC that changes something runs through `Changes.answer`. It makes the call repeatable
(`request_id`), supports `validate_only`, opens the transaction, lets the operation do its work,
stores answer and audit events in the same transaction, and after the commit waits a moment for
the ledger. An operation sees a `Change` and knows nothing of the rest.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, TypeVar
from uuid import UUID

from google.protobuf.message import Message
from release_manager.common.v1 import audit_receipt_pb2
from sqlalchemy import Boolean, ColumnElement, delete, func, literal_column, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.db.engine import Database
from shared.db.models.outbox import IdempotencyRecord
from shared.errors import CredentialsMissing, DomainError, RequestIdReused
from shared.identity.actor import Actor, Call, current_call
from shared.ids import new_id
from shared.outbox.append import append_events
from shared.outbox.events import Event
from shared.outbox.relay import Relay

ACKNOWLEDGEMENT_WAIT_S = 0.25

Result = TypeVar("Result")
Response = TypeVar("Response", bound="ChangeResponse")


class ChangeResponse(Protocol):
    """What the answers of all changing RPCs have in common."""

    @property
    def audit(self) -> audit_receipt_pb2.AuditReceipt:
        """Where the audit entries of the change are."""

    def SerializeToString(self, *, deterministic: bool = ...) -> bytes:  # noqa: N802
        """Return the message in wire format."""

    def MergeFromString(self, serialized: bytes) -> int:  # noqa: N802
        """Merge a message in wire format."""


@dataclass
class Change:
    """A change under way: its transaction, who makes it, and the moment it counts as made.

    `now` is the database's clock when the transaction began; every time that the change stores
    comes from it.
    """

    tx: AsyncConnection
    call: Call
    now: datetime
    events: list[tuple[UUID, Event]] = field(default_factory=list)
    refusal: DomainError | None = None

    @property
    def actor(self) -> Actor:
        """Who makes the change; raises CredentialsMissing on an open RPC without a caller."""
        if self.call.actor is None:
            raise CredentialsMissing
        return self.call.actor

    def record(self, event: Event) -> UUID:
        """Add an audit event that is stored with the change; returns its id."""
        event_id = new_id()
        self.events.append((event_id, event))
        return event_id

    def refuse(self, error: DomainError) -> None:
        """Answer with `error`, and yet commit what was written, such as an expiry found out now."""
        self.refusal = error


class _NothingStored(Exception):  # noqa: N818  (not an error: it ends a rehearsal)
    """Leaves the transaction of a `validate_only` call so that it rolls back."""


class Backlog(Protocol):
    """Knows whether changes may be made while the ledger lags behind."""

    def admit(self, method: str) -> None:
        """Raise AuditBacklog when `method` must wait until the ledger has caught up."""


class Changes:
    """Makes the changes of one service, which is the `producer` of their audit events."""

    def __init__(
        self,
        db: Database,
        relay: Relay,
        producer: str,
        backlog: Backlog,
        wait_s: float = ACKNOWLEDGEMENT_WAIT_S,
    ) -> None:
        """Use the service's database and the relay that delivers its events."""
        self._wait_s = wait_s
        self._db = db
        self._relay = relay
        self._producer = producer
        self._backlog = backlog
        self._running: set[asyncio.Task[object]] = set()

    async def answer(
        self,
        request: Message,
        response_type: Callable[[], Response],
        work: Callable[[Change], Awaitable[Result]],
        encode: Callable[[Result], Response],
        *,
        remember: bool = True,
    ) -> Response:
        """Run `work` as one change and return its encoded result with the audit receipt.

        `remember=False` is for answers with secrets in them, which must not be stored. Once begun,
        a change runs to its end even if the caller goes away, so that no transaction is left half
        way and a repeat with the same `request_id` finds a definite state.
        """
        self._backlog.admit(current_call.get().method)
        task = asyncio.create_task(
            self._transact(request, response_type, work, encode, remember=remember)
        )
        self._running.add(task)
        task.add_done_callback(self._forget)
        response, events = await asyncio.shield(task)
        if events:
            self._relay.wake()
            acknowledged = await self._relay.acknowledged(events, self._wait_s)
            _write_receipt(response.audit, events, acknowledged)
        return response

    async def settle(self) -> None:
        """Wait for changes whose callers have gone away; part of a graceful stop."""
        await asyncio.gather(*self._running, return_exceptions=True)

    def _forget(self, task: asyncio.Task[object]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # marks it as seen; the caller who waited has had it raised

    async def _transact(
        self,
        request: Message,
        response_type: Callable[[], Response],
        work: Callable[[Change], Awaitable[Result]],
        encode: Callable[[Result], Response],
        *,
        remember: bool,
    ) -> tuple[Response, list[UUID]]:
        call = current_call.get()
        rehearsal: bool = getattr(request, "validate_only", False)
        request_id: str = getattr(request, "request_id", "")
        memory = None
        if remember and request_id and call.actor is not None and not rehearsal:
            memory = _Memory(
                call.actor.user_id, call.method, UUID(request_id), _fingerprint(request)
            )
        change: Change | None = None
        try:
            async with self._db.transaction() as tx:
                now = (await tx.execute(select(func.clock_timestamp()))).scalar_one()
                if memory and (stored := await memory.recall(tx)) is not None:
                    response = response_type()
                    response.MergeFromString(stored)
                    return response, [UUID(event) for event in response.audit.event_ids]
                change = Change(tx, call, now)
                result = await work(change)
                if change.refusal is None:
                    response = encode(result)
                if rehearsal:
                    raise _NothingStored
                await append_events(
                    tx, producer=self._producer, call=call, now=change.now, events=change.events
                )
                if memory and change.refusal is None:
                    response.audit.event_ids.extend(str(event) for event, _ in change.events)
                    await memory.store(tx, response.SerializeToString(deterministic=True))
                elif memory:
                    await memory.erase(tx)
        except _NothingStored:
            pass
        if change is not None and change.refusal is not None:
            self._relay.wake()
            raise change.refusal
        if rehearsal or change is None:
            return response, []
        return response, [event_id for event_id, _ in change.events]


@dataclass(frozen=True)
class _Memory:
    """The stored answer of one call, found by who made it, which RPC, and the request id."""

    actor_id: UUID
    method: str
    request_id: UUID
    fingerprint: bytes

    async def recall(self, tx: AsyncConnection) -> bytes | None:
        """Return the answer of an earlier call with this id, or None and claim the id.

        The repeat updates the row rather than only reading it, so that its own commit proves that
        the first one is durable; an unfinished twin is waited for.
        """
        record = IdempotencyRecord
        claim = (
            insert(record)
            .values(
                actor_id=self.actor_id,
                method=self.method,
                request_id=self.request_id,
                fingerprint=self.fingerprint,
            )
            .on_conflict_do_update(
                index_elements=[record.actor_id, record.method, record.request_id],
                set_={"touched_at": func.clock_timestamp()},
            )
            .returning(record.fingerprint, record.response, literal_column("xmax = 0", Boolean()))
        )
        fingerprint, response, fresh = (await tx.execute(claim)).one()
        if fresh:
            return None
        if fingerprint != self.fingerprint:
            raise RequestIdReused(request_id=self.request_id)
        return response

    async def store(self, tx: AsyncConnection, response: bytes) -> None:
        """Keep the answer with the change."""
        await tx.execute(update(IdempotencyRecord).where(*self._key()).values(response=response))

    async def erase(self, tx: AsyncConnection) -> None:
        """Let the id be used again, since the call was refused."""
        await tx.execute(delete(IdempotencyRecord).where(*self._key()))

    def _key(self) -> tuple[ColumnElement[bool], ...]:
        return (
            IdempotencyRecord.actor_id == self.actor_id,
            IdempotencyRecord.method == self.method,
            IdempotencyRecord.request_id == self.request_id,
        )


def _fingerprint(request: Message) -> bytes:
    """Return what two requests with the same id must have in common."""
    copy = type(request)()
    copy.CopyFrom(request)
    copy.ClearField("request_id")
    return hashlib.sha256(copy.SerializeToString(deterministic=True)).digest()


def _write_receipt(
    receipt: audit_receipt_pb2.AuditReceipt, events: list[UUID], acknowledged: dict[UUID, int]
) -> None:
    """State what is known of the entries now; a stored answer may have said less."""
    receipt.Clear()
    receipt.event_ids.extend(str(event) for event in events)
    if all(event in acknowledged for event in events):
        receipt.state = audit_receipt_pb2.AUDIT_STATE_RECORDED
        receipt.leaf_indexes.extend(acknowledged[event] for event in events)
    else:
        receipt.state = audit_receipt_pb2.AUDIT_STATE_DEFERRED
