"""What the board is made of: pairs of a service and an environment, and what happened there.

Whatever the number of pairs is, each question is one statement, and takes of each pair only the
few deployments that its state follows from.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    DateTime,
    ScalarSelect,
    Select,
    and_,
    bindparam,
    column,
    func,
    not_,
    select,
    true,
    union_all,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import UUID as PG_UUID
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import aliased

from services.deployment.rules.history import Deployed
from services.deployment.rules.lifecycle import DeploymentKind, DeploymentStatus, FailureClass
from services.deployment.rules.past import Recorded
from shared.db.keyset import Page, PageRequest, page, sorted_by
from shared.db.models.catalog import Environment, Release, Service
from shared.db.models.deployment import Deployment

RUNNING = ("in-progress", "paused", "cancelling")
OPEN = ("pending", *RUNNING)
MOST_OPEN = 1_000_000
"""More than ever wait for a pair at the same time."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_STATUSES = {one.value: one for one in DeploymentStatus}
_KINDS = {one.value: one for one in DeploymentKind}
_CLASSES = {one.value: one for one in FailureClass}
_COLUMNS = (
    "id",
    "release_id",
    "kind",
    "status",
    "deployed_at",
    "started_at",
    "touched_at",
    "completed_at",
    "completed_seq",
    "failure_class",
    "rollback_of",
    "rolled_back_by",
)
_TOUCHED_AT = _COLUMNS.index("touched_at")

Key = tuple[UUID, UUID]
"""A pair: a service and an environment."""


class PairNames(NamedTuple):
    """A service and an environment, with what decides which freeze windows concern them.

    The two last are when the service and the environment were changed last.
    """

    service_id: UUID
    service: str
    environment_id: UUID
    environment: str
    team_id: UUID
    environment_type: str
    service_changed_at: datetime
    environment_changed_at: datetime


@dataclass(frozen=True, slots=True)
class PairFilter:
    """Which pairs are asked for; None is any."""

    service_id: UUID | None = None
    environment_id: UUID | None = None
    team_id: UUID | None = None


async def moment(tx: AsyncConnection) -> datetime:
    """Return the time now, later than whatever this transaction sees."""
    now: datetime = (await tx.execute(select(func.clock_timestamp()))).scalar_one()
    return now


async def pair(tx: AsyncConnection, service_id: UUID, environment_id: UUID) -> PairNames:
    """Return a pair that is there, whatever happened in it."""
    query = _PAIRS.where(Service.id == service_id, Environment.id == environment_id)
    return PairNames._make((await tx.execute(query)).one())


async def pairs(
    tx: AsyncConnection, wanted: PageRequest, chosen: PairFilter, by: datetime
) -> Page[PairNames]:
    """Return a page of the pairs in which something had been requested by a moment.

    They come by service and promotion order.
    """
    query = _PAIRS.join(_requested(by, Environment.id), true()).where(*_narrowed(chosen))
    if chosen.environment_id is not None:
        query = query.where(Environment.id == chosen.environment_id)
    key = (func.lower(Service.name), Environment.promotion_order, Environment.id)
    found = await page(tx, query, sorted_by(*key), wanted)
    return found.map(lambda row: PairNames._make(row[:8]))


async def services(
    tx: AsyncConnection,
    wanted: PageRequest,
    chosen: PairFilter,
    by: datetime,
    environments: Sequence[UUID],
) -> Page[tuple[UUID, str]]:
    """Return a page of the services for which something had been requested in `environments`."""
    either = select(Service.id, Service.name).join(_requested(by, environments), true())
    query = either.where(*_narrowed(chosen))
    found = await page(tx, query, sorted_by(func.lower(Service.name)), wanted)
    return found.map(lambda row: (row[0], row[1]))


