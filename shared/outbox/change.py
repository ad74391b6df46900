"""One change: one transaction, one answer, one audit entry for each version it makes.

Every RPC that changes something runs through `Changes.answer`. It makes the call repeatable
(`request_id`), supports `validate_only`, opens the transaction, lets the operation do its work,
stores answer and audit events in the same transaction, and after the commit waits a moment for
the ledger. An operation sees a `Change` and knows nothing of the rest.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, TypeVar
from uuid import UUID

from google.protobuf.message import Message
from release_manager.common.v1 import audit_receipt_pb2
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.db.engine import Database
from shared.domain_error import DomainError
from shared.errors import CredentialsMissing
from shared.identity.actor import Actor, Call, current_call
from shared.ids import new_id
from shared.outbox.append import append_events
from shared.outbox.events import Event
from shared.outbox.relay import Relay
from shared.outbox.repeats import memory_of
from shared.rpc.interceptors.deadline import time_left

ACKNOWLEDGEMENT_WAIT_S = 0.25
# Kept back of the caller's deadline for the answer itself, and at most the share of what is left.
ANSWER_S = 0.1
ANSWER_SHARE = 0.5

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


class _NothingStored(Exception):
    """Leaves the transaction of a `validate_only` call so that it rolls back."""


class Backlog(Protocol):
    """Knows whether changes may be made while the ledger lags behind."""

    def admit(self, method: str) -> None:
        """Raise AuditBacklog when `method` must wait until the ledger has caught up."""


class Changes:
    """Makes the changes of one service, which is the `producer` of their audit events."""

    def __init__(  # noqa: PLR0913  (what a change goes through)
        self,
        db: Database,
        relay: Relay,
        producer: str,
        backlog: Backlog,
        wait_s: float = ACKNOWLEDGEMENT_WAIT_S,
        *,
        secret: bytes | None = None,
    ) -> None:
        """Use the service's database and the relay that delivers its events.

        `secret` keys what is stored of requests with secrets in them, and is the same in all
        replicas; without one only this process recognizes a repeat of such a request.
        """
        self._wait_s = wait_s
        self._secret = secret or secrets.token_bytes(32)
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
            acknowledged = await self._relay.acknowledged(events, self._patience())
            _write_receipt(response.audit, events, acknowledged)
        return response

    async def settle(self) -> None:
        """Wait for changes whose callers have gone away; part of a graceful stop."""
        await asyncio.gather(*self._running, return_exceptions=True)

    def _patience(self) -> float:
        """Return the seconds to wait for the ledger.

        A caller with little time left gets its answer before that ends, so that what was committed
        is no error. It is one all the same when this process stands still for longer than what is
        kept back: a repetition with the same `request_id` finds out.
        """
        left = time_left()
        if left is None:
            return self._wait_s
        return min(self._wait_s, left - min(ANSWER_S, left * ANSWER_SHARE))

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
        memory = memory_of(call, request, self._secret) if remember else None
        change: Change | None = None
        with suppress(_NothingStored):
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
        if change is not None and change.refusal is not None:
            self._relay.wake()
            raise change.refusal
        if rehearsal or change is None:
            return response, []
        return response, [event_id for event_id, _ in change.events]


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
