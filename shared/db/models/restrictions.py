"""Tables of what keeps deployments from starting, and of who was let through all the same.

The deployment service owns them.
"""

from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    Computed,
    Date,
    ForeignKey,
    Index,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.dialects.postgresql import UUID as PG_UUID
from sqlalchemy.orm import Mapped, mapped_column

from shared.db.schema import Row, Schema, Versioned


def _restrict(target: str) -> ForeignKey:
    return ForeignKey(target, ondelete="RESTRICT")


class Lock(Versioned, Schema):
    """That nothing starts of a service, in an environment, of the pair, or at all.

    NULL for service or environment is all of them. `ends_at` is infinity when nothing ends it.
    """

    __tablename__ = "locks"
    __table_args__ = (
        Index(None, "service_id"),
        Index(None, "environment_id"),
        Index(None, "locked_by"),
        Index(None, "released_by"),
        Index(None, "ends_at"),
        Index(None, "created_at"),
        CheckConstraint("reason <> ''", name="reason"),
        CheckConstraint("expires_at > created_at", name="expires_at"),
        CheckConstraint(
            "(released_at IS NULL) = (released_by IS NULL)"
            " AND (released_at IS NULL) = (released_because IS NULL)"
            " AND (released_at IS NULL OR released_at >= created_at)",
            name="released",
        ),
    )

    service_id: Mapped[UUID | None] = mapped_column(_restrict("services.id"))
    environment_id: Mapped[UUID | None] = mapped_column(_restrict("environments.id"))
    reason: Mapped[str]
    includes_rollbacks: Mapped[bool] = mapped_column(server_default=text("false"))
    locked_by: Mapped[UUID] = mapped_column(_restrict("users.id"))
    expires_at: Mapped[datetime | None]
    released_at: Mapped[datetime | None]
    released_by: Mapped[UUID | None] = mapped_column(_restrict("users.id"))
    released_because: Mapped[str | None]
    ends_at: Mapped[datetime] = mapped_column(
        Computed(
            "coalesce(least(released_at, expires_at), 'infinity'::timestamptz)", persisted=True
        )
    )


class GateOverride(Versioned, Schema):
    """That a deployment was let past a gate. `authors` are all people behind it."""

    __tablename__ = "gate_overrides"
    __table_args__ = (
        UniqueConstraint("deployment_id", "gate"),
        Index(None, "author_id"),
        Index(None, "created_at"),
        CheckConstraint(
            "gate IN ('promotion_order', 'soak', 'dependency', 'freeze', 'lock', 'queue',"
            " 'irreversible')",
            name="gate",
        ),
        CheckConstraint("reason <> ''", name="reason"),
        CheckConstraint("author_id = ANY (authors)", name="authors"),
    )

    deployment_id: Mapped[UUID] = mapped_column(ForeignKey("deployments.id", ondelete="CASCADE"))
    gate: Mapped[str]
    reason: Mapped[str]
    author_id: Mapped[UUID] = mapped_column(_restrict("users.id"))
    authors: Mapped[list[UUID]] = mapped_column(ARRAY(PG_UUID(as_uuid=True)))


class FreezeWindow(Versioned, Schema):
    """When nothing may start, or only then.

    `schedule` has one member: `once`, `weekly` or `recurring`. Empty `environment_types` are all.
    """

    __tablename__ = "freeze_windows"
    __table_args__ = (
        Index("uq_freeze_windows_name", text("lower(name)"), unique=True),
        CheckConstraint("name <> ''", name="name"),
        CheckConstraint("kind IN ('deny', 'allow')", name="kind"),
        CheckConstraint("reason <> ''", name="reason"),
        CheckConstraint(
            "num_nonnulls(schedule -> 'once', schedule -> 'weekly', schedule -> 'recurring') = 1"
            " AND schedule - '{once,weekly,recurring}'::text[] = '{}'",
            name="schedule",
        ),
        CheckConstraint(
            "environment_types <@ '{dev,staging,prod}'::text[]", name="environment_types"
        ),
    )

    name: Mapped[str]
    kind: Mapped[str]
    reason: Mapped[str]
    time_zone: Mapped[str]
    schedule: Mapped[dict[str, Any]] = mapped_column(JSONB)
    environment_types: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    includes_rollbacks: Mapped[bool] = mapped_column(server_default=text("false"))
    exception_dates: Mapped[list[date]] = mapped_column(ARRAY(Date), server_default=text("'{}'"))
    archived_at: Mapped[datetime | None]


class FreezeWindowSubject(Row, Schema):
    """What a freeze window is about: a service, or one that is `exempt`, a team, an environment.

    Where a window has none of a kind, it is about all of that kind.
    """

    __tablename__ = "freeze_window_subjects"
    __table_args__ = (
        UniqueConstraint("freeze_window_id", "service_id"),
        UniqueConstraint("freeze_window_id", "team_id"),
        UniqueConstraint("freeze_window_id", "environment_id"),
        Index(None, "service_id"),
        Index(None, "team_id"),
        Index(None, "environment_id"),
        CheckConstraint("num_nonnulls(service_id, team_id, environment_id) = 1", name="one"),
        CheckConstraint("NOT exempt OR service_id IS NOT NULL", name="exempt"),
    )

    freeze_window_id: Mapped[UUID] = mapped_column(
        ForeignKey("freeze_windows.id", ondelete="CASCADE")
    )
    service_id: Mapped[UUID | None] = mapped_column(_restrict("services.id"))
    team_id: Mapped[UUID | None] = mapped_column(_restrict("teams.id"))
    environment_id: Mapped[UUID | None] = mapped_column(_restrict("environments.id"))
    exempt: Mapped[bool] = mapped_column(server_default=text("false"))
