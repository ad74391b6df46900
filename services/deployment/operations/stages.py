"""Pipelines: what became of a stage, and what that means for its deployment."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any
from uuid import UUID

from services.deployment.operations import claims, execute, facts, moves, outputs
from services.deployment.operations.details import Depth, Detail, detail
from services.deployment.operations.examine import Examined
from services.deployment.rules.lifecycle import Action, FailureCause
from services.deployment.rules.stages import (
    RESULTS,
    StageDecision,
    StageStatus,
    is_repeat,
    report,
)
from services.deployment.store import attempts, children, writing
from services.deployment.store.children import StageRow
from services.deployment.store.outputs import Prefix
from shared.outbox.change import Change


@dataclass(frozen=True, slots=True)
class StageReport:
    """What an executor says about a stage; `output` is None to leave it as it is."""

    deployment_id: UUID
    stage: str
    status: StageStatus
    output: str | None = None
    etag: str = ""
    lease_token: UUID | None = None


@dataclass(frozen=True, slots=True)
class StageChanged:
    """A stage after a report, and its deployment."""

    stage: StageRow
    deployment: Detail


@dataclass(frozen=True, slots=True)
class Step:
    """What is written of a stage besides what was decided.

    `reason` explains what nobody reported, `cause` is that of a failure, `read` is how much of the
    output was hashed beforehand, and `printed` says what the output of an attempt was that has
    ended.
    """

    action: str = ""
    executor: str = ""
    output: str | None = None
    reason: str = ""
    cause: FailureCause = FailureCause.STAGE_FAILED
    read: Prefix | None = None
    printed: Mapping[str, Any] = field(default_factory=dict)


async def update(change: Change, command: StageReport) -> StageChanged:
    """Write what was reported and what follows for the deployment, as one version of it."""
    read = None
    if command.status in RESULTS:
        read = await outputs.read_before(change.tx, command.deployment_id, command.stage)
    case = await moves.open_for_change(change, command.deployment_id, command.etag)
    rows = await children.stages(change.tx, command.deployment_id)
    decide = partial(report, facts.pipeline(rows), command.stage, command.status)
    if is_repeat(facts.pipeline(rows), command.stage, command.status):
        return _unchanged(case, rows, command.stage)
    driver = await claims.driver(change, case, command.lease_token)
    if driver is None:
        return _unchanged(case, rows, command.stage)
    decision = decide(deployment=case.status, on_failure=case.approval.policy.on_failure)
    if Action.START in decision.actions:
        admitted = await execute.admit(change, case)
        if admitted is None:
            return _unchanged(case, rows, command.stage)
        case = admitted
        decision = decide(deployment=case.status, on_failure=case.approval.policy.on_failure)
    step = Step(executor=driver.executor, output=command.output, read=read)
    return await write(change, case, rows, decision, step)


async def write(
    change: Change, case: Examined, rows: Sequence[StageRow], decision: StageDecision, step: Step
) -> StageChanged:
    """Write what was decided about a stage, and what follows, as one version of its deployment."""
    stage = _named(rows, decision.stage.name)
    if step.output is not None and decision.stage.attempt == stage.attempt:
        await outputs.check_replaceable(change.tx, stage.deployment_id, stage.name)
    await _write_attempt(change, stage, decision, step)
    await writing.change_stage(change.tx, stage.id, _stage_values(change, case, decision, step))
    if decision.ends:
        step = replace(step, printed=await outputs.sealed(change.tx, stage.id, step.read))
    await _move(change, case, stage, decision, step)
    after = await detail(change.tx, case.dossier.id, Depth.STAGES)
    return StageChanged(_named(after.stages, stage.name), after)


def _unchanged(case: Examined, rows: Sequence[StageRow], name: str) -> StageChanged:
    return StageChanged(_named(rows, name), Detail(case, rows))


def _named(rows: Sequence[StageRow], name: str) -> StageRow:
    return next(row for row in rows if row.name == name)


def _stage_values(
    change: Change, case: Examined, decision: StageDecision, step: Step
) -> Mapping[str, Any]:
    values: dict[str, Any] = {"status": decision.stage.status, "attempt": decision.stage.attempt}
    if decision.starts:
        limit = case.approval.policy.stage_limit
        deadline = None if limit is None else change.now + limit
        values |= {"started_at": change.now, "completed_at": None, "deadline": deadline}
    if decision.stage.attempt > 1 and decision.starts:
        values |= {"output": "", "appended_bytes": 0, "counted_bytes": 0, "reason": ""}
    if decision.ends:
        values["completed_at"] = change.now
    if step.reason:
        values["reason"] = step.reason
    if step.output is not None:
        values["output"] = step.output
    return values


async def _write_attempt(
    change: Change, stage: StageRow, decision: StageDecision, step: Step
) -> None:
    """Write the attempt that starts or ends; what is skipped or ignored is none."""
    if not (decision.starts or decision.ends):
        return
    if decision.stage.attempt > stage.attempt:
        await attempts.keep_output(change.tx, stage.id, stage.attempt)
    account = moves.account(change)
    values: dict[str, Any] = {"status": decision.stage.status, "started_at": stage.started_at}
    if decision.starts:
        values |= {
            "started_at": change.now,
            "started_by": account,
            "executor": step.executor,
        }
    if decision.ends:
        values |= {"completed_at": change.now, "ended_by": account, "reason": step.reason}
    await attempts.write(change.tx, stage.id, decision.stage.attempt, values)


async def _move(
    change: Change, case: Examined, stage: StageRow, decision: StageDecision, step: Step
) -> None:
    values: dict[str, Any] = {}
    details: dict[str, Any] = {
        "stage": stage.name,
        "stage_before": stage.status,
        "stage_after": decision.stage.status,
        "attempt": decision.stage.attempt,
        "aborted": decision.aborts,
        **step.printed,
    }
    if step.reason:
        details["reason"] = step.reason
    if Action.START in decision.actions:
        values["started_at"] = change.now
        details["admitted_by"] = case.admitted_by
    if decision.touches and case.dossier.touched_at is None:
        values["touched_at"] = change.now
    if Action.RESUME in decision.actions:
        values["status_reason"] = ""
    if Action.FAIL in decision.actions or Action.PAUSE in decision.actions:
        why = f"Stage {stage.name} failed."
        values["status_reason"] = f"{why} {step.reason}" if step.reason else why
    if Action.FAIL in decision.actions:
        failure = {"failure_cause": step.cause, "failure_class": step.cause.usual_class}
        values |= failure
        details |= failure
    await moves.move(
        change,
        case.dossier,
        decision.deployment,
        step.action or _action_of(decision),
        details=details,
        policy=case.approval.policy,
        **values,
    )


def _action_of(decision: StageDecision) -> str:
    """Name the change by the most that it did."""
    names = {
        Action.COMPLETE: "finish",
        Action.FAIL: "finish",
        Action.PAUSE: "pause",
        Action.RESUME: "retry",
        Action.START: "start",
    }
    done = (name for action, name in names.items() if action in decision.actions)
    return next(done, "update")
