"""The life of a pipeline stage, and what a stage does to its deployment.

A decision says everything the caller must write: the stage, the deployment's own transitions and
the stages that end with it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, NoReturn

from services.deployment.rules.lifecycle import (
    FINAL,
    Action,
    DeploymentKind,
    DeploymentStatus,
    advance,
    on_request,
)
from services.deployment.rules.policy import OnFailure
from shared.errors import (
    IllegalTransition,
    NotPermitted,
    ResourceNotFound,
    StageOutOfOrder,
    StageResultFinal,
)


class StageStatus(StrEnum):
    """Where a stage stands; the values are the stored spelling."""

    PENDING = "pending"
    IN_PROGRESS = "in-progress"
    COMPLETED = "completed"
    FAILED = "failed"
    ABORTED = "aborted"
    SKIPPED = "skipped"
    IGNORED = "ignored"


DEPLOY: Final = "deploy"
SMOKE_TEST: Final = "smoke_test"
PIPELINE: Final = ("build", "test", "security_scan", DEPLOY, SMOKE_TEST)
ROLLBACK_RUNS: Final = frozenset({DEPLOY, SMOKE_TEST})

_S = StageStatus
TRANSITIONS: Final = frozenset(
    {
        (_S.PENDING, _S.IN_PROGRESS),
        (_S.PENDING, _S.COMPLETED),
        (_S.PENDING, _S.FAILED),
        (_S.PENDING, _S.SKIPPED),
        (_S.PENDING, _S.ABORTED),
        (_S.IN_PROGRESS, _S.IN_PROGRESS),
        (_S.IN_PROGRESS, _S.COMPLETED),
        (_S.IN_PROGRESS, _S.FAILED),
        (_S.IN_PROGRESS, _S.ABORTED),
        (_S.FAILED, _S.IN_PROGRESS),
        (_S.FAILED, _S.IGNORED),
    }
)
REPORTABLE: Final = frozenset({_S.PENDING, _S.IN_PROGRESS, _S.COMPLETED, _S.FAILED})
PASSED: Final = frozenset({_S.COMPLETED, _S.SKIPPED, _S.IGNORED})
OPEN: Final = frozenset({_S.PENDING, _S.IN_PROGRESS})
RESULTS: Final = frozenset({_S.COMPLETED, _S.FAILED})


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of a pipeline; a pipeline is a sequence of them with distinct names."""

    name: str
    status: StageStatus = StageStatus.PENDING
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class StageDecision:
    """What a stage update leads to.

    `stage` is the stage as it becomes. `starts` sets its start to now and clears its end, `ends`
    sets its end to now. `actions` are the deployment's transitions in order and `deployment` the
    status they lead to; START among them means that every gate must be checked first. `aborts`
    names the stages that end with the deployment; `touches` says that the environment counts as
    touched from now on, if it did not before. Without `changed` nothing is written at all.
    """

    stage: Stage
    deployment: DeploymentStatus
    changed: bool = True
    starts: bool = False
    ends: bool = False
    actions: tuple[Action, ...] = ()
    aborts: tuple[str, ...] = ()
    touches: bool = False


def pipeline_of(kind: DeploymentKind) -> tuple[Stage, ...]:
    """Return the five stages of a promotion, or those of a rollback with three skipped."""
    if kind is DeploymentKind.ROLLBACK:
        return tuple(
            Stage(name, _S.PENDING if name in ROLLBACK_RUNS else _S.SKIPPED) for name in PIPELINE
        )
    return tuple(Stage(name) for name in PIPELINE)


def is_repeat(pipeline: Sequence[Stage], name: str, to: StageStatus) -> bool:
    """Say whether a report tells nothing new: the result that a stage has, or that it waits."""
    return to is _find(pipeline, name).status and to in RESULTS | {_S.PENDING}


def report(
    pipeline: Sequence[Stage],
    name: str,
    to: StageStatus,
    *,
    deployment: DeploymentStatus,
    on_failure: OnFailure = OnFailure.FAIL,
) -> StageDecision:
    """Decide what an executor's report that stage `name` is now `to` leads to.

    Reporting a failed stage of a paused deployment as in progress is a new attempt.
    Raises ResourceNotFound, StageResultFinal, StageOutOfOrder or IllegalTransition.
    """
    stage = _find(pipeline, name)
    if is_repeat(pipeline, name, to):
        return StageDecision(stage, deployment, changed=False)
    if stage.status is _S.COMPLETED or (stage.status is _S.FAILED and to is not _S.IN_PROGRESS):
        raise StageResultFinal(stage=name, status=stage.status)
    if to not in REPORTABLE or (stage.status, to) not in TRANSITIONS:
        _refuse(stage, to)
    if stage.status is _S.FAILED:
        return retry(pipeline, name, deployment=deployment)
    if deployment not in (DeploymentStatus.PENDING, DeploymentStatus.IN_PROGRESS):
        _refuse_update(deployment, name)
    _check_order(pipeline, stage, to)
    starts = stage.status is _S.PENDING
    start = (Action.START,) if deployment is DeploymentStatus.PENDING else ()
    after = _with(pipeline, replace(stage, status=to))
    return _decide(
        pipeline,
        StageDecision(
            replace(stage, status=to),
            deployment,
            starts=starts,
            ends=to in RESULTS,
            actions=start + _outcome(after, to, on_failure),
            touches=starts and _touches(pipeline, name, starting=bool(start)),
        ),
    )


