"""Tables the deployment service owns."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.dialects.postgresql import UUID as PG_UUID
from sqlalchemy.orm import Mapped, mapped_column

from shared.db.schema import Row, Schema, Versioned

EMPTY = text("''")
EPOCH = "'1970-01-01 00:00:00+00'::timestamptz"
OPEN = "('pending', 'in-progress', 'paused', 'cancelling')"


def _restrict(target: str) -> ForeignKey:
    return ForeignKey(target, ondelete="RESTRICT")


class Deployment(Versioned, Schema):
    """A release on its way to an environment, or there, or having been there.

    `requesters` are all people behind the request. `completed_seq` rises with every completion of
    a service in an environment; the row with the highest among `completed` is live.
    """

    __tablename__ = "deployments"
    __table_args__ = (
        ForeignKeyConstraint(
            ["release_id", "service_id"],
            ["releases.id", "releases.service_id"],
            ondelete="RESTRICT",
        ),
        Index(
            "uq_deployments_slot",
            "service_id",
            "environment_id",
            unique=True,
            postgresql_where=text("status IN ('in-progress', 'paused', 'cancelling')"),
        ),
        Index(
            "uq_deployments_open_rollback",
            "service_id",
            "environment_id",
            unique=True,
            postgresql_where=text(f"kind = 'rollback' AND status IN {OPEN}"),
        ),
        Index(
            "uq_deployments_open_release",
            "release_id",
            "environment_id",
            unique=True,
            postgresql_where=text(f"kind <> 'rollback' AND status IN {OPEN}"),
        ),
        Index(
            "uq_deployments_completed_seq",
            "service_id",
            "environment_id",
            "completed_seq",
            unique=True,
            postgresql_where=text("completed_seq IS NOT NULL"),
        ),
        Index(None, "release_id", "environment_id"),
        Index(None, "service_id", "environment_id", "deployed_at"),
        Index(
            None,
            "service_id",
            "environment_id",
            "touched_at",
            postgresql_where=text("touched_at IS NOT NULL"),
        ),
        Index(
            "ix_deployments_waiting",
            "service_id",
            "environment_id",
            "deployed_at",
            postgresql_where=text("status = 'pending'"),
        ),
        *(
            Index(None, *names, "completed_at", postgresql_where=text("completed_at IS NOT NULL"))
            for names in (("environment_id",), ("service_id", "environment_id"))
        ),
        Index(None, "environment_id"),
        Index(None, "deployed_by"),
        Index(
            None,
            "deadline",
            postgresql_where=text("status IN ('in-progress', 'paused', 'cancelling')"),
        ),
        Index(
            "ix_deployments_expires",
            text("LEAST(decide_by, start_by)"),
            postgresql_where=text("status = 'pending'"),
        ),
        Index(
            "ix_deployments_failures",
            "service_id",
            "environment_id",
            "completed_at",
            postgresql_where=text("failure_class IS NOT NULL"),
        ),
        Index(None, "status", "deployed_at"),
        Index(None, "deployed_at"),
        Index(None, "started_at"),
        Index(None, "updated_at"),
        # What has not started or ended is listed as if it had done so first of all.
        Index("ix_deployments_by_start", text(f"coalesce(started_at, {EPOCH})")),
        Index("ix_deployments_by_end", text(f"coalesce(completed_at, {EPOCH})")),
        Index("ix_deployments_artifact_digest", text("lower(artifact_digest)")),
        *(
            Index(None, name, postgresql_where=text(f"{name} IS NOT NULL"))
            for name in ("rollback_of", "rolled_back_by", "superseded_by")
        ),
        CheckConstraint("kind IN ('deploy', 'promote', 'rollback', 'redeploy')", name="kind"),
        CheckConstraint(
            "status IN ('pending', 'in-progress', 'paused', 'cancelling', 'completed', 'failed',"
            " 'cancelled', 'rejected', 'expired', 'superseded', 'rolled_back')",
            name="status",
        ),
        CheckConstraint("failure_class IN ('failed', 'errored')", name="failure_class"),
        CheckConstraint(
            "status <> 'completed' OR (completed_at IS NOT NULL AND completed_seq IS NOT NULL)",
            name="completed",
        ),
        CheckConstraint("(kind = 'rollback') = (rollback_of IS NOT NULL)", name="rollback"),
        CheckConstraint("not_before < start_by", name="start_times"),
    )

    release_id: Mapped[UUID]
    service_id: Mapped[UUID]
    environment_id: Mapped[UUID] = mapped_column(_restrict("environments.id"))
    deployed_by: Mapped[UUID] = mapped_column(_restrict("users.id"))
    requesters: Mapped[list[UUID]] = mapped_column(ARRAY(PG_UUID(as_uuid=True)))
    kind: Mapped[str]
    status: Mapped[str] = mapped_column(server_default=text("'pending'"))
    artifact_digest: Mapped[str]
    allow_downgrade: Mapped[bool] = mapped_column(server_default=text("false"))
    deployed_at: Mapped[datetime] = mapped_column(server_default=func.now())
    started_at: Mapped[datetime | None]
    touched_at: Mapped[datetime | None]
    completed_at: Mapped[datetime | None]
    completed_seq: Mapped[int | None] = mapped_column(BigInteger)
    decide_by: Mapped[datetime | None]
    not_before: Mapped[datetime | None]
    start_by: Mapped[datetime | None]
    failure_cause: Mapped[str | None]
    failure_class: Mapped[str | None]
    status_reason: Mapped[str] = mapped_column(server_default=EMPTY)
    rollback_of: Mapped[UUID | None] = mapped_column(_restrict("deployments.id"))
    rolled_back_by: Mapped[UUID | None] = mapped_column(_restrict("deployments.id"))
    superseded_by: Mapped[UUID | None] = mapped_column(_restrict("deployments.id"))
    deadline: Mapped[datetime | None]


class Approval(Row, Schema):
    """One person asked to decide, or having decided; a decision is bound to what it is about.

    `overrides_version` is how many overrides the deployment had when it was given.
    """

    __tablename__ = "approvals"
    __table_args__ = (
        Index(
            "uq_approvals_current",
            "deployment_id",
            "approver_id",
            unique=True,
            postgresql_where=text("status IN ('pending', 'approved', 'rejected')"),
        ),
        Index(None, "deployment_id"),
        Index(None, "approver_id", "status"),
        Index(None, "created_at"),
        CheckConstraint(
            "status IN ('pending', 'approved', 'rejected', 'expired', 'revoked')", name="status"
        ),
        CheckConstraint(
            "status NOT IN ('approved', 'rejected') OR (decided_at IS NOT NULL"
            " AND approver_role IS NOT NULL AND artifact_digest IS NOT NULL"
            " AND policy_version IS NOT NULL)",
            name="decided",
        ),
    )

    deployment_id: Mapped[UUID] = mapped_column(ForeignKey("deployments.id", ondelete="CASCADE"))
    approver_id: Mapped[UUID] = mapped_column(_restrict("users.id"))
    status: Mapped[str] = mapped_column(server_default=text("'pending'"))
    comment: Mapped[str] = mapped_column(server_default=EMPTY)
    decided_at: Mapped[datetime | None]
    approver_role: Mapped[str | None]
    artifact_digest: Mapped[str | None]
    policy_version: Mapped[int | None] = mapped_column(BigInteger)
    overrides_version: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))


class Rollback(Row, Schema):
    """An undoing: of which deployment, to which release, and the deployment that does it."""

    __tablename__ = "rollbacks"
    __table_args__ = (
        Index("uq_rollbacks_rollback_deployment_id", "rollback_deployment_id", unique=True),
        Index(None, "deployment_id"),
        Index(None, "initiated_by"),
        Index(None, "from_release_id"),
        Index(None, "to_release_id"),
        Index(None, "status"),
        Index(None, "completed_at"),
        Index(None, "created_at"),
        CheckConstraint("status IN ('in-progress', 'completed', 'failed')", name="status"),
    )

    deployment_id: Mapped[UUID] = mapped_column(_restrict("deployments.id"))
    initiated_by: Mapped[UUID] = mapped_column(_restrict("users.id"))
    from_release_id: Mapped[UUID] = mapped_column(_restrict("releases.id"))
    to_release_id: Mapped[UUID] = mapped_column(_restrict("releases.id"))
    rollback_deployment_id: Mapped[UUID] = mapped_column(_restrict("deployments.id"))
    status: Mapped[str] = mapped_column(server_default=text("'in-progress'"))
    reason: Mapped[str]
    completed_at: Mapped[datetime | None]


class DeploymentMetric(Row, Schema):
    """A figure measured about a deployment. Never NaN or infinite."""

    __tablename__ = "deployment_metrics"
    __table_args__ = (
        Index(None, "deployment_id", "metric_name"),
        Index(None, "metric_name", "created_at"),
        CheckConstraint(
            "metric_value > '-Infinity'::double precision"
            " AND metric_value < 'Infinity'::double precision",
            name="finite",
        ),
    )

    deployment_id: Mapped[UUID] = mapped_column(ForeignKey("deployments.id", ondelete="CASCADE"))
    metric_name: Mapped[str]
    metric_value: Mapped[float] = mapped_column(Double)
    unit: Mapped[str] = mapped_column(server_default=EMPTY)


class PipelineStage(Row, Schema):
    """A step of a deployment's pipeline.

    `appended_bytes` is what was appended to the output of this attempt, in chunks; while it is 0,
    `output` is all of the output, else its end. `counted_bytes` is the same with small chunks taken
    for larger ones, so that it bounds their number too.
    """

    __tablename__ = "pipeline_stages"
    __table_args__ = (
        UniqueConstraint("deployment_id", "name"),
        UniqueConstraint("deployment_id", "stage_order"),
        Index(None, "status"),
        Index(None, "deadline", postgresql_where=text("status = 'in-progress'")),
        CheckConstraint("attempt > 0", name="attempt"),
        CheckConstraint(
            "appended_bytes >= 0 AND counted_bytes >= appended_bytes", name="appended_bytes"
        ),
        CheckConstraint(
            "status IN ('pending', 'in-progress', 'completed', 'failed', 'aborted', 'skipped',"
            " 'ignored')",
            name="status",
        ),
        CheckConstraint(
            "(status <> 'in-progress' OR (started_at IS NOT NULL AND completed_at IS NULL))"
            " AND (status NOT IN ('completed', 'failed')"
            " OR (started_at IS NOT NULL AND completed_at IS NOT NULL))",
            name="times",
        ),
    )

    deployment_id: Mapped[UUID] = mapped_column(ForeignKey("deployments.id", ondelete="CASCADE"))
    name: Mapped[str]
    stage_order: Mapped[int]
    status: Mapped[str] = mapped_column(server_default=text("'pending'"))
    output: Mapped[str] = mapped_column(server_default=EMPTY)
    started_at: Mapped[datetime | None]
    completed_at: Mapped[datetime | None]
    attempt: Mapped[int] = mapped_column(server_default=text("1"))
    reason: Mapped[str] = mapped_column(server_default=EMPTY)
    deadline: Mapped[datetime | None]
    appended_bytes: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    counted_bytes: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))


class EnvironmentPolicy(Versioned, Schema):
    """One version of an environment's policy.

    All of an environment are one aggregate, whose version is the highest `row_version` of them.
    """

    __tablename__ = "environment_policies"
    __table_args__ = (
        UniqueConstraint("environment_id", "policy_version"),
        Index(None, "published_by"),
        CheckConstraint("policy_version > 0", name="policy_version"),
        CheckConstraint("jsonb_typeof(policy) = 'object'", name="policy"),
    )

    environment_id: Mapped[UUID] = mapped_column(ForeignKey("environments.id", ondelete="CASCADE"))
    policy_version: Mapped[int] = mapped_column(BigInteger)
    policy: Mapped[Any] = mapped_column(JSONB)
    published_by: Mapped[UUID | None] = mapped_column(_restrict("users.id"))
    reason: Mapped[str] = mapped_column(server_default=EMPTY)


class ReleaseMark(Versioned, Schema):
    """A release marked bad in an environment, or everywhere when `environment_id` is NULL."""

    __tablename__ = "release_marks"
    __table_args__ = (
        Index(
            "uq_release_marks_current",
            "release_id",
            "environment_id",
            unique=True,
            postgresql_nulls_not_distinct=True,
            postgresql_where=text("cleared_at IS NULL"),
        ),
        Index(None, "environment_id"),
        Index(None, "marked_by"),
        Index(None, "deployment_id"),
        Index(None, "cleared_by"),
        Index(None, "created_at"),
        CheckConstraint("(cleared_at IS NULL) = (cleared_by IS NULL)", name="cleared"),
    )

    release_id: Mapped[UUID] = mapped_column(_restrict("releases.id"))
    environment_id: Mapped[UUID | None] = mapped_column(_restrict("environments.id"))
    reason: Mapped[str]
    marked_by: Mapped[UUID] = mapped_column(_restrict("users.id"))
    deployment_id: Mapped[UUID | None] = mapped_column(_restrict("deployments.id"))
    cleared_at: Mapped[datetime | None]
    cleared_by: Mapped[UUID | None] = mapped_column(_restrict("users.id"))
    cleared_because: Mapped[str | None]
