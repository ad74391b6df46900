"""Locks of services and environments: found, made, released, and as facts of a deployment."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    ScalarSelect,
    Select,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import aliased

from shared.db.keyset import Page, PageRequest, page, sorted_by
from shared.db.models.catalog import Environment, Service
from shared.db.models.deployment import Deployment
from shared.db.models.identity import User
from shared.db.models.restrictions import Lock

_RELEASER = aliased(User)


@dataclass(frozen=True, slots=True)
class LockRow:
    """A lock; without a service or an environment it is about all of them.

    `active` says whether it held when it was read.
    """

    id: UUID
    service_id: UUID | None
    service: str | None
    environment_id: UUID | None
    environment: str | None
    reason: str
    includes_rollbacks: bool
    locked_by: UUID
    locked_by_name: str
    created_at: datetime
    expires_at: datetime | None
    released_at: datetime | None
    released_by_name: str | None
    released_because: str | None
    row_version: int
    active: bool


@dataclass(frozen=True, slots=True)
class LockFilter:
    """Which locks to list; None is any. Those of everything concern every service and place."""

    service_id: UUID | None = None
    environment_id: UUID | None = None
    also_ended: bool = False


async def find(tx: AsyncConnection, lock_id: UUID) -> LockRow | None:
    """Return a lock, None when there is no such lock."""
    row = (await tx.execute(_QUERY.where(Lock.id == lock_id))).one_or_none()
    return None if row is None else LockRow(*row)


async def add(tx: AsyncConnection, now: datetime, **values: Any) -> None:  # noqa: ANN401
    """Insert a lock in its first version."""
    times = {"created_at": now, "updated_at": now}
    await tx.execute(insert(Lock).values(row_version=1, **times, **values))


async def release(
    tx: AsyncConnection, lock_id: UUID, now: datetime, *, by: UUID, because: str
) -> None:
    """End a lock that nobody has released."""
    await tx.execute(
        update(Lock)
        .where(Lock.id == lock_id)
        .values(
            released_at=now,
            released_by=by,
            released_because=because,
            row_version=Lock.row_version + 1,
        )
    )


async def newest_first(
    tx: AsyncConnection, wanted: PageRequest, chosen: LockFilter
) -> Page[LockRow]:
    """Return a page of locks."""
    query = _QUERY if chosen.also_ended else _QUERY.where(_holds())
    if chosen.service_id is not None:
        query = query.where(or_(Lock.service_id == chosen.service_id, Lock.service_id.is_(None)))
    if chosen.environment_id is not None:
        here = Lock.environment_id == chosen.environment_id
        query = query.where(or_(here, Lock.environment_id.is_(None)))
    found = await page(tx, query, sorted_by(Lock.created_at, Lock.id, descending=True), wanted)
    return found.map(lambda row: LockRow(*row[:16]))


async def held_at(
    tx: AsyncConnection,
    moment: datetime,
    *,
    service_id: UUID | None = None,
    environment_ids: Collection[UUID] = (),
) -> list[LockRow]:
    """Return the locks that held at a moment, the newest first, and not those of other places."""
    query = _QUERY.where(Lock.created_at <= moment, Lock.ends_at > moment)
    if service_id is not None:
        query = query.where(or_(Lock.service_id == service_id, Lock.service_id.is_(None)))
    if environment_ids:
        here = Lock.environment_id.in_(environment_ids)
        query = query.where(or_(here, Lock.environment_id.is_(None)))
    query = query.order_by(Lock.created_at.desc(), Lock.id.desc())
    return [LockRow(*row) for row in (await tx.execute(query)).all()]


def concerning(subject: type[Deployment]) -> ScalarSelect[Any]:
    """Return all that may hold for a deployment as JSON, the newest first; NULL for none.

    Whether one still holds is asked of the rules, at the moment that they are asked about.
    """
    service, place, person = aliased(Service), aliased(Environment), aliased(User)
    entry = func.jsonb_build_object(
        *("id", Lock.id, "reason", Lock.reason, "locked_by", person.username),
        *("service", service.name, "environment", place.name),
        *("includes_rollbacks", Lock.includes_rollbacks),
        *("ends_at", func.least(Lock.released_at, Lock.expires_at)),
    )
    in_order = aggregate_order_by(entry, Lock.created_at.desc(), Lock.id.desc())
    return (
        select(func.jsonb_agg(in_order))
        .select_from(Lock)
        .join(person, person.id == Lock.locked_by)
        .outerjoin(service, service.id == Lock.service_id)
        .outerjoin(place, place.id == Lock.environment_id)
        .where(
            _holds(),
            or_(Lock.service_id.is_(None), Lock.service_id == subject.service_id),
            or_(Lock.environment_id.is_(None), Lock.environment_id == subject.environment_id),
        )
        .correlate(subject)
        .scalar_subquery()
    )


def _holds() -> ColumnElement[bool]:
    return Lock.ends_at > func.statement_timestamp()


def _query() -> Select[*tuple[Any, ...]]:
    return (
        select(
            Lock.id,
            Lock.service_id,
            Service.name,
            Lock.environment_id,
            Environment.name,
            Lock.reason,
            Lock.includes_rollbacks,
            Lock.locked_by,
            User.username,
            Lock.created_at,
            Lock.expires_at,
            Lock.released_at,
            _RELEASER.username,
            Lock.released_because,
            Lock.row_version,
            # A lock may be released a moment ahead of the clock, where that has gone back.
            Lock.released_at.is_(None) & _holds(),
        )
        .select_from(Lock)
        .join(User, User.id == Lock.locked_by)
        .outerjoin(Service, Service.id == Lock.service_id)
        .outerjoin(Environment, Environment.id == Lock.environment_id)
        .outerjoin(_RELEASER, _RELEASER.id == Lock.released_by)
    )


_QUERY = _query()
