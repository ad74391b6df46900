"""The locks of a change, in the order that the package describes."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, String, and_, cast, func, literal, null, or_, select
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
class ServiceRow:
    """A service."""

    id: UUID
    name: str
    archived: bool


@dataclass(frozen=True, slots=True)
class ReleaseRow:
    """A release."""

    id: UUID
    version: str
    status: str
    artifact_digest: str
    authors: list[UUID]
    published_at: datetime | None
    irreversible: bool
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
    archived: bool = False


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
    return await _pair_of(tx, deployment_id, select(lock))


async def pair_of(tx: AsyncConnection, deployment_id: UUID) -> Pair | None:
    """Return the pair of a deployment without taking it."""
    return await _pair_of(tx, deployment_id, select(null()))


async def _pair_of(tx: AsyncConnection, deployment_id: UUID, first: Select[Any]) -> Pair | None:
    own = (Deployment.service_id, Deployment.environment_id, Deployment.release_id)
    statement = first.add_columns(*own).where(Deployment.id == deployment_id)
    row = (await tx.execute(statement)).one_or_none()
    return None if row is None else await _held(tx, *row[1:])


async def _held(
    tx: AsyncConnection, service_id: UUID, environment_id: UUID, release_id: UUID
) -> Pair:
    """Return the pair with the time now.

    The statement is one of its own: it sees what was committed during the wait for the pair.
    """
    now = await moment(tx, service_id, environment_id)
    return Pair(service_id, environment_id, release_id, now)


async def moment(tx: AsyncConnection, service_id: UUID, environment_id: UUID) -> datetime:
    """Return the time now, later than any by which the deployments of a pair are ordered.

    A clock may go back, as on the way to another machine; an order must not.
    """
    here = (Deployment.service_id == service_id, Deployment.environment_id == environment_id)
    last = (
        select(func.max(column) + _TICK).where(*here).scalar_subquery()
        for column in (Deployment.deployed_at, Deployment.touched_at)
    )
    now: datetime = (
        await tx.execute(select(func.greatest(func.clock_timestamp(), *last)))
    ).scalar_one()
    return now


def _pair_lock(service: ColumnElement[str], environment: ColumnElement[str]) -> ColumnElement[Any]:
    name = func.concat("pair:", service, "/", environment)
    return func.pg_advisory_xact_lock(func.hashtextextended(name, 0))


async def hold_releases(
    tx: AsyncConnection, release_ids: Collection[UUID], *, to_change: bool = False
) -> dict[UUID, ReleaseRow]:
    """Keep the releases as they are, or for this change alone if it may set their status.

    What marks say of them stays as it is too, since who makes or clears one holds the release.
    """
    return await releases(tx, release_ids, hold=True, to_change=to_change)


async def releases(
    tx: AsyncConnection, release_ids: Collection[UUID], *, hold: bool, to_change: bool = False
) -> dict[UUID, ReleaseRow]:
    """Return the releases, which the transaction keeps if it shall `hold` them."""
    statement = (
        select(
            Release.id,
            Release.version,
            Release.status,
            Release.artifact_digest,
            Release.authors,
            Release.published_at,
            Release.irreversible,
            Release.archived_at.is_not(None),
        )
        .where(Release.id.in_(release_ids))
        .order_by(Release.id)
    )
    if hold:
        statement = statement.with_for_update(read=not to_change, key_share=to_change, of=Release)
    rows = (await tx.execute(statement)).all()
    held = {row[0]: ReleaseRow(*row) for row in rows}
    for missing in set(release_ids) - held.keys():  # deleted since it was found by its name
        raise ResourceNotFound(resource_type="release", resource=missing)
    return held


async def bad_releases(
    tx: AsyncConnection, release_ids: Collection[UUID], environment_id: UUID
) -> dict[UUID, str]:
    """Return why each of the releases that this change holds is marked bad in the environment.

    A statement of its own: the one that waited for the releases sees what was before the wait.
    """
    statement = select(ReleaseMark.release_id, ReleaseMark.reason).where(
        ReleaseMark.release_id.in_(release_ids), marked_bad(ReleaseMark.release_id, environment_id)
    )
    return {row.release_id: row.reason for row in (await tx.execute(statement)).all()}


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


async def service(tx: AsyncConnection, service_id: UUID, *, hold: bool) -> ServiceRow:
    """Return the service, which the transaction keeps if it shall `hold` it."""
    statement = select(Service.id, Service.name, Service.archived_at.is_not(None)).where(
        Service.id == service_id
    )
    if hold:
        statement = statement.with_for_update(read=True)
    row = (await tx.execute(statement)).one_or_none()
    if row is None:  # deleted since it was found by the name of its release
        raise ResourceNotFound(resource_type="service", resource=service_id)
    return ServiceRow(*row)


async def hold_environment(tx: AsyncConnection, environment_id: UUID) -> EnvironmentRow:
    """Keep the environment and the version of its policy as they are.

    Raises ResourceArchived for one that was put away: nothing there is unfinished, and nothing
    new may begin.
    """
    held = await environment(tx, environment_id, hold=True)
    if held.archived:
        raise ResourceArchived(resource_type="environment", resource=held.name)
    return held


async def environment(tx: AsyncConnection, environment_id: UUID, *, hold: bool) -> EnvironmentRow:
    """Return the environment, which the transaction keeps if it shall `hold` it.

    The version may have been published while this waited. Then the environment is as it is now,
    but a policy that was not there before the wait is not found, and has to be read again.
    """
    statement = (
        select(
            Environment.id,
            Environment.name,
            Environment.environment_type,
            Environment.policy_version,
            EnvironmentPolicy.policy,
            EnvironmentPolicy.created_at,
            Environment.archived_at.is_not(None),
        )
        .outerjoin(
            EnvironmentPolicy,
            and_(
                EnvironmentPolicy.environment_id == Environment.id,
                EnvironmentPolicy.policy_version == Environment.policy_version,
            ),
        )
        .where(Environment.id == environment_id)
    )
    if hold:
        statement = statement.with_for_update(read=True, of=Environment)
    row = (await tx.execute(statement)).one_or_none()
    if row is None:  # deleted since it was found by its name
        raise ResourceNotFound(resource_type="environment", resource=environment_id)
    found = EnvironmentRow(*row)
    if found.policy is None and found.policy_version > 0:
        return await _with_policy(tx, found)
    return found


async def hold_environments(tx: AsyncConnection, environment_id: UUID | None = None) -> datetime:
    """Take an environment, or all of them, so that nothing starts there meanwhile.

    Returns the moment from which a restriction made now holds: later than all starts that did not
    mind it, also when the clock has gone back since, as on the way to another machine.
    """
    held = select(Environment.id).order_by(Environment.id).with_for_update(key_share=True)
    started = select(func.max(Deployment.started_at) + _TICK)
    if environment_id is not None:
        held = held.where(Environment.id == environment_id)
        started = started.where(Deployment.environment_id == environment_id)
    if not (await tx.execute(held)).all() and environment_id is not None:
        raise ResourceNotFound(resource_type="environment", resource=environment_id)
    moment = select(func.greatest(func.clock_timestamp(), started.scalar_subquery()))
    now: datetime = (await tx.execute(moment)).scalar_one()
    return now


async def _with_policy(tx: AsyncConnection, found: EnvironmentRow) -> EnvironmentRow:
    statement = select(EnvironmentPolicy.policy, EnvironmentPolicy.created_at).where(
        EnvironmentPolicy.environment_id == found.id,
        EnvironmentPolicy.policy_version == found.policy_version,
    )
    policy, since = (await tx.execute(statement)).one()
    return replace(found, policy=policy, policy_since=since)


async def active_role(tx: AsyncConnection, user_id: UUID, *, hold: bool) -> str | None:
    """Return the role of an account, which the transaction keeps if it shall `hold` it.

    None of an account that is not active.
    """
    statement = select(User.role).where(User.id == user_id, User.active)
    if hold:
        statement = statement.with_for_update(read=True)
    return (await tx.execute(statement)).scalar_one_or_none()


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