async def present(tx: AsyncConnection, wanted: Sequence[Key]) -> list[Collection[Deployed]]:
    """Return of each pair what its state follows from.

    That is what waits or runs, what is live, what ended last of those that reached the
    environment unless it had completed, what failed last, and what the rollbacks among these undo.
    """
    found: list[dict[UUID, Deployed]] = [{} for _ in wanted]
    for place, *values in (await tx.execute(_NOW, _given(wanted))).all():
        found[place - 1][values[0]] = _deployed(*values)
    return [history.values() for history in found]


async def recorded(
    tx: AsyncConnection, wanted: Sequence[Key], as_of: datetime
) -> list[Collection[Recorded]]:
    """Return of each pair what its state at a moment followed from; see `present`."""
    found: list[dict[UUID, Recorded]] = [{} for _ in wanted]
    given = _given(wanted) | {"as_of": as_of}
    for place, *values, undone_at in (await tx.execute(_THEN, given)).all():
        deployed = _deployed(*values)
        found[place - 1][deployed.id] = Recorded(deployed, values[_TOUCHED_AT], undone_at)
    return [history.values() for history in found]


def _given(wanted: Sequence[Key]) -> dict[str, Any]:
    return {
        "services": [service_id for service_id, _ in wanted],
        "environments": [environment_id for _, environment_id in wanted],
    }


def _deployed(  # noqa: PLR0913, PLR0917  (the columns of a row)
    deployment_id: UUID,
    release_id: UUID,
    kind: str,
    status: str,
    deployed_at: datetime,
    started_at: datetime | None,
    touched_at: datetime | None,
    completed_at: datetime | None,
    completed_seq: int | None,
    failure_class: str | None,
    rollback_of: UUID | None,
    version: str,
) -> Deployed:
    return Deployed(
        deployment_id,
        release_id,
        version,
        _KINDS[kind],
        _STATUSES[status],
        deployed_at,
        None if touched_at is None else (touched_at - _EPOCH) // _MICROSECOND,
        completed_seq,
        completed_at,
        None if failure_class is None else _CLASSES[failure_class],
        rollback_of,
        started_at=started_at,
    )


def _requested(by: datetime, environments: Any) -> Any:  # noqa: ANN401  (one, or several)
    """Return whether anything of a service had been requested, which is looked up for each."""
    one_place = not isinstance(environments, Sequence)
    place = Deployment.environment_id
    return (
        select(Deployment.id)
        .where(
            Deployment.service_id == Service.id,
            place == environments if one_place else place.in_(environments),
            Deployment.deployed_at <= by,
        )
        .limit(1)
        .correlate(Service, Environment)
        .lateral()
    )


def _histories(as_of: Any) -> Select[*tuple[Any, ...]]:  # noqa: ANN401  (None, or a parameter)
    """Return the statement about the histories of pairs, now or as of a moment."""
    asked = _asked()
    other = aliased(Deployment)
    of_pair = select(*(getattr(other, name) for name in _COLUMNS)).where(
        other.service_id == asked.c.service_id, other.environment_id == asked.c.environment_id
    )
    ended, live = _now(other) if as_of is None else _then(other, as_of)
    newest = of_pair.where(live).order_by(other.completed_seq.desc())
    reached = of_pair.where(ended, other.touched_at.is_not(None))
    failed = of_pair.where(ended, other.failure_class.is_not(None))
    last_reached = _lateral(reached.order_by(other.touched_at.desc()).limit(1), asked)
    chosen = [
        *((_lateral(query, asked), true()) for query in _open(of_pair, other, as_of)),
        (_lateral(newest.limit(1), asked), true()),
        (last_reached, last_reached.c.completed_seq.is_(None)),
        (_lateral(failed.order_by(other.completed_at.desc()).limit(1), asked), true()),
    ]
    main = union_all(
        *(
            select(asked.c.place, found).select_from(asked.join(found, condition))
            for found, condition in chosen
        )
    ).cte("main")
    undone = aliased(Deployment)
    subject = (
        select(*(getattr(undone, name) for name in _COLUMNS))
        .where(undone.id == main.c.rollback_of)
        .limit(1)
        .correlate(main)
        .lateral()
    )
    # Only a rollback that has not completed says what probably runs there instead.
    completed: ColumnElement[bool] = main.c.completed_seq.is_not(None)
    if as_of is not None:
        completed = and_(completed, main.c.completed_at <= as_of)
    undoing = (
        select(main.c.place, subject)
        .select_from(main.join(subject, true()))
        .where(main.c.rollback_of.is_not(None), not_(completed))
    )
    every = union_all(select(main), undoing).subquery("every")
    told = (every.c[name] for name in ("place", *_COLUMNS[:-1]))
    release = every.join(Release, Release.id == every.c.release_id)
    query = select(*told, Release.version).select_from(release)
    return query if as_of is None else query.add_columns(_undone_at(every))


