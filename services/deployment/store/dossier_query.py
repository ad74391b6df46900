"""The query for dossiers: what it reads of a deployment, and how it finds the facts of its gates.

It is asked about deployments that are stored, and about one that is not: `subject` is the table or
an alias with its columns, so both are read in the same way.
"""

from typing import Any

from sqlalchemy import ColumnElement, ScalarSelect, Select, and_, case, func, or_, select
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.orm import aliased

from services.deployment.store import lock_rows, override_rows
from services.deployment.store.gate_queries import needs, others_wait, outdated_by, predecessors
from services.deployment.store.leases import STOOD_STILL_UNTIL
from services.deployment.store.locks import marked_bad
from shared.db.models.catalog import Environment, Release, Service
from shared.db.models.deployment import Approval, Deployment, EnvironmentPolicy, ReleaseMark
from shared.db.models.execution import DeploymentLease
from shared.db.models.identity import User

RUNNING = ("in-progress", "paused", "cancelling")
Subject = type[Deployment]


def _approvals(subject: Subject) -> ScalarSelect[Any]:
    approver = aliased(User)
    entry = func.jsonb_build_object(
        *("id", Approval.id, "status", Approval.status, "comment", Approval.comment),
        *("decided_at", Approval.decided_at, "approver_role", Approval.approver_role),
        *("digest", Approval.artifact_digest, "policy_version", Approval.policy_version),
        *("overrides_version", Approval.overrides_version),
        *("created_at", Approval.created_at, "updated_at", Approval.updated_at),
        *("approver_id", approver.id, "username", approver.username, "role", approver.role),
        *("active", approver.active, "kind", approver.kind, "demoted_at", approver.demoted_at),
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
        .where(Approval.deployment_id == subject.id)
        .correlate(subject)
        .scalar_subquery()
    )


def _live(subject: Subject) -> ScalarSelect[Any]:
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
            other.service_id == subject.service_id,
            other.environment_id == subject.environment_id,
            other.status == "completed",
            other.completed_seq.is_not(None),  # says that the index on it can be used
        )
        .order_by(other.completed_seq.desc())
        .limit(1)
        .correlate(subject)
        .scalar_subquery()
    )


def _occupant(subject: Subject) -> ScalarSelect[Any]:
    """Who has the slot, or a rollback that waits for it and goes first."""
    other = aliased(Deployment)
    rollback_waits = and_(
        other.kind == "rollback", other.status == "pending", subject.kind != "rollback"
    )
    return (
        select(func.jsonb_build_object("id", other.id, "status", other.status, "kind", other.kind))
        .select_from(other)
        .where(
            other.service_id == subject.service_id,
            other.environment_id == subject.environment_id,
            other.id != subject.id,
            or_(other.status.in_(RUNNING), rollback_waits),
        )
        .order_by(other.status == "pending")
        .limit(1)
        .correlate(subject)
        .scalar_subquery()
    )


def _bad_because(subject: Subject) -> ScalarSelect[Any]:
    return (
        select(ReleaseMark.reason)
        .where(marked_bad(subject.release_id, subject.environment_id))
        .limit(1)
        .correlate(subject)
        .scalar_subquery()
    )


def _lease(subject: Subject) -> ScalarSelect[Any]:
    holder = aliased(User)
    entry = func.jsonb_build_object(
        *("executor", DeploymentLease.executor, "holder_id", holder.id),
        *("holder", holder.username, "claimed_at", DeploymentLease.claimed_at),
        *("expires_at", DeploymentLease.expires_at),
    )
    return (
        select(entry)
        .select_from(DeploymentLease)
        .join(holder, holder.id == DeploymentLease.holder_id)
        .where(DeploymentLease.deployment_id == subject.id)
        .correlate(subject)
        .scalar_subquery()
    )


def _policy_version(subject: Subject) -> Any:  # noqa: ANN401  (a version, NULL for the default)
    other = aliased(EnvironmentPolicy)
    of_then = (
        select(func.max(other.policy_version))
        .where(
            other.environment_id == Environment.id,
            other.created_at <= func.coalesce(subject.started_at, subject.completed_at),
        )
        .correlate(subject, Environment)
        .scalar_subquery()
    )
    return case((subject.status == "pending", Environment.policy_version), else_=of_then)


def query(subject: Subject) -> Select[*tuple[Any, ...]]:
    """Return the query for what a dossier has of each `subject`, to be narrowed by conditions."""

    def while_waiting(facts: ColumnElement[Any]) -> Any:  # noqa: ANN401  (JSON)
        return case((subject.status == "pending", facts))

    own = [getattr(subject, column.name) for column in Deployment.__table__.columns]
    return (
        select(
            *own,
            Service.name.label("service"),
            Service.team_id.label("team_id"),
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
            while_waiting(_bad_because(subject)).label("bad_because"),
            _approvals(subject).label("approvals"),
            while_waiting(_live(subject)).label("live"),
            while_waiting(_occupant(subject)).label("occupant"),
            while_waiting(predecessors(subject)).label("predecessors"),
            while_waiting(lock_rows.concerning(subject)).label("locks"),
            override_rows.of_deployment(subject).label("overrides"),
            _lease(subject).label("lease"),
            while_waiting(needs(subject)).label("needs"),
            while_waiting(others_wait(subject)).label("others_wait"),
            while_waiting(outdated_by(subject)).label("outdated_by"),
            while_waiting(STOOD_STILL_UNTIL).label("stood_still_until"),
            func.clock_timestamp().label("moment"),
        )
        .select_from(subject)
        .join(Service, Service.id == subject.service_id)
        .join(Release, Release.id == subject.release_id)
        .join(Environment, Environment.id == subject.environment_id)
        .join(User, User.id == subject.deployed_by)
        .outerjoin(
            EnvironmentPolicy,
            and_(
                EnvironmentPolicy.environment_id == Environment.id,
                EnvironmentPolicy.policy_version == _policy_version(subject),
            ),
        )
    )
