"""Webhooks: where events are sent, how far each one is, and what came back."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    Integer,
    SmallInteger,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from shared.db.schema import Schema, Versioned


class Webhook(Versioned, Schema):
    """Where events are sent, and which. Empty arrays mean all; its secrets are nowhere stored."""

    __tablename__ = "webhooks"
    __table_args__ = (
        CheckConstraint("name <> ''", name="name"),
        CheckConstraint("url <> ''", name="url"),
        CheckConstraint("paused OR paused_because = ''", name="paused"),
        CheckConstraint(
            "secret_generation > 1 OR secret_generation = 1 AND previous_secret_until IS NULL",
            name="secret_generation",
        ),
        Index("uq_webhooks_name", text("lower(name)"), unique=True),
    )

    name: Mapped[str]
    url: Mapped[str]
    event_types: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    environments: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    services: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    description: Mapped[str] = mapped_column(server_default=text("''"))
    paused: Mapped[bool] = mapped_column(server_default=text("false"))
    paused_because: Mapped[str] = mapped_column(server_default=text("''"))
    secret_generation: Mapped[int] = mapped_column(Integer, server_default=text("1"))
    previous_secret_until: Mapped[datetime | None]


class WebhookProgress(Schema):
    """How far a webhook is: the first entry of the ledger, and event of it, not yet passed."""

    __tablename__ = "webhook_progress"
    __table_args__ = (CheckConstraint("next_index >= 0 AND next_part >= 0", name="next"),)

    webhook_id: Mapped[UUID] = mapped_column(
        ForeignKey("webhooks.id", ondelete="CASCADE"), primary_key=True
    )
    next_index: Mapped[int] = mapped_column(BigInteger)
    next_part: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    failing_since: Mapped[datetime | None]
    delivered_at: Mapped[datetime | None]
    last_error: Mapped[str] = mapped_column(server_default=text("''"))


class WebhookDelivery(Schema):
    """An event that was sent, and what came back last."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        CheckConstraint("state IN ('delivered', 'retrying', 'given-up', 'refused')", name="state"),
        CheckConstraint("attempts > 0", name="attempts"),
        CheckConstraint(
            "(next_attempt_at IS NULL) = (state <> 'retrying')", name="next_attempt_at"
        ),
        Index(None, "last_attempt_at"),
        Index(None, "webhook_id", "state", "leaf_index"),
    )

    webhook_id: Mapped[UUID] = mapped_column(
        ForeignKey("webhooks.id", ondelete="CASCADE"), primary_key=True
    )
    leaf_index: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    part: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    event_id: Mapped[str]
    event_type: Mapped[str]
    state: Mapped[str]
    attempts: Mapped[int] = mapped_column(Integer)
    first_attempt_at: Mapped[datetime]
    last_attempt_at: Mapped[datetime]
    next_attempt_at: Mapped[datetime | None]
    status_code: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    error: Mapped[str] = mapped_column(server_default=text("''"))
    latency_ms: Mapped[int] = mapped_column(Integer, server_default=text("0"))
