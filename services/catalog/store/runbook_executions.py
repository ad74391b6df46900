"""Executions of runbooks, and what is suggested by them."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from services.catalog.rules.resources import RunbookExecution
from services.catalog.store import reading
from shared.db.keyset import Page, PageRequest, sorted_by
from shared.db.models import catalog as tables
from shared.db.models.deployment import Deployment, PipelineStage
from shared.db.models.identity import User

RECENT = 20

_execution = tables.RunbookExecution
_QUERY = select(
    _execution.id,
    _execution.runbook_id,
    _execution.version,
    _execution.environment_id,
    _execution.deployment_id,
    _execution.outcome,
    _execution.notes,
    _execution.executed_by,
    User.username.label("executor"),
    _execution.started_at,
    _execution.finished_at,
    _execution.created_at,
).join(User, User.id == _execution.executed_by)


@dataclass(frozen=True, slots=True)
class ExecutionFilter:
    """Which executions are asked for; None asks for all."""

    runbook_id: UUID | None = None
    service_id: UUID | None = None
    deployment_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class FailedAt:
    """Where a deployment failed; no stage when none did."""

    service_id: UUID
    environment_id: UUID
    stage: str | None


async def listed(
    tx: AsyncConnection, chosen: ExecutionFilter, at: PageRequest
) -> Page[RunbookExecution]:
    """Return a page of the executions asked for, newest first."""
    query = _QUERY
    if chosen.runbook_id is not None:
        query = query.where(_execution.runbook_id == chosen.runbook_id)
    if chosen.deployment_id is not None:
        query = query.where(_execution.deployment_id == chosen.deployment_id)
    if chosen.service_id is not None:
        runbooks = select(tables.Runbook.id).where(tables.Runbook.service_id == chosen.service_id)
        query = query.where(_execution.runbook_id.in_(runbooks))
    newest_first = sorted_by(_execution.created_at, _execution.id, descending=True)
    return await reading.page(tx, RunbookExecution, query, newest_first, at)


async def recent(tx: AsyncConnection, runbook_ids: Sequence[UUID]) -> dict[UUID, tuple[int, int]]:
    """Return how many of the last 20 executions of each runbook succeeded, and of how many."""
    numbered = (
        select(
            _execution.runbook_id,
            _execution.outcome,
            func.row_number()
            .over(partition_by=_execution.runbook_id, order_by=_execution.created_at.desc())
            .label("number"),
        )
        .where(_execution.runbook_id.in_(runbook_ids))
        .subquery()
    )
    succeeded = func.count().filter(numbered.c.outcome == "succeeded")
    query = (
        select(numbered.c.runbook_id, succeeded, func.count())
        .where(numbered.c.number <= RECENT)
        .group_by(numbered.c.runbook_id)
    )
    return {row[0]: (row[1], row[2]) for row in await tx.execute(query)}


async def has_deployment(
    tx: AsyncConnection, deployment_id: UUID, service_id: UUID | None = None
) -> bool:
    """Say whether there is such a deployment, of a service when one is given."""
    query = select(Deployment.id).where(Deployment.id == deployment_id)
    if service_id is not None:
        query = query.where(Deployment.service_id == service_id)
    return await tx.scalar(query) is not None


async def failed_at(tx: AsyncConnection, deployment_id: UUID) -> FailedAt | None:
    """Return what a deployment is of and its first failed stage, None if there is none such."""
    stage = (
        select(PipelineStage.name)
        .where(
            PipelineStage.deployment_id == Deployment.id,
            PipelineStage.status.in_(("failed", "ignored")),
        )
        .order_by(PipelineStage.stage_order)
        .limit(1)
        .scalar_subquery()
    )
    query = select(Deployment.service_id, Deployment.environment_id, stage.label("stage")).where(
        Deployment.id == deployment_id
    )
    return await reading.one(tx, FailedAt, query)