def retry(pipeline: Sequence[Stage], name: str, *, deployment: DeploymentStatus) -> StageDecision:
    """Decide on a new attempt of the failed stage on which a deployment is paused."""
    stage = _find(pipeline, name)
    if stage.status is not _S.FAILED:
        _refuse(stage, _S.IN_PROGRESS)
    again = Stage(name, _S.IN_PROGRESS, stage.attempt + 1)
    decision = StageDecision(again, deployment, starts=True, actions=(Action.RESUME,))
    return _decide(pipeline, decision)


def ignore(
    pipeline: Sequence[Stage],
    name: str,
    *,
    deployment: DeploymentStatus,
    strict: frozenset[str] = frozenset(),
) -> StageDecision:
    """Decide that the failure on which a deployment is paused does not matter; not if strict."""
    stage = _find(pipeline, name)
    _refuse_strict(name, strict, "ignore")
    if stage.status is not _S.FAILED:
        _refuse(stage, _S.IGNORED)
    ignored = replace(stage, status=_S.IGNORED)
    finish = _outcome(_with(pipeline, ignored), _S.COMPLETED, OnFailure.FAIL)
    return _decide(pipeline, StageDecision(ignored, deployment, actions=(Action.RESUME, *finish)))


def skip(
    pipeline: Sequence[Stage],
    name: str,
    *,
    deployment: DeploymentStatus,
    strict: frozenset[str] = frozenset(),
) -> StageDecision:
    """Decide that a pending stage is left out; never a strict one.

    Skipping the last open stage completes a running deployment. Of one that has not started it is
    refused: nothing would be left to start it.
    """
    stage = _find(pipeline, name)
    _refuse_strict(name, strict, "skip")
    skipped = replace(stage, status=_S.SKIPPED)
    rest = _with(pipeline, skipped)
    finish = _outcome(rest, _S.COMPLETED, OnFailure.FAIL)
    waiting = deployment is DeploymentStatus.PENDING
    if stage.status is not _S.PENDING or (waiting and finish):
        _refuse(stage, _S.SKIPPED)
    if deployment in FINAL or deployment is DeploymentStatus.CANCELLING:
        _refuse_update(deployment, name)
    return _decide(pipeline, StageDecision(skipped, deployment, actions=finish))


def open_stages(pipeline: Sequence[Stage]) -> tuple[str, ...]:
    """Return the stages that become `aborted` when their deployment ends."""
    return tuple(stage.name for stage in pipeline if stage.status in OPEN)


def strict_omitted(pipeline: Sequence[Stage], kind: DeploymentKind, strict: frozenset[str]) -> bool:
    """Tell whether a stage that the environment calls strict was skipped or ignored.

    What every rollback skips by design is no omission of this one.
    """
    expected = strict & ROLLBACK_RUNS if kind is DeploymentKind.ROLLBACK else strict
    return any(
        stage.name in expected and stage.status in (_S.SKIPPED, _S.IGNORED) for stage in pipeline
    )


def _find(pipeline: Sequence[Stage], name: str) -> Stage:
    for stage in pipeline:
        if stage.name == name:
            return stage
    raise ResourceNotFound(resource_type="stage", resource=name)


def _with(pipeline: Sequence[Stage], changed: Stage) -> tuple[Stage, ...]:
    return tuple(changed if stage.name == changed.name else stage for stage in pipeline)


def _check_order(pipeline: Sequence[Stage], stage: Stage, to: StageStatus) -> None:
    for earlier in pipeline:
        if earlier.name == stage.name:
            return
        if earlier.status not in PASSED:
            raise StageOutOfOrder(stage=stage.name, status=to, blocking=earlier.name)


def _outcome(
    pipeline: Sequence[Stage], to: StageStatus, on_failure: OnFailure
) -> tuple[Action, ...]:
    if to is _S.FAILED:
        return (Action.PAUSE if on_failure is OnFailure.PAUSE else Action.FAIL,)
    return (Action.COMPLETE,) if all(stage.status in PASSED for stage in pipeline) else ()


def _touches(pipeline: Sequence[Stage], name: str, *, starting: bool) -> bool:
    if any(stage.name == DEPLOY for stage in pipeline):
        return name == DEPLOY
    return starting


def _decide(pipeline: Sequence[Stage], decision: StageDecision) -> StageDecision:
    status = decision.deployment
    for action in decision.actions:
        status = advance(status, action)
    ended = status in FINAL
    aborts = open_stages(_with(pipeline, decision.stage)) if ended else ()
    # What is complete counts as what runs here, even if its deploy stage was skipped.
    touches = decision.touches or Action.COMPLETE in decision.actions
    return replace(decision, deployment=status, aborts=aborts, touches=touches)


def _refuse(stage: Stage, to: StageStatus) -> NoReturn:
    targets = [status for status in StageStatus if (stage.status, status) in TRANSITIONS]
    raise IllegalTransition(
        subject=f"Stage {stage.name}",
        status=stage.status,
        action=to,
        allowed=", ".join(targets) or "nothing",
    )


def _refuse_update(deployment: DeploymentStatus, name: str) -> NoReturn:
    raise IllegalTransition(
        subject="The deployment",
        status=deployment,
        action=f"updating stage {name}",
        allowed=on_request(deployment),
    )


def _refuse_strict(name: str, strict: frozenset[str], verb: str) -> None:
    if name in strict:
        raise NotPermitted(
            action=f"{verb} stage {name}", because="it is strict in this environment"
        )
