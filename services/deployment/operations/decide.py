"""Approvals: people decide about a deployment, think better of it, or let the time pass."""

from dataclasses import dataclass
from uuid import UUID

from services.deployment.operations import examine, moves
from services.deployment.operations.details import Depth, Detail, detail
from services.deployment.operations.examine import Examined
from services.deployment.rules import approvals, deciding, revoking
from services.deployment.rules.approvals import Decision, Outcome, Person
from services.deployment.rules.lifecycle import Action, DeploymentStatus, advance
from services.deployment.store import leases, writing
from shared.errors import IllegalTransition
from shared.identity.actor import Actor, Role
from shared.outbox.change import Change


@dataclass(frozen=True, slots=True)
class DecisionCommand:
    """What the calling person says about a deployment."""

    deployment_id: UUID
    comment: str
    etag: str = ""


@dataclass(frozen=True, slots=True)
class RevokeCommand:
    """The calling person takes back an approval, and why."""

    deployment_id: UUID
    reason: str
    etag: str = ""


async def approve(change: Change, command: DecisionCommand) -> Detail:
    """Count the caller among the approvers; once more changes nothing."""
    return await _decide(change, command, Outcome.APPROVED)


async def reject(change: Change, command: DecisionCommand) -> Detail:
    """End the deployment before it starts."""
    return await _decide(change, command, Outcome.REJECTED)


async def revoke(change: Change, command: RevokeCommand) -> Detail:
    """Take the caller's approval back; the time to decide begins anew.

    Raises ResourceNotFound when the caller has given none, or has taken it back already, and
    IllegalTransition once the deployment waits no longer: a rejection has ended it.
    """
    case = await _open(change, command.deployment_id, command.etag, "revoke an approval of")
    if case is None:
        return await detail(change.tx, command.deployment_id, Depth.ALONE)
    me = change.actor
    taken_back = revoking.own_approval(case.approval, me.user_id, me.username)
    await writing.revoke(change.tx, command.deployment_id, me.user_id)
    left = await examine.deployment(change.tx, command.deployment_id)
    details = {
        "reason": command.reason,
        "approved_at": taken_back.decided_at.isoformat(),
        "approvals_required": left.approval.required,
        "approvals_given": left.approvals_given,
    }
    again = left.decide_by  # an approval that never runs out may have left no moment to look again
    await moves.move(
        change, case.dossier, case.status, "revoke_approval", details=details, decide_by=again
    )
    return await detail(change.tx, command.deployment_id, Depth.ALONE)


async def expire(change: Change, case: Examined) -> None:
    """End a deployment about which nobody has decided in time, or that has not started in time."""
    to = advance(case.status, Action.EXPIRE)
    why = case.overdue or ""
    await moves.move(change, case.dossier, to, "expire", details={"reason": why}, status_reason=why)


async def expire_if_overdue(change: Change, deployment_id: UUID) -> None:
    """Expire a deployment if its time has passed; else note when to look again.

    What decides is held: a policy that is just published has its own moment to look again. As long
    as nobody is known to have looked it is left as it is, due at the next look.
    """
    pair = await moves.hold(change, deployment_id)
    await moves.hold_gates(change, pair, deployment_id)
    case = await examine.deployment(change.tx, deployment_id)
    if not case.waits:
        return
    if case.overdue:
        await expire(change, case)
        return
    # It may wait on only because this very look takes long, which is stored as no standstill.
    if await leases.nobody_has_looked(change.tx):
        return
    again = approvals.look_again(case.approval, case.dossier.moment)
    await writing.postpone_decision(change.tx, deployment_id, again)


async def _decide(change: Change, command: DecisionCommand, outcome: Outcome) -> Detail:
    me = change.actor
    verb = "approve" if outcome is Outcome.APPROVED else "reject"
    case = await _open(change, command.deployment_id, command.etag, verb)
    if case is None:
        return await detail(change.tx, command.deployment_id, Depth.ALONE)
    person = case.approval.people.get(me.user_id) or _stranger(me)
    decision = deciding.decide(
        case.approval, person, outcome, comment=command.comment, now=case.dossier.moment
    )
    if decision is None:
        return Detail(case)
    await _write(change, case, decision, command.comment)
    return await detail(change.tx, command.deployment_id, Depth.ALONE)


async def _open(change: Change, deployment_id: UUID, etag: str, verb: str) -> Examined | None:
    """Hold a deployment that waits for decisions; None if its time was over, which ends it.

    The caller is told so once that is stored.
    """
    pair = await moves.hold(change, deployment_id)
    await moves.hold_gates(change, pair, deployment_id, [change.actor.user_id])
    case = await examine.deployment(change.tx, deployment_id)
    moves.check_etag(case.dossier, etag)
    if not case.waits:
        raise _too_late(case, case.status, verb)
    if case.overdue:
        await expire(change, case)
        change.refuse(_too_late(case, DeploymentStatus.EXPIRED, verb))
        return None
    return case


async def _write(change: Change, case: Examined, decision: Decision, comment: str) -> None:
    row = {
        "status": decision.outcome,
        "comment": comment,
        "decided_at": decision.decided_at,
        "approver_role": decision.role.stored,
        "artifact_digest": decision.digest,
        "policy_version": decision.policy_version,
        "overrides_version": decision.overrides_version,
    }
    await writing.decide(change.tx, case.dossier.id, decision.approver_id, row, change.now)
    details = {
        "comment": comment,
        "approver_role": decision.role.stored,
        "artifact_digest": decision.digest,
        "policy_version": decision.policy_version,
        "overrides_version": decision.overrides_version,
        "approvals_required": case.approval.required,
    }
    if decision.outcome is Outcome.REJECTED:
        to = advance(case.status, Action.REJECT)
        await moves.move(change, case.dossier, to, "reject", details=details, status_reason=comment)
        return
    details["approvals_given"] = case.approvals_given + 1
    await moves.move(change, case.dossier, case.status, "approve", details=details)


def _stranger(actor: Actor) -> Person:
    """Return somebody who is not among those whose role lets them approve at this moment."""
    return Person(actor.user_id, Role.VIEWER, kind=actor.kind, username=actor.username)


def _too_late(case: Examined, status: DeploymentStatus, verb: str) -> IllegalTransition:
    touched = case.dossier.touched_at is not None
    return moves.not_now(case.dossier.id, status, verb, touched=touched)
