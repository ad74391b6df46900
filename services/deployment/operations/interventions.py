"""What people decide about work that went wrong, or that should be left out.

A program that drives deployments may try a stage again; that a failure does not matter, that a
stage is left out and that there is no hope is for people to say.
"""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from services.deployment.operations import claims, facts, moves
from services.deployment.operations.details import Depth, Detail, detail
from services.deployment.operations.stages import StageChanged, Step, write
from services.deployment.rules import stages as rules
from services.deployment.rules.lifecycle import (
    Action,
    DeploymentStatus,
    FailureCause,
    FailureClass,
    advance,
)
from services.deployment.store import children
from shared.errors import NotPermitted
from shared.identity.actor import Actor, ActorKind
from shared.outbox.change import Change


@dataclass(frozen=True, slots=True)
class StageOrder:
    """What to do about a stage, and why."""

    deployment_id: UUID
    stage: str
    reason: str = ""
    etag: str = ""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """End a paused deployment; `failure` says whether the release is at fault."""

    deployment_id: UUID
    reason: str
    failure: FailureClass
    etag: str = ""


async def retry(change: Change, command: StageOrder) -> StageChanged:
    """Begin a new attempt of the stage on which a deployment is paused."""
    case = await moves.open_for_change(change, command.deployment_id, command.etag)
    rows = await children.stages(change.tx, command.deployment_id)
    decision = rules.retry(facts.pipeline(rows), command.stage, deployment=case.status)
    return await write(change, case, rows, decision, Step("retry"))


async def ignore(change: Change, command: StageOrder) -> StageChanged:
    """Go on in spite of the failure on which a deployment is paused."""
    _check_person(change.actor, f"ignore stage {command.stage}")
    case = await moves.open_for_change(change, command.deployment_id, command.etag)
    rows = await children.stages(change.tx, command.deployment_id)
    decision = rules.ignore(
        facts.pipeline(rows),
        command.stage,
        deployment=case.status,
        strict=case.approval.policy.strict_stages,
    )
    return await write(change, case, rows, decision, Step("ignore", reason=command.reason))


async def skip(change: Change, command: StageOrder) -> StageChanged | None:
    """Leave a stage out that has not started; None when its executor turns out to be lost.

    What an executor drives may lose a stage all the same: it finds it skipped.
    """
    _check_person(change.actor, f"skip stage {command.stage}")
    case = await moves.open_for_change(change, command.deployment_id, command.etag)
    if not await claims.nobody_was_lost(change, case):
        return None
    rows = await children.stages(change.tx, command.deployment_id)
    decision = rules.skip(
        facts.pipeline(rows),
        command.stage,
        deployment=case.status,
        strict=case.approval.policy.strict_stages,
    )
    return await write(change, case, rows, decision, Step("skip", reason=command.reason))


async def give_up(change: Change, command: GiveUp) -> Detail:
    """Fail a paused deployment."""
    _check_person(change.actor, "give up on this deployment")
    case = await moves.open_for_change(change, command.deployment_id, command.etag)
    if case.status is not DeploymentStatus.PAUSED:
        touched = case.dossier.touched_at is not None
        raise moves.not_now(command.deployment_id, case.status, "giving up", touched=touched)
    failure: dict[str, Any] = {
        "failure_cause": FailureCause.REPORTED,
        "failure_class": command.failure,
    }
    await moves.move(
        change,
        case.dossier,
        advance(case.status, Action.FAIL),
        "fail",
        details={"reason": command.reason, **failure},
        status_reason=command.reason,
        **failure,
    )
    return await detail(change.tx, command.deployment_id, Depth.STAGES)


def _check_person(actor: Actor, action: str) -> None:
    if actor.kind is not ActorKind.PERSON:
        raise NotPermitted(action=action, because="people decide that, and you are a program")
