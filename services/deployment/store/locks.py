"""The locks of a change, in the order that the package describes."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, String, and_, cast, func, literal, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.db.models.catalog import Environment, Release, Service
from shared.db.models.deployment import Approval, Deployment, EnvironmentPolicy, ReleaseMark
from shared.db.models.identity import User
from shared.errors import ResourceArchived, ResourceNotFound

_TICK = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Pair:
    """A service in an environment, held by this transaction since `moment`.

    `release_id` is the release that the change is about.
    """

    service_id: UUID
    environment_id: UUID
    release_id: UUID
    moment: datetime


@dataclass(frozen=True, slots=True)
class ReleaseRow:
    """A release, and why it is marked bad in the environment in question."""

    id: UUID
    version: str
    status: str
    artifact_digest: str
    authors: list[UUID]
    published_at: datetime | None
    irreversible: bool
    bad_because: str | None
    archived: bool


@dataclass(frozen=True, slots=True)
class EnvironmentRow:
    """An environment with its current policy; version 0 is the default of its type."""

    id: UUID
    name: str
    environment_type: str
    policy_version: int
    policy: Mapping[str, Any] | None
    policy_since: datetime | None


async def hold_pair(
    tx: AsyncConnection, service_id: UUID, environment_id: UUID, release_id: UUID
) -> Pair:
    """Take the pair; wait for whoever has it."""
    lock = _pair_lock(literal(str(service_id)), literal(str(environment_id)))
    await tx.execute(select(lock))
    return await _held(tx, service_id, environment_id, release_id)


async def hold_pair_of(tx: AsyncConnection, deployment_id: UUID) -> Pair | None:
    """Take the pair of a deployment; None when there is no such deployment."""
    service_id, environment_id = Deployment.service_id, Deployment.environment_id
    lock = _pair_lock(cast(service_id, String), cast(environment_id, String))
    statement = select(lock, service_id, environment_id, Deployment.release_id).where(
        Deployment.id == deployment_id
    )
    row = (await tx.execute(statement)).one_or_none()
    return None if row is None else await _held(tx, *row[1:])


async def _held(
    tx: AsyncConnection, service_id: UUID, environment_id: UUID, release_id: UUID
) -> Pair:
    """Return the pair with the time now, later than any by which its deployments are ordered.

    A clock may go back, as on the way to another machine; an order must not. The statement is one
    of its own, so that it sees what was committed during the wait for the pair.
    """
    here = (Deployment.service_id == service_id, Deployment.environment_id == environment_id)
    last = (
        select(func.max(column) + _TICK).where(*here).scalar_subquery()
        for column in (Deployment.deployed_at, Deployment.touched_at)
    )
    moment = select(func.greatest(func.clock_timestamp(), *last))
    now: datetime = (await tx.execute(moment)).scalar_one()
    return Pair(service_id, environment_id, release_id, now)


def _pair_lock(service: ColumnElement[str], environment: ColumnElement[str]) -> ColumnElement[Any]:
    name = func.concat("pair:", service, "/", environment)
    return func.pg_advisory_xact_lock(func.hashtextextended(name, 0))


async def hold_releases(
    tx: AsyncConnection,
    release_ids: Collection[UUID],
    environment_id: UUID,
    *,
    to_change: bool = False,
) -> dict[UUID, ReleaseRow]:
    """Keep the releases as they are, or for this change alone if it may set their status."""
    bad = (
        select(ReleaseMark.reason)
        .where(marked_bad(Release.id, environment_id))
        .limit(1)
        .scalar_subquery()
    )
    statement = (
        select(
            Release.id,
            Release.version,
            Release.status,
            Release.artifact_digest,
            Release.authors,
            Release.published_at,
            Release.irreversible,
            bad,
            Release.archived_at.is_not(None),
        )
        .where(Release.id.in_(release_ids))
        .order_by(Release.id)
        .with_for_update(read=not to_change, key_share=to_change, of=Release)
    )
    rows = (await tx.execute(statement)).all()
    held = {row[0]: ReleaseRow(*row) for row in rows}
    for missing in set(release_ids) - held.keys():  # deleted since it was found by its name
        raise ResourceNotFound(resource_type="release", resource=missing)
    return held


def marked_bad(release_id: Any, environment_id: Any) -> ColumnElement[bool]:  # noqa: ANN401
    """Return the condition that a mark says the release is bad in the environment."""
    return and_(
        ReleaseMark.release_id == release_id,
        ReleaseMark.cleared_at.is_(None),
        or_(
            ReleaseMark.environment_id.is_(None),
            ReleaseMark.environment_id == environment_id,
        ),
    )


async def hold_service(tx: AsyncConnection, service_id: UUID) -> None:
    """Keep the service as it is; raises ResourceArchived for one that was put away."""
    statement = select(Service.name, Service.archived_at).where(Service.id == service_id)
    row = (await tx.execute(statement.with_for_update(read=True))).one_or_none()
    if row is None:  # deleted since it was found by the name of its release
        raise ResourceNotFound(resource_type="service", resource=service_id)
    if row.archived_at is not None:
        raise ResourceArchived(resource_type="service", resource=row.name)


async def hold_environment(tx: AsyncConnection, environment_id: UUID) -> EnvironmentRow:
    """Keep the environment and the version of its policy as they are.

    Raises ResourceArchived for one that was put away: nothing there is unfinished, and nothing
    new may begin.
    """
    statement = (
        select(
            Environment.id,
            Environment.name,
            Environment.environment_type,
            Environment.policy_version,
            EnvironmentPolicy.policy,
            EnvironmentPolicy.created_at,
            Environment.archived_at,
        )
        .outerjoin(
            EnvironmentPolicy,
            and_(
                EnvironmentPolicy.environment_id == Environment.id,
                EnvironmentPolicy.policy_version == Environment.policy_version,
            ),
        )
        .where(Environment.id == environment_id)
        .with_for_update(read=True, of=Environment)
    )
    row = (await tx.execute(statement)).one_or_none()
    if row is None:  # deleted since it was found by its name
        raise ResourceNotFound(resource_type="environment", resource=environment_id)
    *known, archived_at = row
    environment = EnvironmentRow(*known)
    if archived_at is not None:
        raise ResourceArchived(resource_type="environment", resource=environment.name)
    return environment


async def hold_people(
    tx: AsyncConnection, deployment_id: UUID, others: Collection[UUID] = ()
) -> None:
    """Keep everybody who has approved the deployment, and `others`, as they are."""
    approvers = select(Approval.approver_id).where(
        Approval.deployment_id == deployment_id, Approval.status == "approved"
    )
    statement = (
        select(User.id)
        .where(or_(User.id.in_(approvers), User.id.in_(others)))
        .order_by(User.id)
        .with_for_update(read=True)
    )
    await tx.execute(statement)
