"""Pipelines: what became of a stage, and what that means for its deployment."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from services.deployment.operations import execute, facts, moves
from services.deployment.operations.details import Depth, Detail, detail
from services.deployment.operations.examine import Examined
from services.deployment.rules.lifecycle import Action, FailureCause
from services.deployment.rules.stages import StageDecision, StageStatus, report
from services.deployment.store import children, writing
from services.deployment.store.children import StageRow
from shared.outbox.change import Change


@dataclass(frozen=True, slots=True)
class StageReport:
    """What an executor says about a stage; `output` is None to leave it as it is."""

    deployment_id: UUID
    stage: str
    status: StageStatus
    output: str | None = None
    etag: str = ""


@dataclass(frozen=True, slots=True)
class StageChanged:
    """A stage after a report, and its deployment."""

    stage: StageRow
    deployment: Detail


async def update(change: Change, command: StageReport) -> StageChanged:
    """Write what was reported and what follows for the deployment, as one version of it."""
    case = await moves.open_for_change(change, command.deployment_id, command.etag)
    rows = await children.stages(change.tx, command.deployment_id)
    decision = report(
        facts.pipeline(rows),
        command.stage,
        command.status,
        deployment=case.status,
        on_failure=case.approval.policy.on_failure,
    )
    stage = next(row for row in rows if row.name == command.stage)
    if not decision.changed:
        return StageChanged(stage, Detail(case, rows))
    if Action.START in decision.actions and not await execute.admit(change, case):
        return StageChanged(stage, Detail(case, rows))
    await writing.change_stage(change.tx, stage.id, _stage_values(change, command, decision))
    await _move(change, case, command, stage, decision)
    after = await detail(change.tx, command.deployment_id, Depth.STAGES)
    changed = next(row for row in after.stages if row.id == stage.id)
    return StageChanged(changed, after)


def _stage_values(
    change: Change, command: StageReport, decision: StageDecision
) -> Mapping[str, Any]:
    values: dict[str, Any] = {"status": decision.stage.status}
    if decision.starts:
        values |= {"started_at": change.now, "completed_at": None}
    if decision.ends:
        values["completed_at"] = change.now
    if command.output is not None:
        values["output"] = command.output
    return values


async def _move(
    change: Change,
    case: Examined,
    command: StageReport,
    stage: StageRow,
    decision: StageDecision,
) -> None:
    values: dict[str, Any] = {}
    if Action.START in decision.actions:
        values["started_at"] = change.now
    if decision.touches and case.dossier.touched_at is None:
        values["touched_at"] = change.now
    if Action.FAIL in decision.actions:
        cause = FailureCause.STAGE_FAILED
        values |= {
            "failure_cause": cause,
            "failure_class": cause.usual_class,
            "status_reason": f"Stage {command.stage} failed.",
        }
    details = {
        "stage": command.stage,
        "stage_before": stage.status,
        "stage_after": decision.stage.status,
        "aborted": decision.aborts,
    }
    action = _action_of(decision)
    await moves.move(change, case.dossier, decision.deployment, action, details=details, **values)


def _action_of(decision: StageDecision) -> str:
    """Name the change by the most that it did."""
    if Action.COMPLETE in decision.actions or Action.FAIL in decision.actions:
        return "finish"
    return "start" if Action.START in decision.actions else "update"
