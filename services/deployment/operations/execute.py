"""Running a deployment: admitting it through its gates, finishing and cancelling it."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from services.deployment.operations import claims, decide, endings, examine, moves
from services.deployment.operations.details import Depth, Detail, detail
from services.deployment.operations.endings import Ending
from services.deployment.operations.examine import Examined
from services.deployment.rules import gates
from services.deployment.rules.lifecycle import (
    Action,
    DeploymentStatus,
    FailureCause,
    FailureClass,
    advance,
    cancel_action,
)
from services.deployment.store import children, leases
from services.deployment.store.locks import Pair
from shared.errors import NotPermitted, StagesDriveDeployment
from shared.identity.actor import Actor, Role
from shared.outbox.change import Change


@dataclass(frozen=True, slots=True)
class Start:
    """Start a deployment without stages."""

    deployment_id: UUID
    etag: str = ""
    lease_token: UUID | None = None


@dataclass(frozen=True, slots=True)
class Finish:
    """End a deployment without stages; `failure` is None when it succeeded."""

    deployment_id: UUID
    failure: FailureClass | None
    reason: str = ""
    etag: str = ""
    lease_token: UUID | None = None


@dataclass(frozen=True, slots=True)
class Cancel:
    """Stop a deployment."""

    deployment_id: UUID
    reason: str
    etag: str = ""


async def start(change: Change, command: Start) -> Detail:
    """Start a deployment: every gate is checked now, and this check decides."""
    case = await moves.open_for_change(change, command.deployment_id, command.etag)
    await _check_driven_by_calls(change, case)
    if await claims.driver(change, case, command.lease_token) is None:
        return Detail(case)
    _advance(case, Action.START)
    admitted = await admit(change, case)
    if admitted is None:
        return Detail(case)
    await moves.move(
        change,
        admitted.dossier,
        _advance(admitted, Action.START),
        "start",
        details={"admitted_by": admitted.admitted_by},
        policy=admitted.approval.policy,
        started_at=change.now,
        touched_at=change.now,
    )
    return await detail(change.tx, command.deployment_id, Depth.ALONE)


async def admit(change: Change, case: Examined) -> Examined | None:
    """Check every gate of a waiting deployment, of which nothing can change until the commit.

    Returns it as it was let through. Raises SlotTaken or GateUnsatisfied. None when it turns out
    that the deployment has ended by now, outdated or expired: that is stored, and the call answers
    with the refusal.
    """
    dossier = case.dossier
    pair = Pair(dossier.service_id, dossier.environment_id, dossier.release_id, change.now)
    await moves.hold_gates(change, pair, dossier.id)
    case = await examine.deployment(change.tx, dossier.id)
    ending = endings.of(case)
    if ending is not None:
        await _end(change, ending)
        change.refuse(ending.refusal)
        return None
    gates.check_start(case.gates, case.answers)
    change.now = max(change.now, case.dossier.moment)  # what let it start held from then on
    return case


async def _end(change: Change, ending: Ending) -> None:
    if ending.newer is None:
        await decide.expire(change, ending.case)
        return
    await moves.move(
        change,
        ending.case.dossier,
        ending.status,
        "supersede",
        status_reason=ending.why,
        superseded_by=ending.newer,
    )


async def finish(change: Change, command: Finish) -> Detail:
    """End a running deployment without stages."""
    case = await moves.open_for_change(change, command.deployment_id, command.etag)
    await _check_driven_by_calls(change, case)
    if await claims.driver(change, case, command.lease_token) is None:
        return Detail(case)
    if command.failure is None:
        to = _advance(case, Action.COMPLETE)
        values: dict[str, Any] = {}
    else:
        to = _advance(case, Action.FAIL)
        values = {"failure_cause": FailureCause.REPORTED, "failure_class": command.failure}
    await moves.move(
        change,
        case.dossier,
        to,
        "finish",
        details={"reason": command.reason, **values},
        status_reason=command.reason,
        **values,
    )
    return await detail(change.tx, command.deployment_id, Depth.ALONE)


async def cancel(change: Change, command: Cancel) -> Detail:
    """Stop a deployment: one's own, or as a lead or admin any.

    An executor that drives it is asked first.
    """
    case = await moves.open_for_change(change, command.deployment_id, command.etag)
    _check_may_cancel(case, change.actor)
    lease = await leases.held(change.tx, command.deployment_id)
    claimed = lease is not None and not lease.is_over(change.now)
    to = _advance(case, cancel_action(case.status, claimed=claimed))
    await moves.move(
        change,
        case.dossier,
        to,
        "cancel",
        details={"reason": command.reason},
        policy=case.approval.policy,
        status_reason=command.reason,
    )
    return await detail(change.tx, command.deployment_id, Depth.ALONE)


def _check_may_cancel(case: Examined, actor: Actor) -> None:
    """Raise NotPermitted unless the deployment is the caller's own; a program acts for somebody."""
    acts = actor.on_behalf_of or actor.user_id
    if actor.role < Role.LEAD and acts not in case.dossier.requesters:
        raise NotPermitted(
            action="cancel this deployment",
            because="somebody else requested it, and you are neither lead nor admin",
        )


async def _check_driven_by_calls(change: Change, case: Examined) -> None:
    if await children.has_stages(change.tx, case.dossier.id):
        raise StagesDriveDeployment(deployment=case.dossier.id)


def _advance(case: Examined, action: Action) -> DeploymentStatus:
    dossier = case.dossier
    touched = dossier.touched_at is not None
    return advance(case.status, action, subject=f"Deployment {dossier.id}", touched=touched)
