"""Reads: single things by id, and lists by filters that name things as callers write them."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TypeVar
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from services.deployment.operations import examine
from services.deployment.operations.details import Detail
from services.deployment.rules.outputs import SHOWN
from services.deployment.store import children, dossiers, outputs, references
from services.deployment.store.children import (
    ApprovalFilter,
    ApprovalRow,
    MetricRow,
    RollbackFilter,
    RollbackRow,
    StageRow,
)
from services.deployment.store.dossiers import DeploymentFilter
from services.deployment.store.fields import ANYTHING, Expressions, read_in_order
from services.deployment.store.references import Named, NamedRelease
from shared.db.engine import Database
from shared.db.keyset import Page, PageRequest
from shared.errors import ResourceNotFound

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class DeploymentsQuery:
    """Which deployments to list; empty is any."""

    page: PageRequest
    service: str = ""
    environment: str = ""
    release: str = ""
    deployed_by: str = ""
    status: str | None = None
    kind: str | None = None
    asked: Expressions = ANYTHING


@dataclass(frozen=True, slots=True)
class ApprovalsQuery:
    """Which approvals to list; empty is any."""

    page: PageRequest
    deployment_id: UUID | None = None
    approver: str = ""
    status: str | None = None
    asked: Expressions = ANYTHING


@dataclass(frozen=True, slots=True)
class RollbacksQuery:
    """Which rollbacks to list; empty is any."""

    page: PageRequest
    deployment_id: UUID | None = None
    service: str = ""
    environment: str = ""
    status: str | None = None
    asked: Expressions = ANYTHING


async def deployments(db: Database, query: DeploymentsQuery) -> Page[Detail]:
    """List deployments; raises ResourceNotFound and ExpressionInvalid."""
    async with db.snapshot() as tx:
        chosen = DeploymentFilter(
            service_id=await _id(references.service, tx, query.service),
            environment_id=await _id(references.environment, tx, query.environment),
            release_id=await _id(references.release, tx, query.release),
            deployed_by=await _id(references.user, tx, query.deployed_by),
            status=query.status,
            kind=query.kind,
        )
        await read_in_order(tx)
        found = await dossiers.listed(tx, query.page, chosen, query.asked)
        cases = await examine.several(tx, found.entries)
        return Page(tuple(Detail(case) for case in cases), found.last)


async def approval(db: Database, approval_id: UUID) -> ApprovalRow:
    """Return one approval; raises ResourceNotFound."""
    return await _found(db, children.approval, "approval", approval_id)


async def approvals(db: Database, query: ApprovalsQuery) -> Page[ApprovalRow]:
    """List approvals; raises ResourceNotFound and ExpressionInvalid."""
    async with db.snapshot() as tx:
        await _check_deployment(tx, query.deployment_id)
        chosen = ApprovalFilter(
            deployment_id=query.deployment_id,
            approver_id=await _id(references.user, tx, query.approver),
            status=query.status,
        )
        await read_in_order(tx)
        return await children.approval_page(tx, query.page, chosen, query.asked)


async def rollback(db: Database, rollback_id: UUID) -> RollbackRow:
    """Return one rollback; raises ResourceNotFound."""
    return await _found(db, children.rollback, "rollback", rollback_id)


async def rollbacks(db: Database, query: RollbacksQuery) -> Page[RollbackRow]:
    """List rollbacks; raises ResourceNotFound and ExpressionInvalid."""
    async with db.snapshot() as tx:
        await _check_deployment(tx, query.deployment_id)
        chosen = RollbackFilter(
            deployment_id=query.deployment_id,
            service_id=await _id(references.service, tx, query.service),
            environment_id=await _id(references.environment, tx, query.environment),
            status=query.status,
        )
        await read_in_order(tx)
        return await children.rollback_page(tx, query.page, chosen, query.asked)


async def stage(db: Database, stage_id: UUID) -> StageRow:
    """Return one stage, with more of its output; raises ResourceNotFound."""
    return await _found(db, _stage, "pipeline stage", stage_id)


async def _stage(tx: AsyncConnection, stage_id: UUID) -> StageRow | None:
    found = await children.stage(tx, stage_id)
    if found is None or len(found.output.encode()) >= found.printed:
        return found
    shown = await outputs.end_of(tx, stage_id, found.attempt, SHOWN)
    return replace(found, output=shown)


async def stages(db: Database, page: PageRequest, deployment_id: UUID) -> Page[StageRow]:
    """List the stages of a deployment, in their order."""
    async with db.snapshot() as tx:
        await _check_deployment(tx, deployment_id)
        return await children.stage_page(tx, page, deployment_id)


async def metric(db: Database, metric_id: UUID) -> MetricRow:
    """Return one figure; raises ResourceNotFound."""
    return await _found(db, children.metric, "deployment metric", metric_id)


async def metrics(
    db: Database, page: PageRequest, *, deployment_id: UUID | None, name: str | None
) -> Page[MetricRow]:
    """List figures, newest first."""
    async with db.snapshot() as tx:
        await _check_deployment(tx, deployment_id)
        return await children.metric_page(tx, page, deployment_id=deployment_id, name=name)


async def _found(
    db: Database,
    read: Callable[[AsyncConnection, UUID], Awaitable[Found | None]],
    resource_type: str,
    wanted: UUID,
) -> Found:
    async with db.snapshot() as tx:
        found = await read(tx, wanted)
    if found is None:
        raise ResourceNotFound(resource_type=resource_type, resource=wanted)
    return found


async def _check_deployment(tx: AsyncConnection, deployment_id: UUID | None) -> None:
    """Raise ResourceNotFound when a list is about a deployment that does not exist."""
    if deployment_id is not None and not await children.exists(tx, deployment_id):
        raise ResourceNotFound(resource_type="deployment", resource=deployment_id)


async def _id(
    find: Callable[[AsyncConnection, str], Awaitable[Named | NamedRelease]],
    tx: AsyncConnection,
    reference: str,
) -> UUID | None:
    """Return the id of what a filter names, None when it names nothing."""
    return (await find(tx, reference)).id if reference else None
