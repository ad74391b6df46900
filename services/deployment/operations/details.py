"""A deployment as callers get it: examined, with as much of what belongs to it as they want."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from services.deployment.operations import examine
from services.deployment.operations.examine import Examined
from services.deployment.store import children
from services.deployment.store.children import MetricRow, RollbackRow, StageRow
from shared.db.engine import Database


class Depth(IntEnum):
    """How much to read along with a deployment."""

    ALONE = 1
    STAGES = 2
    EVERYTHING = 3


@dataclass(frozen=True, slots=True)
class Detail:
    """A deployment and what was read along with it; approvals are shown on request."""

    case: Examined
    stages: Sequence[StageRow] = ()
    metrics: Sequence[MetricRow] = ()
    rollbacks: Sequence[RollbackRow] = ()
    with_approvals: bool = False


async def detail(tx: AsyncConnection, deployment_id: UUID, depth: Depth) -> Detail:
    """Examine a deployment, and read each kind of thing along with it in one query more."""
    case = await examine.deployment(tx, deployment_id)
    stages = await children.stages(tx, deployment_id) if depth >= Depth.STAGES else ()
    if depth < Depth.EVERYTHING:
        return Detail(case, stages)
    return Detail(
        case,
        stages,
        await children.metrics(tx, deployment_id),
        await children.rollbacks(tx, deployment_id),
        with_approvals=True,
    )


async def read(db: Database, deployment_id: UUID, depth: Depth) -> Detail:
    """Read a deployment at one moment; raises ResourceNotFound."""
    async with db.snapshot() as tx:
        return await detail(tx, deployment_id, depth)
