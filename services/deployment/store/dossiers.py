"""Everything the rules ask about deployments, in one query however many they are.

A dossier is a deployment with the names of what it is about and, as long as it waits, the facts of
its gates. It serves a change, which reads it under its locks, a single answer and whole lists.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, ScalarSelect, Select, and_, case, func, or_, select
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import aliased

from services.deployment.store.locks import marked_bad
from shared.db.keyset import Page, PageRequest, page, sorted_by
from shared.db.models.catalog import Environment, Release, Service
from shared.db.models.deployment import Approval, Deployment, EnvironmentPolicy, ReleaseMark
from shared.db.models.identity import User

RUNNING = ("in-progress", "paused", "cancelling")
Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Dossier:
    """A deployment, names included, and what its gates are about.

    The policy is the current one as long as it is pending, then that of the moment it stopped
    being so; `policy` is None for the default of the type. `live`, `occupant` and `predecessors`
    are None unless it is pending. `approvals` are all its rows with their people, oldest first.
    JSON has times as text. `moment` is the database's time of the query.
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
    failure_cause: str | None
    failure_class: str | None
    status_reason: str
    rollback_of: UUID | None
    rolled_back_by: UUID | None
    superseded_by: UUID | None
    row_version: int
    created_at: datetime
    updated_at: datetime
    service: str
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


async def one(tx: AsyncConnection, deployment_id: UUID) -> Dossier | None:
    """Return the dossier of a deployment, None when there is no such deployment."""
    row = (await tx.execute(_QUERY.where(Deployment.id == deployment_id))).one_or_none()
    return None if row is None else _dossier(row)


async def newest_first(
    tx: AsyncConnection, wanted: PageRequest, chosen: DeploymentFilter
) -> Page[Dossier]:
    """Return a page of dossiers, the newest request first."""
    given = {field.name: getattr(chosen, field.name) for field in fields(chosen)}
    conditions = (
        getattr(Deployment, name) == value for name, value in given.items() if value is not None
    )
    query = _QUERY.where(*conditions)
    key = (Deployment.deployed_at, Deployment.id)
    found = await page(tx, query, sorted_by(*key, descending=True), wanted)
    return found.map(_dossier)


async def possible_approvers(
    tx: AsyncConnection, roles: Collection[str]
) -> Sequence[Row[UUID, str, str, bool, str, datetime]]:
    """Return the active people with one of `roles`: id, name, role, active, kind, last change."""
    statement = select(
        User.id, User.username, User.role, User.active, User.kind, User.updated_at
    ).where(User.kind == "person", User.active, User.role.in_(roles))
    return (await tx.execute(statement)).all()


def _dossier(row: Row[*tuple[Any, ...]]) -> Dossier:
    found = row._mapping  # noqa: SLF001  (the documented way to read a row by names)
    return Dossier(**{field.name: found[field.name] for field in fields(Dossier)})


def _approvals() -> ScalarSelect[Any]:
    approver = aliased(User)
    entry = func.jsonb_build_object(
        *("id", Approval.id, "status", Approval.status, "comment", Approval.comment),
        *("decided_at", Approval.decided_at, "approver_role", Approval.approver_role),
        *("digest", Approval.artifact_digest, "policy_version", Approval.policy_version),
        *("created_at", Approval.created_at, "updated_at", Approval.updated_at),
        *("approver_id", approver.id, "username", approver.username, "role", approver.role),
        *("active", approver.active, "kind", approver.kind, "changed_at", approver.updated_at),
    )
    return (
        select(
            func.coalesce(
                func.jsonb_agg(aggregate_order_by(entry, Approval.created_at, Approval.id)),
                func.jsonb_build_array(),
            )
        )
        .select_from(Approval)
        .join(approver, approver.id == Approval.approver_id)
        .where(Approval.deployment_id == Deployment.id)
        .correlate(Deployment)
        .scalar_subquery()
    )


def _live() -> ScalarSelect[Any]:
    other, release = aliased(Deployment), aliased(Release)
    entry = func.jsonb_build_object(
        *("id", release.id, "version", release.version, "status", release.status),
        *("digest", release.artifact_digest, "published_at", release.published_at),
    )
    return (
        select(entry)
        .select_from(other)
        .join(release, release.id == other.release_id)
        .where(
            other.service_id == Deployment.service_id,
            other.environment_id == Deployment.environment_id,
            other.status == "completed",
            other.completed_seq.is_not(None),  # says that the index on it can be used
        )
        .order_by(other.completed_seq.desc())
        .limit(1)
        .correlate(Deployment)
        .scalar_subquery()
    )


