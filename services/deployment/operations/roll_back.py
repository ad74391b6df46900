"""Rollback: carries out, in one transaction, what `rules.rollback.plan` has decided."""

from dataclasses import dataclass
from uuid import UUID

from services.deployment.operations import moves, overrides, planning
from services.deployment.operations.details import Depth, Detail, detail
from services.deployment.operations.planning import History, RollBack
from services.deployment.rules import releases
from services.deployment.rules.lifecycle import (
    Action,
    DeploymentKind,
    DeploymentStatus,
    advance,
)
from services.deployment.rules.overrides import NewOverride, OverridableGate
from services.deployment.rules.releases import ReleaseAction, ReleaseStatus
from services.deployment.rules.rollback import Plan, plan
from services.deployment.rules.stages import pipeline_of
from services.deployment.store import children, writing
from services.deployment.store.children import RollbackRow
from shared.errors import ResourceNotFound
from shared.ids import new_id
from shared.outbox.change import Change


@dataclass(frozen=True, slots=True)
class RolledBack:
    """The rollback, and the deployment that carries it out."""

    rollback: RollbackRow
    carrier: Detail


async def execute(change: Change, command: RollBack) -> RolledBack:
    """Roll a deployment back: everything that follows at once, and the deployment that does it."""
    held = await moves.hold(change, command.deployment_id)
    pair = await planning.read(change.tx, command, held, hold=True)
    moves.check_etag(pair.rows[command.deployment_id], command.etag)
    wish = await planning.wish(change.tx, command, pair, change.actor, hold=True)
    planned = plan(pair.place, wish, change.now)
    carrier_id, rollback_id = new_id(), new_id()
    await _make_room(change, pair, planned, carrier_id)
    await _add_carrier(change, pair, planned, carrier_id, command.reason)
    await writing.add_rollback(
        change.tx,
        change.now,
        id=rollback_id,
        deployment_id=planned.rollback_of,
        initiated_by=change.actor.user_id,
        from_release_id=pair.rows[planned.rollback_of].release_id,
        to_release_id=planned.target.release_id,
        rollback_deployment_id=carrier_id,
        reason=command.reason,
    )
    await _undo(change, pair, planned, carrier_id, command.reason)
    carrier = await detail(change.tx, carrier_id, Depth.STAGES)
    _record_carrier(change, carrier, planned, command.reason)
    made = await children.rollback(change.tx, rollback_id)
    if made is None:
        raise ResourceNotFound(resource_type="rollback", resource=rollback_id)
    return RolledBack(made, carrier)


async def _make_room(change: Change, pair: History, planned: Plan, carrier_id: UUID) -> None:
    """Stop whoever holds the slot; a subject that nobody drives is undone in one step later."""
    preempts = planned.preempts
    subject_too = preempts is not None and preempts.holder.id == planned.subject.id
    if preempts is None or (subject_too and not planned.subject_waits):
        return
    await moves.move(
        change,
        pair.rows[preempts.holder.id],
        advance(preempts.holder.status, preempts.action),
        "cancel",
        details={"preempted_by": carrier_id},
        policy=pair.place.policy,
        status_reason="A rollback took its place.",
    )


async def _add_carrier(
    change: Change, pair: History, planned: Plan, carrier_id: UUID, reason: str
) -> None:
    """Insert the deployment that goes back. It counts as the latest that touched, from now on.

    That it crosses what is irreversible is an override, as one of a gate is.
    """
    new = planning.carrier(pair, planned, carrier_id, change.actor)
    await writing.add_deployment(change.tx, change.now, touched_at=change.now, **new)
    stages = [(stage.name, stage.status) for stage in pipeline_of(DeploymentKind.ROLLBACK)]
    await writing.add_stages(change.tx, carrier_id, stages, change.now)
    if planned.crosses:
        crossing = NewOverride(OverridableGate.IRREVERSIBLE, reason)
        await overrides.add(change, carrier_id, [crossing])


async def _undo(
    change: Change, pair: History, planned: Plan, carrier_id: UUID, reason: str
) -> None:
    """Undo the subject, blame its release if it is at fault, end what waits for that release."""
    subject = pair.rows[planned.subject.id]
    release = pair.releases[planned.subject.release_id]
    if planned.release_rolled_back:
        name = f"{subject.service}@{release.version}"
        before = ReleaseStatus(release.status)
        after = releases.advance(before, ReleaseAction.ROLL_BACK, release=name)
        await writing.set_release_status(change.tx, release.id, after)
    if planned.marks_bad:
        await writing.mark_bad(
            change.tx,
            change.now,
            id=new_id(),
            release_id=release.id,
            environment_id=pair.environment_id,
            reason=reason,
            marked_by=change.actor.user_id,
            deployment_id=subject.id,
        )
    details = {
        "reason": reason,
        "to_release": f"{subject.service}@{planned.target.version}",
        "rolled_back_by": carrier_id,
        "release_rolled_back": planned.release_rolled_back,
        "marked_bad": planned.marks_bad,
        "preempted": planned.preempts is not None and planned.preempts.holder.id == subject.id,
    }
    if not planned.subject_waits:
        undone = DeploymentStatus.ROLLED_BACK
        await moves.move(
            change, subject, undone, "rollback", details=details, rolled_back_by=carrier_id
        )
    for waiting in sorted(planned.supersedes):
        row = pair.rows[waiting]
        to = advance(DeploymentStatus(row.status), Action.SUPERSEDE)
        why = "Its release was rolled back."
        await moves.move(change, row, to, "supersede", status_reason=why, superseded_by=carrier_id)


def _record_carrier(change: Change, carrier: Detail, planned: Plan, reason: str) -> None:
    dossier = carrier.case.dossier
    details = {
        "after": {"status": dossier.status},
        "reason": reason,
        "rollback_of": planned.rollback_of,
        "from_release": f"{dossier.service}@{planned.subject.version}",
        "unproven": planned.unproven,
        "crosses_irreversible": planned.crosses,
        "overrides": [override["gate"] for override in dossier.overrides],
        "stages": [stage.name for stage in carrier.stages if stage.status == "pending"],
        "requesters": dossier.requesters,
    }
    moves.record(change, dossier, dossier.row_version, "rollback", details)
