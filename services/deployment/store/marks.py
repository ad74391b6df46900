"""Marks that say a release is bad, in an environment or everywhere."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Select, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import aliased

from shared.db.keyset import Page, PageRequest, page, sorted_by
from shared.db.models.catalog import Environment, Release, Service
from shared.db.models.deployment import ReleaseMark
from shared.db.models.identity import User

_CLEARER = aliased(User)


@dataclass(frozen=True, slots=True)
class MarkRow:
    """A mark; everywhere when it has no environment, gone when `cleared_at` says since when."""

    id: UUID
    release_id: UUID
    service: str
    version: str
    environment_id: UUID | None
    environment: str | None
    reason: str
    marked_by: UUID
    marked_by_name: str
    deployment_id: UUID | None
    created_at: datetime
    cleared_at: datetime | None
    cleared_by_name: str | None
    cleared_because: str | None


@dataclass(frozen=True, slots=True)
class MarkFilter:
    """Which marks to list; None is any. Those of everywhere hold in every environment."""

    release_id: UUID | None = None
    service_id: UUID | None = None
    environment_id: UUID | None = None
    also_cleared: bool = False


async def one(tx: AsyncConnection, mark_id: UUID) -> MarkRow:
    """Return a mark that this change has made or found."""
    return MarkRow(*(await tx.execute(_QUERY.where(ReleaseMark.id == mark_id))).one())


async def current(tx: AsyncConnection, release_id: UUID) -> list[MarkRow]:
    """Return all marks of a release that count, the oldest first."""
    query = _QUERY.where(ReleaseMark.release_id == release_id, ReleaseMark.cleared_at.is_(None))
    rows = await tx.execute(query.order_by(ReleaseMark.created_at, ReleaseMark.id))
    return [MarkRow(*row) for row in rows.all()]


async def clear(
    tx: AsyncConnection, mark_id: UUID, now: datetime, *, by: UUID, because: str
) -> int:
    """Take a mark away; return its new version."""
    statement = (
        update(ReleaseMark)
        .where(ReleaseMark.id == mark_id)
        .values(
            cleared_at=now,
            cleared_by=by,
            cleared_because=because,
            row_version=ReleaseMark.row_version + 1,
        )
        .returning(ReleaseMark.row_version)
    )
    return (await tx.execute(statement)).scalar_one()


async def newest_first(
    tx: AsyncConnection, wanted: PageRequest, chosen: MarkFilter
) -> Page[MarkRow]:
    """Return a page of marks."""
    query = _QUERY
    if not chosen.also_cleared:
        query = query.where(ReleaseMark.cleared_at.is_(None))
    if chosen.release_id is not None:
        query = query.where(ReleaseMark.release_id == chosen.release_id)
    if chosen.service_id is not None:
        query = query.where(Release.service_id == chosen.service_id)
    if chosen.environment_id is not None:
        here = ReleaseMark.environment_id == chosen.environment_id
        query = query.where(or_(here, ReleaseMark.environment_id.is_(None)))
    key = (ReleaseMark.created_at, ReleaseMark.id)
    found = await page(tx, query, sorted_by(*key, descending=True), wanted)
    return found.map(lambda row: MarkRow(*row[:14]))


def _query() -> Select[*tuple[Any, ...]]:
    return (
        select(
            ReleaseMark.id,
            ReleaseMark.release_id,
            Service.name,
            Release.version,
            ReleaseMark.environment_id,
            Environment.name,
            ReleaseMark.reason,
            ReleaseMark.marked_by,
            User.username,
            ReleaseMark.deployment_id,
            ReleaseMark.created_at,
            ReleaseMark.cleared_at,
            _CLEARER.username,
            ReleaseMark.cleared_because,
        )
        .select_from(ReleaseMark)
        .join(Release, Release.id == ReleaseMark.release_id)
        .join(Service, Service.id == Release.service_id)
        .join(User, User.id == ReleaseMark.marked_by)
        .outerjoin(Environment, Environment.id == ReleaseMark.environment_id)
        .outerjoin(_CLEARER, _CLEARER.id == ReleaseMark.cleared_by)
    )


_QUERY = _query()
