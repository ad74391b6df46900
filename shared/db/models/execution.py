"""Tables of the deployment service about the execution of deployments: leases and attempts."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    PrimaryKeyConstraint,
    SmallInteger,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from shared.db.schema import Row, Schema

EMPTY = text("''")


def _restrict(target: str) -> ForeignKey:
    return ForeignKey(target, ondelete="RESTRICT")


class DeploymentLease(Row, Schema):
    """That an executor drives a deployment; the row is there as long as the lease is.

    `token` fences: it changes with every claim, and what comes with an old one is refused.
    """

    __tablename__ = "deployment_leases"
    __table_args__ = (
        UniqueConstraint("deployment_id"),
        Index(None, "expires_at"),
        Index(None, "holder_id"),
        CheckConstraint("executor <> ''", name="executor"),
        CheckConstraint("duration_seconds > 0", name="duration"),
    )

    deployment_id: Mapped[UUID] = mapped_column(ForeignKey("deployments.id", ondelete="CASCADE"))
    token: Mapped[UUID]
    executor: Mapped[str]
    holder_id: Mapped[UUID] = mapped_column(_restrict("users.id"))
    duration_seconds: Mapped[int]
    claimed_at: Mapped[datetime]
    expires_at: Mapped[datetime]


class DeadlineWatch(Schema):
    """The one row that says when a replica looked last for what is due.

    `stood_still_until` is when a look found last that nobody could report or decide.
    """

    __tablename__ = "deadline_watch"
    __table_args__ = (
        CheckConstraint("id = 1", name="single"),
        {"postgresql_with": {"fillfactor": "10"}},
    )

    id: Mapped[int] = mapped_column(SmallInteger, primary_key=True, server_default=text("1"))
    looked_at: Mapped[datetime]
    stood_still_until: Mapped[datetime | None]


class StageAttempt(Row, Schema):
    """One attempt at a stage. Of the newest one the output is that of the stage itself.

    NULL for who started it is an attempt older than this table, for who ended it nobody: time did.
    """

    __tablename__ = "stage_attempts"
    __table_args__ = (
        UniqueConstraint("stage_id", "attempt"),
        Index(None, "started_by"),
        Index(None, "ended_by"),
        CheckConstraint("attempt > 0", name="attempt"),
        CheckConstraint(
            "status IN ('in-progress', 'completed', 'failed', 'aborted')", name="status"
        ),
        CheckConstraint("(status = 'in-progress') = (completed_at IS NULL)", name="times"),
    )

    stage_id: Mapped[UUID] = mapped_column(ForeignKey("pipeline_stages.id", ondelete="CASCADE"))
    attempt: Mapped[int]
    status: Mapped[str]
    output: Mapped[str] = mapped_column(server_default=EMPTY)
    executor: Mapped[str] = mapped_column(server_default=EMPTY)
    started_by: Mapped[UUID | None] = mapped_column(_restrict("users.id"))
    ended_by: Mapped[UUID | None] = mapped_column(_restrict("users.id"))
    reason: Mapped[str] = mapped_column(server_default=EMPTY)
    started_at: Mapped[datetime]
    completed_at: Mapped[datetime | None]


class StageOutputChunk(Schema):
    """A piece of what an attempt printed, at its place; the pieces follow on one another.

    Rows are added and never change.
    """

    __tablename__ = "stage_output_chunks"
    __table_args__ = (
        PrimaryKeyConstraint("stage_id", "attempt", "start_byte"),
        CheckConstraint("attempt > 0 AND start_byte >= 0", name="place"),
        CheckConstraint("size_bytes > 0 AND size_bytes = octet_length(content)", name="size"),
    )

    stage_id: Mapped[UUID] = mapped_column(ForeignKey("pipeline_stages.id", ondelete="CASCADE"))
    attempt: Mapped[int]
    start_byte: Mapped[int] = mapped_column(BigInteger)
    size_bytes: Mapped[int]
    content: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
