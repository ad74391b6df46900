"""What a change writes. Every update of a deployment is guarded by what the change has read."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final, Protocol
from uuid import UUID

from sqlalchemy import and_, bindparam, case, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as insert_or
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import aliased

from shared.db.models.catalog import Release
from shared.db.models.deployment import (
    Approval,
    Deployment,
    DeploymentMetric,
    PipelineStage,
    ReleaseMark,
    Rollback,
)
from shared.db.violations import constraint_name
from shared.domain_error import DomainError
from shared.errors import ConcurrentChange, DeploymentExists, RollbackExists, SlotTaken
from shared.ids import new_id

Values = Mapping[str, Any]

_WALLS: Final[Mapping[str, Callable[[], DomainError]]] = {
    "uq_deployments_slot": lambda: SlotTaken(
        service="The service", environment="it", deployment="another one", status="running"
    ),
    "uq_deployments_open_release": lambda: DeploymentExists(
        release="asked for", status="on its way", environment="it", deployment="another one"
    ),
    "uq_deployments_open_rollback": lambda: RollbackExists(
        service="the service", environment="it", deployment="another one"
    ),
    "uq_deployments_completed_seq": ConcurrentChange,
    "uq_approvals_current": ConcurrentChange,
}


class Seen(Protocol):
    """A deployment as the change has read it."""

    @property
    def id(self) -> UUID:
        """Its id."""

    @property
    def status(self) -> str:
        """Its status."""

    @property
    def row_version(self) -> int:
        """Its version."""


@contextmanager
def _walls() -> Iterator[None]:
    """Say in the product's words which unique index a change has run into.

    The lock of the pair comes first, so this happens only to what has gone past it.
    """
    try:
        yield
    except IntegrityError as broken:
        error = _WALLS.get(constraint_name(broken) or "")
        if error is None:
            raise
        raise error() from broken


async def add_deployment(tx: AsyncConnection, now: datetime, **values: Any) -> None:  # noqa: ANN401
    """Insert a deployment in its first version."""
    times = {"deployed_at": now, "created_at": now, "updated_at": now}
    with _walls():
        await tx.execute(insert(Deployment).values(row_version=1, **times, **values))


async def change_deployment(
    tx: AsyncConnection, seen: Seen, values: Values, *, completes: bool = False
) -> int:
    """Change a deployment that is still as it was seen; return its new version.

    `completes` gives it the next `completed_seq` of its pair. Raises ConcurrentChange when it was
    changed since it was read.
    """
    changes = dict(values) | {"row_version": Deployment.row_version + 1}
    if completes:
        changes["completed_seq"] = _next_completion()
    statement = (
        update(Deployment)
        .where(
            Deployment.id == seen.id,
            Deployment.status == seen.status,
            Deployment.row_version == seen.row_version,
        )
        .values(**changes)
        .returning(Deployment.row_version)
    )
    with _walls():
        version = (await tx.execute(statement)).scalar_one_or_none()
    if version is None:
        raise ConcurrentChange
    return version


def _next_completion() -> Any:  # noqa: ANN401  (a scalar subquery)
    other = aliased(Deployment)
    highest = func.coalesce(func.max(other.completed_seq), 0)
    return (
        select(highest + 1)
        .where(
            other.service_id == Deployment.service_id,
            other.environment_id == Deployment.environment_id,
        )
        .correlate(Deployment)
        .scalar_subquery()
    )


async def postpone_decision(
    tx: AsyncConnection, deployment_id: UUID, decide_by: datetime | None
) -> None:
    """Set when to look again whether a waiting deployment has expired.

    Only a reminder: whether it has expired follows from the decisions, so no version is made.
    """
    await tx.execute(
        update(Deployment).where(Deployment.id == deployment_id).values(decide_by=decide_by)
    )


async def postpone_decisions(tx: AsyncConnection, moments: Mapping[UUID, datetime | None]) -> None:
    """Set when to look again at several deployments, as far as they still wait."""
    if not moments:
        return
    statement = (
        update(Deployment)
        .where(Deployment.id == bindparam("waiting"), Deployment.status == "pending")
        .values(decide_by=bindparam("moment"))
    )
    await tx.execute(
        statement, [{"waiting": key, "moment": moment} for key, moment in moments.items()]
    )


async def add_stages(
    tx: AsyncConnection, deployment_id: UUID, stages: Sequence[tuple[str, str]], now: datetime
) -> None:
    """Insert the stages (name, status) of a new deployment, in their order."""
    rows = [
        {
            "id": new_id(),
            "deployment_id": deployment_id,
            "name": name,
            "stage_order": order,
            "status": status,
            "created_at": now,
            "updated_at": now,
        }
        for order, (name, status) in enumerate(stages, start=1)
    ]
    await tx.execute(insert(PipelineStage), rows)


async def change_stage(tx: AsyncConnection, stage_id: UUID, values: Values) -> None:
    """Change a stage; its deployment is changed in the same transaction."""
    await tx.execute(update(PipelineStage).where(PipelineStage.id == stage_id).values(**values))


async def abort_open_stages(
    tx: AsyncConnection, deployment_id: UUID, now: datetime
) -> Mapping[UUID, tuple[str, int]]:
    """End what is open of a pipeline whose deployment has ended; what ran gets its end.

    Returns name and attempt of each stage that ran.
    """
    running = PipelineStage.status == "in-progress"
    aborted = await tx.execute(
        update(PipelineStage)
        .where(
            PipelineStage.deployment_id == deployment_id,
            PipelineStage.status.in_(("pending", "in-progress")),
        )
        .values(status="aborted", completed_at=case((running, now)))
        .returning(
            *(PipelineStage.id, PipelineStage.name),
            *(PipelineStage.attempt, PipelineStage.completed_at),
        )
    )
    return {row.id: (row.name, row.attempt) for row in aborted if row.completed_at is not None}


async def ask(
    tx: AsyncConnection, deployment_id: UUID, people: Sequence[UUID], now: datetime
) -> None:
    """Insert a question to each of `people`."""
    if not people:
        return
    rows = [
        {
            "id": new_id(),
            "deployment_id": deployment_id,
            "approver_id": person,
            "created_at": now,
            "updated_at": now,
        }
        for person in people
    ]
    await tx.execute(insert(Approval), rows)


async def decide(
    tx: AsyncConnection, deployment_id: UUID, approver_id: UUID, decision: Values, now: datetime
) -> None:
    """Store a person's decision: in the row of the question, or in one of its own.

    An earlier decision that has become void stays as `expired`.
    """
    mine = and_(Approval.deployment_id == deployment_id, Approval.approver_id == approver_id)
    await tx.execute(
        update(Approval).where(mine, Approval.status == "approved").values(status="expired")
    )
    answered = update(Approval).where(mine, Approval.status == "pending").values(**decision)
    with _walls():
        if (await tx.execute(answered)).rowcount:
            return
        row = {
            "id": new_id(),
            "deployment_id": deployment_id,
            "approver_id": approver_id,
            "created_at": now,
            "updated_at": now,
        }
        await tx.execute(insert(Approval).values(**row, **decision))


async def revoke(tx: AsyncConnection, deployment_id: UUID, approver_id: UUID) -> None:
    """Take back the approval of a person; the row stays, and says when by its last change."""
    mine = and_(Approval.deployment_id == deployment_id, Approval.approver_id == approver_id)
    await tx.execute(
        update(Approval).where(mine, Approval.status == "approved").values(status="revoked")
    )


async def close_questions(tx: AsyncConnection, deployment_id: UUID) -> None:
    """End the questions nobody has answered, because there is nothing to decide any more."""
    await tx.execute(
        update(Approval)
        .where(Approval.deployment_id == deployment_id, Approval.status == "pending")
        .values(status="expired")
    )


async def add_metrics(
    tx: AsyncConnection,
    deployment_id: UUID,
    metrics: Sequence[tuple[UUID, str, float, str]],
    now: datetime,
) -> None:
    """Insert figures: id, name, value and unit of each."""
    rows = [
        {
            "id": metric_id,
            "deployment_id": deployment_id,
            "metric_name": name,
            "metric_value": value,
            "unit": unit,
            "created_at": now,
            "updated_at": now,
        }
        for metric_id, name, value, unit in metrics
    ]
    await tx.execute(insert(DeploymentMetric), rows)


async def add_rollback(tx: AsyncConnection, now: datetime, **values: Any) -> None:  # noqa: ANN401
    """Insert a rollback that is in progress."""
    await tx.execute(insert(Rollback).values(created_at=now, updated_at=now, **values))


async def end_rollback(
    tx: AsyncConnection, carrier_id: UUID, *, completed: bool, now: datetime
) -> None:
    """End the rollback that a deployment carries out, if it carries one out."""
    await tx.execute(
        update(Rollback)
        .where(Rollback.rollback_deployment_id == carrier_id, Rollback.status == "in-progress")
        .values(status="completed" if completed else "failed", completed_at=now)
    )


async def set_release_status(tx: AsyncConnection, release_id: UUID, status: str) -> None:
    """Set the status of a release that this change holds for itself."""
    await tx.execute(update(Release).where(Release.id == release_id).values(status=status))


async def mark_bad(tx: AsyncConnection, now: datetime, **values: Any) -> None:  # noqa: ANN401
    """Mark a release bad in an environment, unless it is marked there already."""
    statement = insert_or(ReleaseMark).values(created_at=now, updated_at=now, **values)
    await tx.execute(statement.on_conflict_do_nothing())
