"""How a deployment changes: held, compared with what the caller has read, written, recorded.

Every change of a deployment raises its version once and records one event for that version.
"""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from services.deployment.operations import examine, outputs
from services.deployment.operations.examine import Examined
from services.deployment.rules.lifecycle import (
    FINAL,
    HOLDS_SLOT,
    OPEN,
    DeploymentKind,
    DeploymentStatus,
    on_request,
)
from services.deployment.rules.policy import Policy
from services.deployment.store import attempts, leases, locks, writing
from services.deployment.store.locks import Pair
from shared.errors import EtagMismatch, IllegalTransition, ResourceNotFound
from shared.outbox.change import Change
from shared.outbox.events import Event


class Subject(writing.Seen, Protocol):
    """A deployment about to change, as it was read, with the names its event needs."""

    @property
    def kind(self) -> str:
        """Why it was made."""

    @property
    def service(self) -> str:
        """Name of the service."""

    @property
    def version(self) -> str:
        """Version of the release."""

    @property
    def environment(self) -> str:
        """Name of the environment."""


async def hold(change: Change, deployment_id: UUID) -> Pair:
    """Take the deployment's pair for this change, which counts as made from then on."""
    pair = await locks.hold_pair_of(change.tx, deployment_id)
    if pair is None:
        raise ResourceNotFound(resource_type="deployment", resource=deployment_id)
    change.now = pair.moment
    return pair


async def hold_gates(
    change: Change, pair: Pair, deployment_id: UUID, people: Collection[UUID] = ()
) -> None:
    """Keep what decides about the deployment as it is: release, environment, who has approved.

    The change counts as made under the policy that it found, not before that was published: which
    policy let a deployment start is told later by comparing the two moments.
    """
    await locks.hold_releases(change.tx, [pair.release_id])
    environment = await locks.hold_environment(change.tx, pair.environment_id)
    if environment.policy_since is not None:
        change.now = max(change.now, environment.policy_since)
    await locks.hold_people(change.tx, deployment_id, people)


async def open_for_change(change: Change, deployment_id: UUID, etag: str = "") -> Examined:
    """Hold and examine a deployment; raises ResourceNotFound or EtagMismatch."""
    await hold(change, deployment_id)
    case = await examine.deployment(change.tx, deployment_id)
    check_etag(case.dossier, etag)
    return case


def check_etag(seen: writing.Seen, etag: str) -> None:
    """Raise EtagMismatch when the caller has read another version."""
    if etag and etag != str(seen.row_version):
        raise EtagMismatch(resource_type="deployment", current=seen.row_version)


def not_now(
    deployment_id: UUID, status: DeploymentStatus, action: str, *, touched: bool, **facts: object
) -> IllegalTransition:
    """Return the refusal of an action that the status of a deployment does not allow."""
    return IllegalTransition(
        subject=f"Deployment {deployment_id}",
        status=status,
        action=action,
        allowed=on_request(status, touched=touched),
        **facts,  # type: ignore[arg-type]
    )


async def move(  # noqa: PLR0913  (what it was, what it becomes, and what is told of it)
    change: Change,
    subject: Subject,
    to: DeploymentStatus,
    action: str,
    *,
    details: Mapping[str, Any] | None = None,
    policy: Policy | None = None,
    **values: Any,  # noqa: ANN401  (columns of deployments)
) -> None:
    """Write one new version of a deployment, with all that follows from its new status.

    Leaving `pending` ends the questions nobody answered. Entering a status that the `policy`
    bounds, which must be given then, sets when it ends by itself. Pausing ends the lease. Ending
    ends it as well, aborts what is open of the pipeline, sets the end and ends the rollback it
    carries out; completing gives it the next number among the completions of its pair.
    """
    before = DeploymentStatus(subject.status)
    values["status"] = to
    ends = before in OPEN and to in FINAL
    if to is not before:
        values["deadline"] = _deadline(change, to, policy)
    if ends:
        values.setdefault("completed_at", change.now)
    completes = to is DeploymentStatus.COMPLETED and ends
    version = await writing.change_deployment(change.tx, subject, values, completes=completes)
    if before is DeploymentStatus.PENDING and to is not DeploymentStatus.PENDING:
        await writing.close_questions(change.tx, subject.id)
    printed: Mapping[str, Any] = {}
    executor = None
    if ends or to is DeploymentStatus.PAUSED:
        executor = await leases.end(change.tx, subject.id)
    if ends:
        aborted = await writing.abort_open_stages(change.tx, subject.id, change.now)
        printed = await outputs.sealed_aborted(change.tx, aborted)
        await attempts.cut_short(change.tx, subject.id, change.now, account(change))
    if ends and subject.kind == DeploymentKind.ROLLBACK:
        await writing.end_rollback(change.tx, subject.id, completed=completes, now=change.now)
    seen: dict[str, dict[str, Any]] = {"before": {"status": before}, "after": {"status": to}}
    if executor is not None:
        seen["before"]["executor"] = executor
        seen["after"]["executor"] = None
    record(change, subject, version, action, {**seen, **(details or {}), **printed})


async def hand_over(
    change: Change,
    case: Examined,
    action: str,
    executors: tuple[str | None, str | None],
    details: Mapping[str, Any],
) -> None:
    """Write the version in which the executor of a deployment changes, and nothing else."""
    status = case.status
    before, after = executors
    seen = {
        "before": {"status": status, "executor": before},
        "after": {"status": status, "executor": after},
    }
    await move(change, case.dossier, status, action, details={**seen, **details})


def account(change: Change) -> UUID | None:
    """Return the account that makes a change, None when time does."""
    return None if change.call.actor is None else change.call.actor.user_id


def _deadline(change: Change, to: DeploymentStatus, policy: Policy | None) -> datetime | None:
    """Return when `to` ends by itself if it is entered now."""
    if to not in HOLDS_SLOT:
        return None
    if policy is None:
        message = f"{to} has a bound, so its policy must be known"
        raise ValueError(message)
    limit = policy.limit(to)
    return None if limit is None else change.now + limit


def record(
    change: Change, subject: Subject, version: int, action: str, details: Mapping[str, Any]
) -> None:
    """Record the event of one version of a deployment."""
    names = {
        "release": f"{subject.service}@{subject.version}",
        "environment": subject.environment,
        "kind": subject.kind,
    }
    change.record(
        Event(
            action=action,
            aggregate=f"deployment:{subject.id}",
            aggregate_seq=version,
            resource_type="deployment",
            resource_id=str(subject.id),
            details={**names, **details},
        )
    )
