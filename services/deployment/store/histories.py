"""What happened to a service in an environment, as much of it as a question needs."""

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ScalarSelect,
    Select,
    and_,
    func,
    literal_column,
    or_,
    select,
)
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import aliased

from shared.db.models.catalog import Environment, Release, Service
from shared.db.models.deployment import Deployment, PipelineStage

OPEN = ("pending", "in-progress", "paused", "cancelling")


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """A deployment among the others of its pair; `omitted` are its skipped and ignored stages."""

    id: UUID
    release_id: UUID
    service: str
    version: str
    environment: str
    kind: str
    status: str
    deployed_at: datetime
    touched_at: datetime | None
    completed_at: datetime | None
    completed_seq: int | None
    failure_class: str | None
    rollback_of: UUID | None
    row_version: int
    omitted: list[str]


async def present(
    tx: AsyncConnection, service_id: UUID, environment_id: UUID, release_id: UUID
) -> list[HistoryRow]:
    """Return what is live, and what waits or runs of one release."""
    same = and_(
        Deployment.release_id == release_id,
        Deployment.environment_id == environment_id,
        Deployment.status.in_(OPEN),
    )
    live = Deployment.id == _newest(service_id, environment_id)
    return await _read(tx, _QUERY.where(or_(same, live)))


async def waiting(tx: AsyncConnection, service_id: UUID, environment_id: UUID) -> list[HistoryRow]:
    """Return what waits for the pair, rollbacks left out, the oldest request first."""
    waits = (Deployment.status == "pending", Deployment.kind != "rollback")
    query = _QUERY.where(*_of(service_id, environment_id), *waits)
    return await _read(tx, query.order_by(Deployment.deployed_at, Deployment.id))


async def whole(tx: AsyncConnection, service_id: UUID, environment_id: UUID) -> list[HistoryRow]:
    """Return every deployment of the pair."""
    return await _read(tx, _QUERY.where(*_of(service_id, environment_id)))


def _of(service_id: UUID, environment_id: UUID) -> tuple[Any, Any]:
    return (Deployment.service_id == service_id, Deployment.environment_id == environment_id)


def _newest(service_id: UUID, environment_id: UUID) -> ScalarSelect[Any]:
    """Return the id of what is live in the pair."""
    other = aliased(Deployment)
    return (
        select(other.id)
        .where(
            other.service_id == service_id,
            other.environment_id == environment_id,
            other.status == "completed",
            other.completed_seq.is_not(None),  # says that the index on it can be used
        )
        .order_by(other.completed_seq.desc())
        .limit(1)
        .scalar_subquery()
    )


async def _read(tx: AsyncConnection, query: Select[*tuple[Any, ...]]) -> list[HistoryRow]:
    return [_row(row) for row in (await tx.execute(query)).all()]


def _row(row: Any) -> HistoryRow:  # noqa: ANN401  (a row of _QUERY)
    return HistoryRow(**{field.name: getattr(row, field.name) for field in fields(HistoryRow)})


def _query() -> Select[*tuple[Any, ...]]:
    omitted = (
        select(func.coalesce(func.array_agg(PipelineStage.name), literal_column("'{}'::text[]")))
        .where(
            PipelineStage.deployment_id == Deployment.id,
            PipelineStage.status.in_(("skipped", "ignored")),
        )
        .correlate(Deployment)
        .scalar_subquery()
    )
    named = ("id", "release_id", "kind", "status", "deployed_at", "touched_at", "completed_at")
    more = ("completed_seq", "failure_class", "rollback_of", "row_version")
    return (
        select(
            *(getattr(Deployment, name) for name in (*named, *more)),
            Service.name.label("service"),
            Release.version.label("version"),
            Environment.name.label("environment"),
            omitted.label("omitted"),
        )
        .select_from(Deployment)
        .join(Service, Service.id == Deployment.service_id)
        .join(Release, Release.id == Deployment.release_id)
        .join(Environment, Environment.id == Deployment.environment_id)
    )


_QUERY = _query()
