"""Rollback: what may be undone, what takes its place, and what follows. `plan` is the whole of it.

PlanRollback shows the plan, ExecuteRollback carries it out; they cannot disagree.
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from services.deployment.rules.candidates import Candidate
from services.deployment.rules.history import (
    Deployed,
    latest_touched,
    live,
    open_rollback,
    slot_holder,
)
from services.deployment.rules.lifecycle import (
    Action,
    DeploymentKind,
    DeploymentStatus,
    FailureClass,
    advance,
    cancel_action,
)
from services.deployment.rules.releases import ReleaseStatus
from services.deployment.rules.targets import Place, Wish, choose, crossed
from shared.errors import (
    NothingDeployed,
    ResourceNotFound,
    RollbackExists,
    SlotTaken,
    StaleRollback,
)


@dataclass(frozen=True, slots=True)
class Preemption:
    """The deployment that must make room, and the action that stops it."""

    holder: Deployed
    action: Action


@dataclass(frozen=True, slots=True)
class Plan:
    """What a rollback does, all of it in the transaction of the request.

    The subject becomes `rolled_back`: at once, or, if it is the pre-empted holder and must confirm
    first (`subject_waits`), when it has. `release_rolled_back` sets the status of the subject's
    release, `marks_bad` marks it bad here, and the waiting deployments `supersedes` end.
    `rollback_of` is the deployment that is undone in the end: the subject, or what an unsuccessful
    rollback was to undo. `unproven` warns that the target would not have counted as stable, and
    `crosses` has the versions of irreversible releases that are undone all the same.
    """

    subject: Deployed
    target: Deployed
    rollback_of: UUID
    retried: bool
    unproven: bool
    release_rolled_back: bool
    marks_bad: bool
    supersedes: tuple[UUID, ...]
    preempts: Preemption | None
    subject_waits: bool
    passed_over: tuple[Candidate, ...]
    crosses: tuple[str, ...]


def plan(place: Place, wish: Wish, now: datetime) -> Plan:
    """Return what undoing `wish.subject` does; raises what stands against it.

    In this order: ResourceNotFound, NothingDeployed, RollbackExists, StaleRollback, SlotTaken,
    IllegalTransition, then about the target TargetNeverDeployed, NotPermitted, GateUnsatisfied,
    NoStableRelease and RollbackBlocked.
    """
    subject = _subject(place, wish)
    preempts = _make_room(place, wish)
    status = subject.status
    if preempts is not None and preempts.holder.id == subject.id:
        status = advance(status, preempts.action)
    waits = status is DeploymentStatus.CANCELLING
    if not waits:
        advance(status, Action.ROLL_BACK, subject=f"Deployment {subject.id}")
    retried = subject.kind is DeploymentKind.ROLLBACK and not subject.ever_completed
    choice = choose(place, wish, subject, now, retried=retried)
    target = choice.target
    crosses = crossed(place, wish, target)
    same = target.release_id == subject.release_id
    counts = not retried and not same
    blamed = subject.ever_completed or subject.failure_class is FailureClass.FAILED
    abandoned = place.releases[subject.release_id].status is ReleaseStatus.ABANDONED
    return Plan(
        subject=subject,
        target=target,
        rollback_of=(subject.rollback_of or subject.id) if retried else subject.id,
        retried=retried,
        unproven=choice.unproven,
        release_rolled_back=counts and not abandoned,
        marks_bad=counts and blamed,
        supersedes=_waiting(place, subject.release_id) if counts else (),
        preempts=preempts,
        subject_waits=waits,
        passed_over=choice.passed_over,
        crosses=crosses,
    )


def _subject(place: Place, wish: Wish) -> Deployed:
    """Find the subject: the last deployment that touched the environment, and no other."""
    found = next((entry for entry in place.history if entry.id == wish.subject), None)
    latest = latest_touched(place.history)
    if found is None:
        raise ResourceNotFound(resource_type="deployment", resource=wish.subject)
    if found.touched_seq is None or latest is None:
        runs = live(place.history)
        running = "Nothing has completed there, so there is nothing to undo."
        if runs is not None:
            running = (
                f"{place.service} {runs.version} runs there, by deployment {runs.id}; roll that one"
                " back with ExecuteRollback instead."
            )
        raise NothingDeployed(deployment=found.id, environment=place.environment, running=running)
    going_on = open_rollback(place.history)
    if going_on is not None:
        raise RollbackExists(
            service=place.service, environment=place.environment, deployment=going_on.id
        )
    if latest.id != found.id:
        raise StaleRollback(deployment=found.id, environment=place.environment, latest=latest.id)
    return found


def _make_room(place: Place, wish: Wish) -> Preemption | None:
    holder = slot_holder(place.history)
    if holder is None:
        return None
    if not wish.preempt:
        raise SlotTaken(
            service=place.service,
            environment=place.environment,
            deployment=holder.id,
            status=holder.status,
        )
    if holder.status is DeploymentStatus.CANCELLING:
        # Somebody has asked it to stop already; its end is all that is left to wait for.
        return None
    return Preemption(holder, cancel_action(holder.status, claimed=wish.holder_claimed))


def _waiting(place: Place, release_id: UUID) -> tuple[UUID, ...]:
    return tuple(
        entry.id
        for entry in place.history
        if entry.release_id == release_id and entry.status is DeploymentStatus.PENDING
    )
