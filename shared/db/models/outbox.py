"""Events on their way to the audit ledger, what was seen of it, and answers of repeatable calls."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Identity,
    Index,
    LargeBinary,
    SmallInteger,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from shared.db.schema import Schema


class OutboxEvent(Schema):
    """An event of a committed change. `sent_at` is set once the ledger has acknowledged it."""

    __tablename__ = "outbox"
    __table_args__ = (
        UniqueConstraint("event_id"),
        UniqueConstraint("producer", "aggregate", "aggregate_seq"),
        Index(
            "ix_outbox_pending",
            "producer",
            "partition",
            "id",
            postgresql_where=text("sent_at IS NULL"),
        ),
        Index(None, "sent_at", postgresql_where=text("sent_at IS NOT NULL")),
        CheckConstraint("aggregate_seq > 0", name="aggregate_seq"),
        CheckConstraint("sent_at IS NULL OR leaf_index IS NOT NULL", name="sent"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    event_id: Mapped[UUID]
    producer: Mapped[str]
    aggregate: Mapped[str]
    aggregate_seq: Mapped[int] = mapped_column(BigInteger)
    partition: Mapped[int] = mapped_column(SmallInteger)
    event: Mapped[Any] = mapped_column(JSONB)
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    sent_at: Mapped[datetime | None]
    leaf_index: Mapped[int | None] = mapped_column(BigInteger)
    attempts: Mapped[int] = mapped_column(server_default=text("0"))
    last_error: Mapped[str | None]
    original: Mapped[Any | None] = mapped_column(JSONB)
    parked_at: Mapped[datetime | None]


class IdempotencyRecord(Schema):
    """The answer to a call with a request id, kept for at least 24 hours."""

    __tablename__ = "idempotency_records"
    __table_args__ = (Index(None, "created_at"),)

    actor_id: Mapped[UUID] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), primary_key=True
    )
    method: Mapped[str] = mapped_column(primary_key=True)
    request_id: Mapped[UUID] = mapped_column(primary_key=True)
    fingerprint: Mapped[bytes] = mapped_column(LargeBinary)
    response: Mapped[bytes | None] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    touched_at: Mapped[datetime] = mapped_column(server_default=func.now())


class WitnessedCheckpoint(Schema):
    """The newest checkpoint of the ledger that a producer has seen, for each name of the ledger.

    It is replaced only by one that was proved to be its continuation.
    """

    __tablename__ = "witnessed_checkpoints"
    __table_args__ = (
        CheckConstraint("tree_size >= 0", name="tree_size"),
        CheckConstraint("octet_length(root) = 32", name="root"),
    )

    producer: Mapped[str] = mapped_column(primary_key=True)
    origin: Mapped[str] = mapped_column(primary_key=True)
    tree_size: Mapped[int] = mapped_column(BigInteger)
    root: Mapped[bytes] = mapped_column(LargeBinary)
    note: Mapped[str]
    seen_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