def _occupant() -> ScalarSelect[Any]:
    """Who has the slot, or a rollback that waits for it and goes first."""
    other = aliased(Deployment)
    rollback_waits = and_(
        other.kind == "rollback", other.status == "pending", Deployment.kind != "rollback"
    )
    return (
        select(func.jsonb_build_object("id", other.id, "status", other.status))
        .select_from(other)
        .where(
            other.service_id == Deployment.service_id,
            other.environment_id == Deployment.environment_id,
            other.id != Deployment.id,
            or_(other.status.in_(RUNNING), rollback_waits),
        )
        .order_by(other.status == "pending")
        .limit(1)
        .correlate(Deployment)
        .scalar_subquery()
    )


def _predecessors() -> ScalarSelect[Any]:
    """Earlier environments, each with the status of the newest completion of this digest there."""
    earlier, other = aliased(Environment), aliased(Deployment)
    newest = (
        select(other.status)
        .where(
            other.service_id == Deployment.service_id,
            other.environment_id == earlier.id,
            other.artifact_digest == Deployment.artifact_digest,
            other.completed_seq.is_not(None),
        )
        .order_by(other.completed_seq.desc())
        .limit(1)
        .correlate(Deployment, earlier)
        .scalar_subquery()
    )
    entry = func.jsonb_build_object("environment", earlier.name, "newest", newest)
    return (
        select(func.jsonb_agg(aggregate_order_by(entry, earlier.promotion_order, earlier.id)))
        .select_from(earlier)
        .where(earlier.promotion_order < Environment.promotion_order, earlier.archived_at.is_(None))
        .correlate(Deployment, Environment)
        .scalar_subquery()
    )


def _bad_because() -> ScalarSelect[Any]:
    return (
        select(ReleaseMark.reason)
        .where(marked_bad(Deployment.release_id, Deployment.environment_id))
        .limit(1)
        .correlate(Deployment)
        .scalar_subquery()
    )


def _policy_version() -> Any:  # noqa: ANN401  (a version, NULL for the default)
    other = aliased(EnvironmentPolicy)
    of_then = (
        select(func.max(other.policy_version))
        .where(
            other.environment_id == Environment.id,
            other.created_at <= func.coalesce(Deployment.started_at, Deployment.completed_at),
        )
        .correlate(Deployment, Environment)
        .scalar_subquery()
    )
    return case((Deployment.status == "pending", Environment.policy_version), else_=of_then)


def _query() -> Select[*tuple[Any, ...]]:
    def while_waiting(facts: ScalarSelect[Any]) -> Any:  # noqa: ANN401  (JSON)
        return case((Deployment.status == "pending", facts))

    own = list(Deployment.__table__.columns)
    return (
        select(
            *own,
            Service.name.label("service"),
            Release.version.label("version"),
            Environment.name.label("environment"),
            User.username.label("deployed_by_name"),
            Release.status.label("release_status"),
            Release.artifact_digest.label("release_digest"),
            Release.authors.label("authors"),
            Release.published_at.label("published_at"),
            Environment.environment_type.label("environment_type"),
            func.coalesce(EnvironmentPolicy.policy_version, 0).label("policy_version"),
            EnvironmentPolicy.policy.label("policy"),
            EnvironmentPolicy.created_at.label("policy_since"),
            while_waiting(_bad_because()).label("bad_because"),
            _approvals().label("approvals"),
            while_waiting(_live()).label("live"),
            while_waiting(_occupant()).label("occupant"),
            while_waiting(_predecessors()).label("predecessors"),
            func.clock_timestamp().label("moment"),
        )
        .select_from(Deployment)
        .join(Service, Service.id == Deployment.service_id)
        .join(Release, Release.id == Deployment.release_id)
        .join(Environment, Environment.id == Deployment.environment_id)
        .join(User, User.id == Deployment.deployed_by)
        .outerjoin(
            EnvironmentPolicy,
            and_(
                EnvironmentPolicy.environment_id == Environment.id,
                EnvironmentPolicy.policy_version == _policy_version(),
            ),
        )
    )


_QUERY = _query()
