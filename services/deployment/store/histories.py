"""What happened to a service in an environment, as much of it as a question needs."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ScalarSelect,
    Select,
    and_,
    cast,
    column,
    func,
    literal_column,
    or_,
    select,
    true,
    union_all,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import UUID as PG_UUID
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import aliased

from shared.db.keyset import Page, PageRequest, page, sorted_by
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


@dataclass(frozen=True, slots=True)
class PairNames:
    """A service and an environment in which something was deployed."""

    service_id: UUID
    service: str
    environment_id: UUID
    environment: str


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


async def completed_since(
    tx: AsyncConnection, service_id: UUID, environment_id: UUID, requested_at: datetime
) -> list[HistoryRow]:
    """Return what has completed of the requests made from a moment on."""
    later = Deployment.deployed_at >= requested_at
    completed = Deployment.status == "completed"
    return await _read(tx, _QUERY.where(*_of(service_id, environment_id), later, completed))


async def whole(tx: AsyncConnection, service_id: UUID, environment_id: UUID) -> list[HistoryRow]:
    """Return every deployment of the pair."""
    return await _read(tx, _QUERY.where(*_of(service_id, environment_id)))


async def pairs(
    tx: AsyncConnection,
    wanted: PageRequest,
    *,
    service_id: UUID | None = None,
    environment_id: UUID | None = None,
) -> Page[PairNames]:
    """Return a page of the pairs in which there is a deployment, by service and promotion order."""
    anything = (
        select(Deployment.id)
        .where(
            Deployment.service_id == Service.id,
            Deployment.environment_id == Environment.id,
        )
        .correlate(Service, Environment)
        .exists()
    )
    query = (
        select(Service.id, Service.name, Environment.id, Environment.name)
        .select_from(Service)
        .join(Environment, true())
        .where(anything)
    )
    if service_id is not None:
        query = query.where(Service.id == service_id)
    if environment_id is not None:
        query = query.where(Environment.id == environment_id)
    key = (func.lower(Service.name), Environment.promotion_order, Environment.id)
    found = await page(tx, query, sorted_by(*key), wanted)
    return found.map(lambda row: PairNames(*row[:4]))


async def recent(
    tx: AsyncConnection, wanted: Sequence[tuple[UUID, UUID]]
) -> Mapping[tuple[UUID, UUID], list[HistoryRow]]:
    """Return of each pair (service, environment) what its present state follows from.

    That is what waits or runs, what is live, what ended last of those that reached the
    environment, what failed last, and what the rollbacks among these undo.
    """
    services, environments = zip(*wanted, strict=True) if wanted else ((), ())
    ids = ARRAY(PG_UUID(as_uuid=True))
    pair = (
        func.unnest(cast(list(services), ids), cast(list(environments), ids))
        .table_valued(column("service_id", PG_UUID), column("environment_id", PG_UUID))
        .render_derived()
    )
    other = aliased(Deployment)
    here = (
        other.service_id == pair.c.service_id,
        other.environment_id == pair.c.environment_id,
    )
    chosen = (
        select(other.id).where(*here, other.status.in_(OPEN)),
        select(other.id)
        .where(*here, other.status == "completed", other.completed_seq.is_not(None))
        .order_by(other.completed_seq.desc())
        .limit(1),
        select(other.id)
        .where(*here, other.status.not_in(OPEN), other.touched_at.is_not(None))
        .order_by(other.touched_at.desc())
        .limit(1),
        select(other.id)
        .where(*here, other.status == "failed")
        .order_by(other.deployed_at.desc())
        .limit(1),
    )
    laterals = [query.correlate(pair).lateral() for query in chosen]
    main = union_all(
        *(select(found.c.id).select_from(pair.join(found, true())) for found in laterals)
    ).cte("main")
    undoing = aliased(Deployment)
    undone = select(undoing.rollback_of).where(undoing.id.in_(select(main.c.id)))
    query = _QUERY.add_columns(Deployment.service_id, Deployment.environment_id).where(
        or_(Deployment.id.in_(select(main.c.id)), Deployment.id.in_(undone))
    )
    found: dict[tuple[UUID, UUID], list[HistoryRow]] = defaultdict(list)
    for row in (await tx.execute(query)).all():
        found[row.service_id, row.environment_id].append(_row(row))
    return found


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
