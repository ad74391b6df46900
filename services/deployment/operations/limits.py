"""What time ends: a status that has lasted too long, and a stage that has run too long."""

from datetime import datetime
from typing import Any
from uuid import UUID

from services.deployment.operations import examine, facts, moves, stages, stopping
from services.deployment.operations.stages import Step
from services.deployment.rules.lifecycle import (
    HOLDS_SLOT,
    WHEN_OVERDUE,
    Action,
    DeploymentStatus,
    FailureCause,
    advance,
)
from services.deployment.rules.moments import at_second
from services.deployment.rules.stages import StageStatus, report
from services.deployment.store import children
from services.deployment.store.children import StageRow
from shared.outbox.change import Change


async def end_status_if_over(change: Change, deployment_id: UUID) -> None:
    """End a deployment that has been running, paused or stopping until its deadline."""
    await moves.hold(change, deployment_id)
    case = await examine.deployment(change.tx, deployment_id)
    deadline = case.dossier.deadline
    if case.status not in HOLDS_SLOT or deadline is None or change.now < deadline:
        return
    action = WHEN_OVERDUE[case.status]
    if action is Action.CONFIRM_CANCELLED:
        reason = f"Nobody confirmed the stop until {at_second(deadline)}."
        await stopping.finish(change, case, "cancel", {"reason": reason})
        return
    cause = FailureCause.DEADLINE_EXCEEDED
    failure: dict[str, Any] = {"failure_cause": cause, "failure_class": cause.usual_class}
    reason = f"It was {case.status} until its deadline, {at_second(deadline)}."
    await moves.move(
        change,
        case.dossier,
        advance(case.status, action),
        "fail",
        details={"reason": reason, **failure},
        status_reason=reason,
        **failure,
    )


async def end_stages_if_over(change: Change, deployment_id: UUID) -> None:
    """Fail the stage of a deployment that has run until its deadline; its policy says what then."""
    await moves.hold(change, deployment_id)
    case = await examine.deployment(change.tx, deployment_id)
    rows = await children.stages(change.tx, deployment_id)
    late = next((row for row in rows if _is_late(row, change.now)), None)
    if late is None or late.deadline is None or case.status is not DeploymentStatus.IN_PROGRESS:
        return
    decision = report(
        facts.pipeline(rows),
        late.name,
        StageStatus.FAILED,
        deployment=case.status,
        on_failure=case.approval.policy.on_failure,
    )
    reason = f"It ran until its deadline, {at_second(late.deadline)}."
    step = Step("stage_timeout", reason=reason, cause=FailureCause.STAGE_TIMEOUT)
    await stages.write(change, case, rows, decision, step)


def _is_late(row: StageRow, now: datetime) -> bool:
    running = row.status == StageStatus.IN_PROGRESS
    return running and row.deadline is not None and now >= row.deadline
