"""Attempts of stages: one row for each, from its start on."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Select, case, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import aliased

from shared.db.keyset import Page, PageRequest, page, sorted_by
from shared.db.models.deployment import PipelineStage
from shared.db.models.execution import StageAttempt
from shared.db.models.identity import User
from shared.ids import new_id

SHOWN_CHARACTERS: Final = 1000


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """An attempt with the end of its output, and who started and ended it, if that is known."""

    stage_id: UUID
    stage: str
    attempt: int
    status: str
    output: str
    executor: str
    started_by: UUID | None
    started_by_name: str | None
    ended_by: UUID | None
    ended_by_name: str | None
    reason: str
    started_at: datetime
    completed_at: datetime | None


async def write(
    tx: AsyncConnection, stage_id: UUID, attempt: int, values: Mapping[str, Any]
) -> None:
    """Insert an attempt, or change it as far as `values` are about its end.

    One that began before attempts were kept gets its row when it ends.
    """
    new = {"id": new_id(), "stage_id": stage_id, "attempt": attempt, **values}
    later = {name: value for name, value in values.items() if name not in _ONCE}
    statement = insert(StageAttempt).values(**new)
    await tx.execute(
        statement.on_conflict_do_update(
            index_elements=[StageAttempt.stage_id, StageAttempt.attempt], set_=later
        )
    )


async def cut_short(
    tx: AsyncConnection, deployment_id: UUID, now: datetime, ended_by: UUID | None
) -> None:
    """End the attempts that run of a deployment that ends."""
    stages = select(PipelineStage.id).where(PipelineStage.deployment_id == deployment_id)
    await tx.execute(
        update(StageAttempt)
        .where(StageAttempt.stage_id.in_(stages), StageAttempt.status == "in-progress")
        .values(
            status="aborted",
            completed_at=now,
            ended_by=ended_by,
            reason="The deployment ended.",
        )
    )


async def keep_output(tx: AsyncConnection, stage_id: UUID, attempt: int) -> None:
    """Copy the output of a stage into the row of an attempt that another one follows."""
    output = select(PipelineStage.output).where(PipelineStage.id == stage_id).scalar_subquery()
    await tx.execute(
        update(StageAttempt)
        .where(StageAttempt.stage_id == stage_id, StageAttempt.attempt == attempt)
        .values(output=output)
    )


async def in_order(
    tx: AsyncConnection, wanted: PageRequest, deployment_id: UUID, stage: str | None
) -> Page[AttemptRow]:
    """Return a page of the attempts of a deployment, by stage and then by number."""
    query = _query().where(PipelineStage.deployment_id == deployment_id)
    if stage is not None:
        query = query.where(PipelineStage.name == stage)
    key = sorted_by(PipelineStage.stage_order, StageAttempt.attempt)
    found = await page(tx, query, key, wanted)
    return found.map(lambda row: AttemptRow(*row[:13]))


_ONCE: Final = frozenset({"started_at", "started_by", "executor", "created_at"})


def _query() -> Select[*tuple[Any, ...]]:
    starter, ender = aliased(User), aliased(User)
    newest = StageAttempt.attempt == PipelineStage.attempt
    output = case((newest, PipelineStage.output), else_=StageAttempt.output)
    return (
        select(
            PipelineStage.id,
            PipelineStage.name,
            StageAttempt.attempt,
            StageAttempt.status,
            func.right(output, SHOWN_CHARACTERS),
            StageAttempt.executor,
            StageAttempt.started_by,
            starter.username,
            StageAttempt.ended_by,
            ender.username,
            StageAttempt.reason,
            StageAttempt.started_at,
            StageAttempt.completed_at,
        )
        .select_from(StageAttempt)
        .join(PipelineStage, PipelineStage.id == StageAttempt.stage_id)
        .outerjoin(starter, starter.id == StageAttempt.started_by)
        .outerjoin(ender, ender.id == StageAttempt.ended_by)
    )
