"""Parts of the query for dossiers: where a digest lives, what is needed, and who is in line."""

from typing import Any

from sqlalchemy import ScalarSelect, func, or_, select, true, tuple_
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.orm import aliased

from shared.db.models.catalog import Environment, Release, Service, ServiceDependency
from shared.db.models.deployment import Deployment

Subject = type[Deployment]


def predecessors(subject: Subject) -> ScalarSelect[Any]:
    """Earlier environments: the status of the newest completion of this digest there, and more.

    `live_since` is since when the digest has been live without a break, NULL if it is not. It is
    the first of the completions after the last one of something else, or one that was undone.
    `lived` is for how many seconds it once was without a break, until something else came.
    """
    earlier, newest, other, since = (
        aliased(Environment),
        aliased(Deployment),
        aliased(Deployment),
        aliased(Deployment),
    )
    once, next_one = aliased(Deployment), aliased(Deployment)
    status = (
        select(newest.status)
        .where(
            *_completed(newest, subject.service_id, earlier.id),
            newest.artifact_digest == subject.artifact_digest,
        )
        .order_by(newest.completed_seq.desc())
        .limit(1)
        .correlate(subject, earlier)
        .scalar_subquery()
    )
    something_else = or_(
        other.artifact_digest != subject.artifact_digest, other.status != "completed"
    )
    broken = (
        select(func.max(other.completed_seq))
        .where(*_completed(other, subject.service_id, earlier.id), something_else)
        .correlate(subject, earlier)
        .scalar_subquery()
    )
    live_since = (
        select(func.min(since.completed_at))
        .where(
            *_completed(since, subject.service_id, earlier.id),
            since.completed_seq > func.coalesce(broken, 0),
        )
        .correlate(subject, earlier)
        .scalar_subquery()
    )
    end = (
        select(func.min(next_one.completed_at))
        .where(
            *_completed(next_one, subject.service_id, earlier.id),
            next_one.completed_seq > once.completed_seq,
            or_(
                next_one.artifact_digest != subject.artifact_digest,
                next_one.status != "completed",
            ),
        )
        .correlate(subject, earlier, once)
        .scalar_subquery()
    )
    lived = (
        select(func.max(func.extract("epoch", end - once.completed_at)))
        .where(
            *_completed(once, subject.service_id, earlier.id),
            once.artifact_digest == subject.artifact_digest,
            once.status == "completed",
        )
        .correlate(subject, earlier)
        .scalar_subquery()
    )
    entry = func.jsonb_build_object(
        *("environment", earlier.name, "newest", status),
        *("live_since", live_since, "lived", lived),
    )
    return (
        select(func.jsonb_agg(aggregate_order_by(entry, earlier.promotion_order, earlier.id)))
        .select_from(earlier)
        .where(earlier.promotion_order < Environment.promotion_order, earlier.archived_at.is_(None))
        .correlate(subject, Environment)
        .scalar_subquery()
    )


def needs(subject: Subject) -> ScalarSelect[Any]:
    """Return the services that this one depends on, each with what of it is live here.

    `met` compares the versions by their keys, without the spelling at the end that breaks ties.
    """
    other, release, needed = aliased(Deployment), aliased(Release), aliased(Service)
    live = (
        select(release.version, release.version_key)
        .select_from(other)
        .join(release, release.id == other.release_id)
        .where(
            *_completed(other, ServiceDependency.needs_id, subject.environment_id),
            other.status == "completed",
        )
        .order_by(other.completed_seq.desc())
        .limit(1)
        .correlate(subject, ServiceDependency)
        .lateral("live")
    )
    minimum = ServiceDependency.minimum_version
    enough = _order(live.c.version_key, live.c.version) >= _order(
        func.version_key(minimum).collate("C"), minimum
    )
    met = live.c.version.is_not(None) & or_(minimum == "", enough)
    entry = func.jsonb_build_object(
        *("service", needed.name, "minimum", minimum, "live", live.c.version, "met", met)
    )
    return (
        select(func.jsonb_agg(aggregate_order_by(entry, func.lower(needed.name))))
        .select_from(ServiceDependency)
        .join(needed, needed.id == ServiceDependency.needs_id)
        .outerjoin(live, true())  # what is not live here at all is needed, too
        .where(ServiceDependency.service_id == subject.service_id)
        .correlate(subject)
        .scalar_subquery()
    )


def others_wait(subject: Subject) -> ScalarSelect[Any]:
    """Say whether another deployment of the pair was requested before and still waits."""
    other = aliased(Deployment)
    found = select(other.id).where(
        other.service_id == subject.service_id,
        other.environment_id == subject.environment_id,
        other.status == "pending",
        other.kind != "rollback",
        tuple_(other.deployed_at, other.id) < tuple_(subject.deployed_at, subject.id),
    )
    return select(found.correlate(subject).exists()).correlate(subject).scalar_subquery()


def outdated_by(subject: Subject) -> ScalarSelect[Any]:
    """Return the newest completion of what was requested later, which makes a start pointless.

    A rollback makes nothing outdated, because a fix may be waiting, nor does what was rolled back
    itself; and rollbacks are never outdated.
    """
    other, release = aliased(Deployment), aliased(Release)
    return (
        select(func.jsonb_build_object("id", other.id, "version", release.version))
        .select_from(other)
        .join(release, release.id == other.release_id)
        .where(
            *_completed(other, subject.service_id, subject.environment_id),
            other.status == "completed",
            other.kind != "rollback",
            subject.kind != "rollback",
            tuple_(other.deployed_at, other.id) > tuple_(subject.deployed_at, subject.id),
        )
        .order_by(other.completed_seq.desc())
        .limit(1)
        .correlate(subject)
        .scalar_subquery()
    )


def _completed(of: Any, service_id: Any, environment_id: Any) -> tuple[Any, ...]:  # noqa: ANN401
    """Return the conditions of completions of a pair, which name the columns of their index."""
    return (
        of.service_id == service_id,
        of.environment_id == environment_id,
        of.completed_seq.is_not(None),
    )


def _order(key: Any, version: Any) -> Any:  # noqa: ANN401  (text expressions)
    return func.left(key, -func.length(version)).collate("C")
