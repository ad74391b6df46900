"""What belongs to deployments, for reading: stages, approvals, figures and rollbacks."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Select, case, func, select
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import aliased

from services.deployment.store.fields import APPROVALS, ROLLBACKS, Expressions
from shared.db.keyset import Page, PageRequest, page, sorted_by
from shared.db.models.catalog import Environment, Release, Service, Team
from shared.db.models.deployment import (
    Approval,
    Deployment,
    DeploymentMetric,
    PipelineStage,
    Rollback,
)
from shared.db.models.identity import User


@dataclass(frozen=True, slots=True)
class StageRow:
    """A stage; `output` is empty in lists, of what was appended it is the end.

    `printed` is how many bytes there are in all.
    """

    id: UUID
    deployment_id: UUID
    name: str
    stage_order: int
    status: str
    started_at: datetime | None
    completed_at: datetime | None
    attempt: int
    reason: str
    deadline: datetime | None
    printed: int
    output: str = ""


@dataclass(frozen=True, slots=True)
class ApprovalRow:
    """A person asked, or having decided."""

    id: UUID
    deployment_id: UUID
    approver_id: UUID
    approver: str
    status: str
    comment: str
    decided_at: datetime | None
    approver_role: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class MetricRow:
    """A figure."""

    id: UUID
    deployment_id: UUID
    name: str
    value: float
    unit: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class RollbackRow:
    """A rollback; both releases are of the same service."""

    id: UUID
    deployment_id: UUID
    rollback_deployment_id: UUID
    status: str
    reason: str
    service: str
    from_version: str
    to_version: str
    initiated_by: UUID
    initiated_by_name: str
    completed_at: datetime | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class ApprovalFilter:
    """Which approvals to list; None is any."""

    deployment_id: UUID | None = None
    approver_id: UUID | None = None
    status: str | None = None


@dataclass(frozen=True, slots=True)
class RollbackFilter:
    """Which rollbacks to list; None is any."""

    deployment_id: UUID | None = None
    service_id: UUID | None = None
    environment_id: UUID | None = None
    status: str | None = None


_STAGE = (
    PipelineStage.id,
    PipelineStage.deployment_id,
    PipelineStage.name,
    PipelineStage.stage_order,
    PipelineStage.status,
    PipelineStage.started_at,
    PipelineStage.completed_at,
    PipelineStage.attempt,
    PipelineStage.reason,
    PipelineStage.deadline,
    case(
        (PipelineStage.appended_bytes > 0, PipelineStage.appended_bytes),
        else_=func.octet_length(PipelineStage.output),
    ),
)
_APPROVALS = select(
    Approval.id,
    Approval.deployment_id,
    Approval.approver_id,
    User.username,
    Approval.status,
    Approval.comment,
    Approval.decided_at,
    Approval.approver_role,
    Approval.created_at,
).join(User, User.id == Approval.approver_id)
_METRICS = select(
    DeploymentMetric.id,
    DeploymentMetric.deployment_id,
    DeploymentMetric.metric_name,
    DeploymentMetric.metric_value,
    DeploymentMetric.unit,
    DeploymentMetric.created_at,
)
_FROM, _TO = aliased(Release), aliased(Release)
_ROLLBACKS: Select[*tuple[Any, ...]] = (
    select(
        Rollback.id,
        Rollback.deployment_id,
        Rollback.rollback_deployment_id,
        Rollback.status,
        Rollback.reason,
        Service.name,
        _FROM.version,
        _TO.version,
        Rollback.initiated_by,
        User.username,
        Rollback.completed_at,
        Rollback.created_at,
    )
    .join(_FROM, _FROM.id == Rollback.from_release_id)
    .join(_TO, _TO.id == Rollback.to_release_id)
    .join(Service, Service.id == _FROM.service_id)
    .join(User, User.id == Rollback.initiated_by)
)


async def stages(tx: AsyncConnection, deployment_id: UUID) -> list[StageRow]:
    """Return the pipeline of a deployment, in its order, with output."""
    query = (
        select(*_STAGE, PipelineStage.output)
        .where(PipelineStage.deployment_id == deployment_id)
        .order_by(PipelineStage.stage_order)
    )
    return [StageRow(*row) for row in (await tx.execute(query)).all()]


async def has_stages(tx: AsyncConnection, deployment_id: UUID) -> bool:
    """Say whether a pipeline drives the deployment."""
    query = select(PipelineStage.id).where(PipelineStage.deployment_id == deployment_id).limit(1)
    return (await tx.execute(query)).one_or_none() is not None


async def stage(tx: AsyncConnection, stage_id: UUID) -> StageRow | None:
    """Return one stage with its output."""
    query = select(*_STAGE, PipelineStage.output).where(PipelineStage.id == stage_id)
    row = (await tx.execute(query)).one_or_none()
    return None if row is None else StageRow(*row)


async def stage_page(
    tx: AsyncConnection, wanted: PageRequest, deployment_id: UUID
) -> Page[StageRow]:
    """Return a page of the stages of a deployment, in their order, without output."""
    query = select(*_STAGE).where(PipelineStage.deployment_id == deployment_id)
    found = await page(tx, query, sorted_by(PipelineStage.stage_order), wanted)
    return found.map(lambda row: StageRow(*row[: len(_STAGE)]))


async def approval(tx: AsyncConnection, approval_id: UUID) -> ApprovalRow | None:
    """Return one approval."""
    row = (await tx.execute(_APPROVALS.where(Approval.id == approval_id))).one_or_none()
    return None if row is None else ApprovalRow(*row)


async def approval_page(
    tx: AsyncConnection, wanted: PageRequest, chosen: ApprovalFilter, asked: Expressions
) -> Page[ApprovalRow]:
    """Return a page of approvals; raises ExpressionInvalid."""
    query = _where(
        _APPROVALS.join(Deployment, Deployment.id == Approval.deployment_id)
        .join(Service, Service.id == Deployment.service_id)
        .join(Environment, Environment.id == Deployment.environment_id)
        .where(APPROVALS.where(asked.filter)),
        (Approval.deployment_id, chosen.deployment_id),
        (Approval.approver_id, chosen.approver_id),
        (Approval.status, chosen.status),
    )
    found = await page(tx, query, APPROVALS.order(asked.order_by), wanted)
    return found.map(lambda row: ApprovalRow(*row[:9]))


async def metrics(tx: AsyncConnection, deployment_id: UUID) -> list[MetricRow]:
    """Return all figures of a deployment, oldest first."""
    query = _METRICS.where(DeploymentMetric.deployment_id == deployment_id).order_by(
        DeploymentMetric.created_at, DeploymentMetric.id
    )
    return [MetricRow(*row) for row in (await tx.execute(query)).all()]


async def metric(tx: AsyncConnection, metric_id: UUID) -> MetricRow | None:
    """Return one figure."""
    row = (await tx.execute(_METRICS.where(DeploymentMetric.id == metric_id))).one_or_none()
    return None if row is None else MetricRow(*row)


async def metric_page(
    tx: AsyncConnection, wanted: PageRequest, *, deployment_id: UUID | None, name: str | None
) -> Page[MetricRow]:
    """Return a page of figures, newest first."""
    query = _where(
        _METRICS,
        (DeploymentMetric.deployment_id, deployment_id),
        (DeploymentMetric.metric_name, name),
    )
    key = (DeploymentMetric.created_at, DeploymentMetric.id)
    found = await page(tx, query, sorted_by(*key, descending=True), wanted)
    return found.map(lambda row: MetricRow(*row[:6]))


async def rollbacks(tx: AsyncConnection, deployment_id: UUID) -> list[RollbackRow]:
    """Return the rollbacks of a deployment, oldest first."""
    query = _ROLLBACKS.where(Rollback.deployment_id == deployment_id).order_by(
        Rollback.created_at, Rollback.id
    )
    return [RollbackRow(*row) for row in (await tx.execute(query)).all()]


async def rollback(tx: AsyncConnection, rollback_id: UUID) -> RollbackRow | None:
    """Return one rollback."""
    row = (await tx.execute(_ROLLBACKS.where(Rollback.id == rollback_id))).one_or_none()
    return None if row is None else RollbackRow(*row)


async def rollback_page(
    tx: AsyncConnection, wanted: PageRequest, chosen: RollbackFilter, asked: Expressions
) -> Page[RollbackRow]:
    """Return a page of rollbacks; raises ExpressionInvalid."""
    query = _where(
        _ROLLBACKS.join(Deployment, Deployment.id == Rollback.deployment_id)
        .join(Environment, Environment.id == Deployment.environment_id)
        .join(Team, Team.id == Service.team_id)
        .where(ROLLBACKS.where(asked.filter)),
        (Rollback.deployment_id, chosen.deployment_id),
        (Deployment.service_id, chosen.service_id),
        (Deployment.environment_id, chosen.environment_id),
        (Rollback.status, chosen.status),
    )
    found = await page(tx, query, ROLLBACKS.order(asked.order_by), wanted)
    return found.map(lambda row: RollbackRow(*row[:12]))


async def exists(tx: AsyncConnection, deployment_id: UUID) -> bool:
    """Say whether there is such a deployment."""
    query = select(Deployment.id).where(Deployment.id == deployment_id)
    return (await tx.execute(query)).one_or_none() is not None


async def undone_by(tx: AsyncConnection, deployment_id: UUID) -> UUID | None:
    """Return the deployment whose rollback waits to undo this one; None when there is none."""
    query = select(Rollback.rollback_deployment_id).where(
        Rollback.deployment_id == deployment_id, Rollback.status == "in-progress"
    )
    return (await tx.execute(query)).scalar_one_or_none()


def _where(query: Select[*tuple[Any, ...]], *filters: tuple[Any, Any]) -> Select[*tuple[Any, ...]]:
    """Add the filters that have a value."""
    return query.where(*(column == value for column, value in filters if value is not None))
