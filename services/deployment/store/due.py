"""What is due: waits, runs and leases whose time has passed, each found by an index of its own."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import Select, func, literal, select, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from services.deployment.store.leases import RUNNING
from shared.db.models.deployment import Deployment, PipelineStage
from shared.db.models.execution import DeploymentLease


class Kind(StrEnum):
    """What it is whose time has passed."""

    LEASE = "lease"
    STAGE = "stage"
    STATUS = "status"
    WAIT = "wait"


@dataclass(frozen=True, slots=True)
class Due:
    """A deployment to look after, and why."""

    kind: Kind
    deployment_id: UUID


async def by(tx: AsyncConnection, now: datetime, limit: int) -> list[Due]:
    """Return what is due by now: of each kind at most `limit`, the longest overdue first."""
    rows = (await tx.execute(query(now, limit))).all()
    return [Due(Kind(kind), deployment_id) for kind, deployment_id in rows]


def query(now: datetime, limit: int) -> Any:  # noqa: ANN401  (a union)
    """Return the query for what is due: leases before stages before what holds both."""
    wait_ends = func.least(Deployment.decide_by, Deployment.start_by)
    running = Deployment.status.in_([literal(status, literal_execute=True) for status in RUNNING])
    parts = (
        _part(Kind.LEASE, DeploymentLease.deployment_id, DeploymentLease.expires_at, now, limit),
        _part(Kind.STAGE, PipelineStage.deployment_id, PipelineStage.deadline, now, limit).where(
            PipelineStage.status == literal("in-progress", literal_execute=True),
            # Of what is to stop already, no stage ends before it.
            PipelineStage.deployment_id.in_(
                select(Deployment.id).where(
                    Deployment.status == literal("in-progress", literal_execute=True)
                )
            ),
        ),
        _part(Kind.STATUS, Deployment.id, Deployment.deadline, now, limit).where(running),
        _part(Kind.WAIT, Deployment.id, wait_ends, now, limit).where(
            Deployment.status == literal("pending", literal_execute=True)
        ),
    )
    return union_all(*(select(part.subquery()) for part in parts))


def _part(
    kind: Kind,
    deployment_id: Any,  # noqa: ANN401  (a column)
    end: Any,  # noqa: ANN401  (a column or an expression of columns)
    now: datetime,
    limit: int,
) -> Select[*tuple[Any, ...]]:
    return (
        select(literal(kind.value).label("kind"), deployment_id.label("deployment_id"))
        .where(end <= now)
        .order_by(end)
        .limit(limit)
    )
