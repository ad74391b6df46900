"""Everything the rules ask about deployments, in one query however many they are.

A dossier is a deployment with the names of what it is about and, as long as it waits, the facts of
its gates. It serves a change, which reads it under its locks, a single answer and whole lists.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, DefaultClause, Row, cast, literal, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import aliased

from services.deployment.store.dossier_query import query
from services.deployment.store.fields import ANYTHING, DEPLOYMENTS, Expressions
from shared.db.keyset import Page, PageRequest, Position, page, position_of, sorted_by
from shared.db.models.catalog import Service, Team
from shared.db.models.deployment import Approval, Deployment
from shared.db.models.identity import User

_QUERY = query(Deployment)
Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Dossier:
    """A deployment, names included, and what its gates are about.

    The policy is the current one as long as it is pending, then that of the moment it stopped
    being so; `policy` is None for the default of the type. `live`, `occupant`, `predecessors`,
    `needs`, `others_wait` (requested before it), `outdated_by`, `locks` and `stood_still_until`
    (when nobody could decide last) are None unless it is pending. `approvals` are all its rows with
    their people, oldest first, and `overrides` its overrides, too; `lease` is None unless somebody
    has claimed it. JSON has times as text. `moment` is the database's time of the query.
    """

    id: UUID
    release_id: UUID
    service_id: UUID
    environment_id: UUID
    deployed_by: UUID
    requesters: list[UUID]
    kind: str
    status: str
    artifact_digest: str
    allow_downgrade: bool
    deployed_at: datetime
    started_at: datetime | None
    touched_at: datetime | None
    completed_at: datetime | None
    completed_seq: int | None
    decide_by: datetime | None
    not_before: datetime | None
    start_by: datetime | None
    failure_cause: str | None
    failure_class: str | None
    status_reason: str
    rollback_of: UUID | None
    rolled_back_by: UUID | None
    superseded_by: UUID | None
    deadline: datetime | None
    row_version: int
    created_at: datetime
    updated_at: datetime
    service: str
    team_id: UUID
    version: str
    environment: str
    deployed_by_name: str
    release_status: str
    release_digest: str
    authors: list[UUID]
    published_at: datetime | None
    environment_type: str
    policy_version: int
    policy: Json | None
    policy_since: datetime | None
    bad_because: str | None
    approvals: Sequence[Json]
    live: Json | None
    occupant: Json | None
    predecessors: Sequence[Json] | None
    needs: Sequence[Json] | None
    others_wait: bool | None
    outdated_by: Json | None
    locks: Sequence[Json] | None
    overrides: Sequence[Json]
    lease: Json | None
    stood_still_until: datetime | None
    moment: datetime


@dataclass(frozen=True, slots=True)
class DeploymentFilter:
    """Which deployments to list; None is any."""

    service_id: UUID | None = None
    environment_id: UUID | None = None
    release_id: UUID | None = None
    deployed_by: UUID | None = None
    status: str | None = None
    kind: str | None = None


@dataclass(frozen=True, slots=True)
class WaitingFilter:
    """Which waiting deployments to list; None is any. `asked` was asked to approve them."""

    service_id: UUID | None = None
    environment_id: UUID | None = None
    asked: UUID | None = None


async def one(tx: AsyncConnection, deployment_id: UUID) -> Dossier | None:
    """Return the dossier of a deployment, None when there is no such deployment."""
    row = (await tx.execute(_QUERY.where(Deployment.id == deployment_id))).one_or_none()
    return None if row is None else _dossier(row)


async def several(tx: AsyncConnection, ids: Collection[UUID]) -> list[Dossier]:
    """Return the dossiers of these deployments, as many as there are, ordered by id."""
    rows = await tx.execute(_QUERY.where(Deployment.id.in_(ids)).order_by(Deployment.id))
    return [_dossier(row) for row in rows.all()]


async def proposed(tx: AsyncConnection, given: Json) -> Dossier:
    """Return the dossier that a new deployment with these columns would have; writes nothing.

    Columns that are not given have the value of a new row. Whatever the columns refer to must be
    there, else there is no dossier: raises NoResultFound.
    """
    columns = Deployment.__table__.columns
    row = select(*(_proposed(column, given).label(column.name) for column in columns))
    subject = aliased(Deployment, row.subquery("proposed"), adapt_on_names=True)
    return _dossier((await tx.execute(query(subject))).one())


async def listed(
    tx: AsyncConnection,
    wanted: PageRequest,
    chosen: DeploymentFilter,
    asked: Expressions = ANYTHING,
) -> Page[Dossier]:
    """Return a page of dossiers, the newest request first; raises ExpressionInvalid."""
    given = {field.name: getattr(chosen, field.name) for field in fields(chosen)}
    conditions = (
        getattr(Deployment, name) == value for name, value in given.items() if value is not None
    )
    wide = _QUERY.join(Team, Team.id == Service.team_id)
    wide = wide.where(*conditions, DEPLOYMENTS.where(asked.filter))
    found = await page(tx, wide, DEPLOYMENTS.order(asked.order_by), wanted)
    return found.map(_dossier)


async def waiting_in(tx: AsyncConnection, environment_id: UUID) -> list[Dossier]:
    """Return all that waits for an environment and may need approvals, ordered by id."""
    waiting = _QUERY.where(
        Deployment.environment_id == environment_id,
        Deployment.status == "pending",
        Deployment.kind != "rollback",
    )
    return [_dossier(row) for row in (await tx.execute(waiting.order_by(Deployment.id))).all()]


async def in_line(tx: AsyncConnection, pairs: Collection[tuple[UUID, UUID]]) -> list[Dossier]:
    """Return all that waits for these pairs (service, environment), rollbacks left out."""
    waiting = _QUERY.where(
        tuple_(Deployment.service_id, Deployment.environment_id).in_(pairs),
        Deployment.status == "pending",
        Deployment.kind != "rollback",
    )
    return [_dossier(row) for row in (await tx.execute(waiting)).all()]


async def waiting_oldest_first(
    tx: AsyncConnection, wanted: PageRequest, chosen: WaitingFilter
) -> Page[Dossier]:
    """Return a page of what waits and may need approvals, the oldest request first."""
    waiting = _QUERY.where(Deployment.status == "pending", Deployment.kind != "rollback")
    if chosen.service_id is not None:
        waiting = waiting.where(Deployment.service_id == chosen.service_id)
    if chosen.environment_id is not None:
        waiting = waiting.where(Deployment.environment_id == chosen.environment_id)
    if chosen.asked is not None:
        asked = select(Approval.deployment_id).where(
            Approval.approver_id == chosen.asked, Approval.status == "pending"
        )
        waiting = waiting.where(Deployment.id.in_(asked))
    found = await page(tx, waiting, sorted_by(Deployment.deployed_at, Deployment.id), wanted)
    return found.map(_dossier)


def position(dossier: Dossier) -> Position:
    """Return where a list of requests in their order goes on behind this one."""
    return position_of(dossier.deployed_at, dossier.id)


async def possible_approvers(
    tx: AsyncConnection, roles: Collection[str]
) -> Sequence[Row[UUID, str, str, bool, str, datetime | None]]:
    """Return the active people with one of `roles`: id, name, role, active, kind, last demotion."""
    statement = select(
        User.id, User.username, User.role, User.active, User.kind, User.demoted_at
    ).where(User.kind == "person", User.active, User.role.in_(roles))
    return (await tx.execute(statement)).all()


def _dossier(row: Row[*tuple[Any, ...]]) -> Dossier:
    found = row._mapping  # noqa: SLF001  (the documented way to read a row by names)
    return Dossier(**{field.name: found[field.name] for field in fields(Dossier)})


def _proposed(column: Any, given: Json) -> ColumnElement[Any]:  # noqa: ANN401  (of any type)
    """Return the value of a column in a row that only has what is given."""
    default = column.server_default
    if column.name not in given and isinstance(default, DefaultClause):
        return cast(default.arg, column.type)
    return cast(literal(given.get(column.name), column.type), column.type)
