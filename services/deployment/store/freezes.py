"""Freeze windows: found, listed by name, made and changed."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ScalarSelect, Select, case, delete, func, insert, select, update
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.db.keyset import Page, PageRequest, Position, page, position_of, sorted_by
from shared.db.models.catalog import Environment, Service, Team
from shared.db.models.restrictions import FreezeWindow, FreezeWindowSubject
from shared.db.violations import constraint_name
from shared.errors import ResourceExists
from shared.ids import new_id, parse_id

Json = Mapping[str, Any]
_CHUNK = 200


@dataclass(frozen=True, slots=True)
class FreezeRow:
    """A freeze window with what it is about.

    Each of `subjects` has an `id`, a `name`, and as `field` which list of a window it is in, by
    name. `moment` is the database's time of the query.
    """

    id: UUID
    name: str
    kind: str
    reason: str
    time_zone: str
    schedule: Json
    environment_types: list[str]
    includes_rollbacks: bool
    exception_dates: list[date]
    archived_at: datetime | None
    row_version: int
    created_at: datetime
    updated_at: datetime
    subjects: Sequence[Mapping[str, str]]
    moment: datetime


@dataclass(frozen=True, slots=True)
class Subjects:
    """What a window is about, by id; `exempt_services` are what it is not about."""

    services: Collection[UUID] = ()
    teams: Collection[UUID] = ()
    environments: Collection[UUID] = ()
    exempt_services: Collection[UUID] = ()


async def find(tx: AsyncConnection, reference: str) -> FreezeRow | None:
    """Return a window by name or id, None when there is none."""
    window_id = parse_id(reference)
    named = func.lower(FreezeWindow.name) == func.lower(reference)
    query = _QUERY.where(named if window_id is None else FreezeWindow.id == window_id)
    row = (await tx.execute(query)).one_or_none()
    return None if row is None else FreezeRow(*row)


async def hold(tx: AsyncConnection, window_id: UUID) -> None:
    """Take a window for this change alone; it has to be read again then."""
    window = select(FreezeWindow.id).where(FreezeWindow.id == window_id)
    await tx.execute(window.with_for_update())


async def in_force(tx: AsyncConnection) -> list[FreezeRow]:
    """Return all windows that are not archived, by name."""
    query = _QUERY.where(FreezeWindow.archived_at.is_(None)).order_by(_NAME)
    return [FreezeRow(*row) for row in (await tx.execute(query)).all()]


async def made_by(tx: AsyncConnection, moment: datetime) -> list[FreezeRow]:
    """Return all windows that had been made by a moment as they are now, archived or not."""
    query = _QUERY.where(FreezeWindow.created_at <= moment).order_by(_NAME)
    return [FreezeRow(*row) for row in (await tx.execute(query)).all()]


async def by_name(
    tx: AsyncConnection, after: Position | None, *, also_archived: bool
) -> Page[FreezeRow]:
    """Return some windows behind a position in the order of their names."""
    query = _QUERY if also_archived else _QUERY.where(FreezeWindow.archived_at.is_(None))
    found = await page(tx, query, sorted_by(_NAME), PageRequest(_CHUNK, after))
    return found.map(lambda row: FreezeRow(*row[:15]))


def position(row: FreezeRow) -> Position:
    """Return where a list goes on behind a window."""
    return position_of(row.name.lower())


async def add(
    tx: AsyncConnection, now: datetime, window_id: UUID, subjects: Subjects, values: Json
) -> None:
    """Insert a window in its first version; raises ResourceExists when its name is taken."""
    times = {"created_at": now, "updated_at": now}
    made = insert(FreezeWindow).values(id=window_id, row_version=1, **times, **values)
    with _name_taken(values["name"]):
        await tx.execute(made)
    await _add_subjects(tx, now, window_id, subjects)


async def change(
    tx: AsyncConnection, now: datetime, window_id: UUID, subjects: Subjects | None, values: Json
) -> None:
    """Write the next version of a window that this change holds; None leaves its subjects.

    Raises ResourceExists when its new name is taken.
    """
    version = FreezeWindow.row_version + 1
    changed = update(FreezeWindow).where(FreezeWindow.id == window_id)
    with _name_taken(values.get("name", "")):
        await tx.execute(changed.values(row_version=version, **values))
    if subjects is not None:
        old = FreezeWindowSubject.freeze_window_id == window_id
        await tx.execute(delete(FreezeWindowSubject).where(old))
        await _add_subjects(tx, now, window_id, subjects)


async def team_of(tx: AsyncConnection, service_id: UUID) -> UUID:
    """Return the team of a service that is there."""
    return (await tx.execute(select(Service.team_id).where(Service.id == service_id))).scalar_one()


async def type_of(tx: AsyncConnection, environment_id: UUID) -> str:
    """Return the type of an environment that is there."""
    query = select(Environment.environment_type).where(Environment.id == environment_id)
    return (await tx.execute(query)).scalar_one()


@contextmanager
def _name_taken(name: str) -> Iterator[None]:
    try:
        yield
    except IntegrityError as broken:
        if constraint_name(broken) != "uq_freeze_windows_name":
            raise
        raise ResourceExists(resource_type="freeze window", resource=name) from broken


async def _add_subjects(
    tx: AsyncConnection, now: datetime, window_id: UUID, subjects: Subjects
) -> None:
    columns: list[dict[str, Any]] = [
        *({"service_id": one} for one in subjects.services),
        *({"service_id": one, "exempt": True} for one in subjects.exempt_services),
        *({"team_id": one} for one in subjects.teams),
        *({"environment_id": one} for one in subjects.environments),
    ]
    every = {"freeze_window_id": window_id, "created_at": now, "updated_at": now}
    nothing = {"service_id": None, "team_id": None, "environment_id": None, "exempt": False}
    rows = [{"id": new_id(), **every, **nothing, **one} for one in columns]
    if rows:
        await tx.execute(insert(FreezeWindowSubject), rows)


def _subjects() -> ScalarSelect[Any]:
    subject = FreezeWindowSubject
    field = case(
        (subject.exempt, "exempt_services"),
        (subject.service_id.is_not(None), "services"),
        (subject.team_id.is_not(None), "teams"),
        else_="environments",
    )
    name = func.coalesce(Service.name, Team.name, Environment.name)
    subject_id = func.coalesce(subject.service_id, subject.team_id, subject.environment_id)
    entry = func.jsonb_build_object("field", field, "id", subject_id, "name", name)
    in_order = func.jsonb_agg(aggregate_order_by(entry, func.lower(name), subject_id))
    return (
        select(func.coalesce(in_order, func.jsonb_build_array()))
        .select_from(subject)
        .outerjoin(Service, Service.id == subject.service_id)
        .outerjoin(Team, Team.id == subject.team_id)
        .outerjoin(Environment, Environment.id == subject.environment_id)
        .where(subject.freeze_window_id == FreezeWindow.id)
        .correlate(FreezeWindow)
        .scalar_subquery()
    )


def _query() -> Select[*tuple[Any, ...]]:
    return select(
        FreezeWindow.id,
        FreezeWindow.name,
        FreezeWindow.kind,
        FreezeWindow.reason,
        FreezeWindow.time_zone,
        FreezeWindow.schedule,
        FreezeWindow.environment_types,
        FreezeWindow.includes_rollbacks,
        FreezeWindow.exception_dates,
        FreezeWindow.archived_at,
        FreezeWindow.row_version,
        FreezeWindow.created_at,
        FreezeWindow.updated_at,
        _subjects(),
        func.clock_timestamp(),
    )


_QUERY = _query()
_NAME = func.lower(FreezeWindow.name)
