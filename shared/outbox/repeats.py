"""Repeatable calls: the answer to a call with a `request_id` is stored with the change it made."""

import hashlib
import hmac
from dataclasses import dataclass
from uuid import UUID

from google.protobuf.message import Message
from release_manager.common.v1 import access_pb2
from sqlalchemy import Boolean, ColumnElement, delete, func, literal_column, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.db.models.outbox import IdempotencyRecord
from shared.errors import RequestIdReused
from shared.identity.actor import Actor, Call


@dataclass(frozen=True)
class Memory:
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


def memory_of(call: Call, request: Message, secret: bytes) -> Memory | None:
    """Return where the answer of a call is stored; None for one that cannot be repeated.

    That is one without a request id, one of nobody, and one that stores nothing at all. `secret`
    keys the fingerprint of a request with a password in it: whoever reads the table must not find
    out by trying which one it was.
    """
    request_id: str = getattr(request, "request_id", "")
    if not request_id or call.actor is None or getattr(request, "validate_only", False):
        return None
    actor_id, fingerprint = call.actor.user_id, _fingerprint(request, call.actor, secret)
    return Memory(actor_id, call.method, UUID(request_id), fingerprint)


def _fingerprint(request: Message, actor: Actor, secret: bytes) -> bytes:
    """Return what two calls with the same id must have in common: what they ask, and for whom."""
    copy = type(request)()
    copy.CopyFrom(request)
    copy.ClearField("request_id")
    content = copy.SerializeToString(deterministic=True)
    behalf = actor.on_behalf_of.bytes if actor.on_behalf_of is not None else b""
    fields = request.DESCRIPTOR.fields
    if any(field.GetOptions().Extensions[access_pb2.sensitive] for field in fields):
        return hmac.digest(secret, b"request" + behalf + content, "sha256")
    return hashlib.sha256(behalf + content).digest()
