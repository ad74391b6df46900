"""What the figures of DORA are made of: what ended in an interval, and what became of it.

Each question is one statement, however many services, environments and deployments there are.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    FromClause,
    Select,
    and_,
    cast,
    column,
    func,
    literal,
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

from services.deployment.rules.dora import Candidate, Delivery, Interval, Restored
from services.deployment.rules.lifecycle import OPEN
from shared.db.models.catalog import Environment, Release, Service
from shared.db.models.deployment import Deployment, ReleaseMark

_OPEN = sorted(map(str, OPEN))
ROWS_AT_ONCE: Final = 1_000
Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class Choice:
    """Whose deployments are asked about, and where; None for any service or team."""

    environment_ids: tuple[UUID, ...]
    service_id: UUID | None = None
    team_id: UUID | None = None


async def production(tx: AsyncConnection) -> list[tuple[UUID, str]]:
    """Return id and name of every environment of type prod, also archived ones, by name."""
    query = select(Environment.id, Environment.name).where(Environment.environment_type == "prod")
    rows = await tx.execute(query.order_by(func.lower(Environment.name)))
    return [(row.id, row.name) for row in rows]


async def deliveries(tx: AsyncConnection, choice: Choice, interval: Interval) -> list[Delivery]:
    """Return what ended in an interval, and what reached its environment in it and is open."""
    within = _within(Deployment.completed_at, interval)
    still = and_(Deployment.status.in_(_OPEN), _within(Deployment.touched_at, interval))
    chosen = union_all(
        *(
            select(Deployment).where(Deployment.status.not_in(_OPEN), within, _of(choice)),
            select(Deployment).where(still, _of(choice)),
        )
    ).subquery("chosen")
    found = aliased(Deployment, chosen)
    query = (
        select(
            found.id,
            found.service_id,
            found.environment_id,
            found.release_id,
            Service.name,
            Release.version,
            Environment.name,
            found.kind,
            found.status,
            found.touched_at,
            found.completed_at,
            found.completed_seq,
            found.failure_class,
            found.rolled_back_by,
        )
        .join(Service, Service.id == found.service_id)
        .join(Release, Release.id == found.release_id)
        .join(Environment, Environment.id == found.environment_id)
    )
    return await _made(tx, query, Delivery)


async def marks(
    tx: AsyncConnection, choice: Choice, since: datetime
) -> dict[UUID, tuple[UUID, ...]]:
    """Return the marks since a moment that hold because of a deployment, by its id.

    A mark that names no deployment is about the newest one that had brought its release to the
    environment by then: neither a rollback nor a redeploy, which bring nothing new, nor one that
    the machinery failed.
    """
    blamed = aliased(Deployment)
    here = and_(
        blamed.release_id == ReleaseMark.release_id, blamed.environment_id == Environment.id
    )
    newest = (
        select(blamed.id)
        .where(
            here,
            blamed.kind.in_(("deploy", "promote")),
            func.coalesce(blamed.failure_class, "") != "errored",
            blamed.touched_at <= ReleaseMark.created_at,
        )
        .order_by(blamed.touched_at.desc(), blamed.id.desc())
        .limit(1)
        .correlate(ReleaseMark, Environment)
        .scalar_subquery()
    )
    about = func.coalesce(ReleaseMark.deployment_id, newest)
    everywhere = ReleaseMark.environment_id.is_(None)
    query = (
        select(ReleaseMark.id, about.label("about"))
        .join(Environment, or_(everywhere, Environment.id == ReleaseMark.environment_id))
        .join(Release, Release.id == ReleaseMark.release_id)
        .where(
            ReleaseMark.cleared_at.is_(None),
            ReleaseMark.created_at >= since,
            Environment.id.in_(choice.environment_ids),
            _services(choice, Release.service_id),
            about.is_not(None),
        )
        .order_by(ReleaseMark.created_at, ReleaseMark.id)
    )
    found: dict[UUID, tuple[UUID, ...]] = {}
    for row in (await tx.execute(query)).all():
        found[row.about] = (*found.get(row.about, ()), row.id)
    return found


async def restorations(
    tx: AsyncConnection, failed: Collection[UUID], marked: Collection[UUID]
) -> Mapping[UUID, Restored]:
    """Return what ended each failed change: the next completion there that stands.

    One that was rolled back itself, or is `marked` bad, does not stand; nor does the release that
    had completed and proved bad, when it is deployed once more.
    """
    failure = aliased(Deployment)
    after = aliased(Deployment)
    never = failure.completed_seq.is_(None)
    ended = (
        select(after.id, after.completed_at)
        .where(
            after.service_id == failure.service_id,
            after.environment_id == failure.environment_id,
            after.completed_at.is_not(None),
            after.completed_at >= failure.completed_at,
            after.status == "completed",
            or_(
                never,
                and_(
                    after.completed_seq > failure.completed_seq,
                    after.release_id != failure.release_id,
                ),
            ),
            after.id != func.all(_ids(marked)),
        )
        .order_by(after.completed_at, after.completed_seq)
        .limit(1)
        .correlate(failure)
        .lateral("ended")
    )
    query = (
        select(failure.id.label("failure"), ended.c.id, ended.c.completed_at)
        .select_from(failure)
        .join(ended, true())
        .where(failure.id == func.any(_ids(failed)))
    )
    rows = await tx.execute(query)
    return {row.failure: Restored(row.id, row.completed_at) for row in rows}


async def candidates(
    tx: AsyncConnection, pairs: Sequence[tuple[UUID, UUID]], interval: Interval
) -> list[Candidate]:
    """Return what completions of the interval may have brought first to these pairs.

    What the last completion before the interval carries had come by then, and so had all that this
    carries; neither is read, however long the history is.
    """
    asked = func.unnest(_ids(of for of, _ in pairs), _ids(at for _, at in pairs))
    pair = asked.table_valued(
        column("service_id", PG_UUID(as_uuid=True)), column("environment_id", PG_UUID(as_uuid=True))
    ).render_derived("pair")
    before = _before(pair, interval.start)
    release = _not_carried(pair, before, interval.end)
    own = aliased(Deployment)
    first = (
        select(func.min(own.completed_seq).label("seq"))
        .where(
            own.release_id == release.c.id,
            own.environment_id == pair.c.environment_id,
            own.completed_seq.is_not(None),
        )
        .correlate(release, pair)
        .lateral("first")
    )
    named = (Service.name + literal("@") + release.c.version).label("name")
    query = (
        select(
            pair.c.service_id,
            pair.c.environment_id,
            named,
            release.c.version_key,
            release.c.published_at,
            release.c.commit_time,
            release.c.created_at,
            first.c.seq,
        )
        .select_from(pair)
        .join(Service, Service.id == pair.c.service_id)
        .outerjoin(before, true())
        .join(release, true())
        .join(first, true())
        .where(or_(release.c.status != "abandoned", first.c.seq.is_not(None)))
    )
    return await _made(tx, query, Candidate)


async def _made(
    tx: AsyncConnection, query: Select[*tuple[Any, ...]], make: Callable[..., Made]
) -> list[Made]:
    """Return what is made of many rows, read in portions between which others are served."""
    async with tx.stream(query, execution_options={"yield_per": ROWS_AT_ONCE}) as rows:
        return [make(*row) async for portion in rows.partitions() for row in portion]


def _before(pair: FromClause, moment: datetime) -> Any:  # noqa: ANN401  (a lateral subquery)
    """Return the release of the last completion of a pair before a moment."""
    earlier, release = aliased(Deployment), aliased(Release)
    query: Select[*tuple[Any, ...]] = (
        select(release.version_key, release.published_at)
        .join(earlier, earlier.release_id == release.id)
        .where(
            earlier.service_id == pair.c.service_id,
            earlier.environment_id == pair.c.environment_id,
            earlier.completed_at < moment,
            earlier.completed_seq.is_not(None),
        )
        .order_by(earlier.completed_at.desc(), earlier.completed_seq.desc())
        .limit(1)
        .correlate(pair)
    )
    return query.lateral("before")


def _not_carried(pair: FromClause, before: FromClause, end: datetime) -> Any:  # noqa: ANN401  (a lateral subquery)
    """Return the releases published before `end` that an earlier one does not carry.

    Two branches, so that each has the order of an index: later ones, and higher ones.
    """
    earliest: ColumnElement[datetime] = literal_column("'-infinity'::timestamptz")
    columns = (
        "id",
        "version",
        "version_key",
        "published_at",
        "commit_time",
        "created_at",
        "status",
    )
    branches = []
    for later in (True, False):
        one = aliased(Release)
        which = (
            one.published_at > func.coalesce(before.c.published_at, earliest)
            if later
            else and_(
                one.version_key > before.c.version_key, one.published_at <= before.c.published_at
            )
        )
        branch = select(*(getattr(one, name) for name in columns)).where(
            one.service_id == pair.c.service_id, one.published_at < end, which
        )
        branches.append(branch.correlate(pair, before))
    return union_all(*branches).lateral("release")


def _within(when: Any, interval: Interval) -> ColumnElement[bool]:  # noqa: ANN401  (a column)
    return and_(when.is_not(None), when >= interval.start, when < interval.end)


def _of(choice: Choice) -> ColumnElement[bool]:
    here = Deployment.environment_id.in_(choice.environment_ids)
    return and_(here, _services(choice, Deployment.service_id))


def _services(choice: Choice, service_id: Any) -> ColumnElement[bool]:  # noqa: ANN401  (a column)
    if choice.service_id is not None:
        return service_id == choice.service_id  # type: ignore[no-any-return]
    if choice.team_id is not None:
        of_team = select(Service.id).where(Service.team_id == choice.team_id)
        return service_id.in_(of_team)  # type: ignore[no-any-return]
    return true()


def _ids(ids: Any) -> ColumnElement[Any]:  # noqa: ANN401  (UUIDs)
    return cast(list(ids), ARRAY(PG_UUID(as_uuid=True)))