def _asked() -> Any:  # noqa: ANN401  (a table of parameters)
    """Return the pairs as a table, each with its place."""
    ids = ARRAY(PG_UUID(as_uuid=True))
    return (
        func.unnest(bindparam("services", type_=ids), bindparam("environments", type_=ids))
        .table_valued(
            column("service_id", PG_UUID),
            column("environment_id", PG_UUID),
            with_ordinality="place",
        )
        .render_derived()
    )


def _lateral(query: Select[*tuple[Any, ...]], asked: Any) -> Any:  # noqa: ANN401  (tables)
    return query.correlate(asked).lateral()


def _open(
    of_pair: Select[*tuple[Any, ...]],
    of: Any,  # noqa: ANN401  (the table, aliased)
    as_of: Any,  # noqa: ANN401  (None, or a parameter)
) -> list[Select[*tuple[Any, ...]]]:
    """Return what finds the deployments that wait or run, each by an index of its own."""
    by_now = [of_pair.where(of.status == "pending"), of_pair.where(of.status.in_(RUNNING))]
    if as_of is None:
        return by_now
    by_then = [query.where(of.deployed_at <= as_of) for query in by_now]
    # The limit, which is none, has each pair looked up in the index instead of reading them all.
    ended_since = of_pair.where(of.completed_at > as_of, of.deployed_at <= as_of)
    return [*by_then, ended_since.limit(MOST_OPEN)]


def _now(of: Any) -> tuple[ColumnElement[bool], ColumnElement[bool]]:  # noqa: ANN401
    """Return when a deployment has ended, and when it can be live."""
    # That there is a number says that the index on it can be used.
    return of.status.not_in(OPEN), and_(of.status == "completed", of.completed_seq.is_not(None))


def _then(
    of: Any,  # noqa: ANN401  (the table, aliased)
    as_of: Any,  # noqa: ANN401  (a parameter)
) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    """Return the same as of a moment."""
    undoing = aliased(Deployment)
    undone = select(undoing.id).where(undoing.id == of.rolled_back_by, undoing.deployed_at <= as_of)
    ended = of.completed_at <= as_of
    return ended, and_(of.completed_seq.is_not(None), ended, ~undone.correlate(of).exists())


def _undone_at(every: Any) -> ScalarSelect[Any]:  # noqa: ANN401  (a subquery)
    undoing = aliased(Deployment)
    return (
        select(undoing.deployed_at)
        .where(undoing.id == every.c.rolled_back_by)
        .correlate(every)
        .scalar_subquery()
    )


def _narrowed(chosen: PairFilter) -> list[ColumnElement[bool]]:
    asked = {Service.id: chosen.service_id, Service.team_id: chosen.team_id}
    return [field == value for field, value in asked.items() if value is not None]


_PAIRS: Select[*tuple[Any, ...]] = (
    select(
        Service.id,
        Service.name,
        Environment.id,
        Environment.name,
        Service.team_id,
        Environment.environment_type,
        Service.updated_at,
        Environment.updated_at,
    )
    .select_from(Service)
    .join(Environment, true())
)
_NOW = _histories(None)
_THEN = _histories(bindparam("as_of", type_=DateTime(timezone=True)))
