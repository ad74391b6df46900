"""The stage machine: every status, every report, in every status of the deployment."""

from itertools import product

import pytest

from services.deployment.rules.lifecycle import Action, DeploymentKind, DeploymentStatus
from services.deployment.rules.policy import OnFailure
from services.deployment.rules.stages import (
    PIPELINE,
    Stage,
    StageDecision,
    StageStatus,
    ignore,
    open_stages,
    pipeline_of,
    report,
    retry,
    skip,
    strict_omitted,
)
from shared.domain_error import DomainError
from shared.errors import (
    IllegalTransition,
    NotPermitted,
    ResourceNotFound,
    StageOutOfOrder,
    StageResultFinal,
)

S = StageStatus
D = DeploymentStatus
STRICT = frozenset({"security_scan", "smoke_test"})
MOVES = {
    (S.PENDING, S.IN_PROGRESS),
    (S.PENDING, S.COMPLETED),
    (S.PENDING, S.FAILED),
    (S.IN_PROGRESS, S.IN_PROGRESS),
    (S.IN_PROGRESS, S.COMPLETED),
    (S.IN_PROGRESS, S.FAILED),
}
AGAIN = {(S.PENDING, S.PENDING), (S.COMPLETED, S.COMPLETED), (S.FAILED, S.FAILED)}


def pipeline(*statuses: StageStatus) -> list[Stage]:
    """Return a pipeline of the five names, as many as there are statuses."""
    return [Stage(name, status) for name, status in zip(PIPELINE, statuses, strict=False)]


def expectation(
    stage: StageStatus, to: StageStatus, deployment: DeploymentStatus
) -> type[DomainError] | bool:
    """Return the error of a report on the first of two stages, or whether it changes something."""
    if (stage, to) in AGAIN:
        return False
    if stage is S.COMPLETED or (stage is S.FAILED and to is not S.IN_PROGRESS):
        return StageResultFinal
    if (stage, to) in MOVES and deployment in (D.PENDING, D.IN_PROGRESS):
        return True
    if (stage, to) == (S.FAILED, S.IN_PROGRESS) and deployment is D.PAUSED:
        return True
    return IllegalTransition


@pytest.mark.parametrize(("stage", "to", "deployment"), list(product(S, S, D)))
def test_every_report_in_every_situation(
    stage: StageStatus, to: StageStatus, deployment: DeploymentStatus
) -> None:
    stages = pipeline(stage, S.PENDING)
    expected = expectation(stage, to, deployment)

    if isinstance(expected, bool):
        decision = report(stages, "build", to, deployment=deployment)
        assert decision.changed is expected
        assert decision.stage.status is to
        assert decision.starts is (expected and stage is not S.IN_PROGRESS)
        assert decision.ends is (expected and to in (S.COMPLETED, S.FAILED))
        return

    with pytest.raises(expected):
        report(stages, "build", to, deployment=deployment)


@pytest.mark.parametrize(
    ("earlier", "to"), list(product(S, (S.IN_PROGRESS, S.COMPLETED, S.FAILED)))
)
def test_a_stage_waits_for_all_before_it(earlier: StageStatus, to: StageStatus) -> None:
    stages = pipeline(S.COMPLETED, earlier, S.COMPLETED, S.PENDING)

    if earlier in (S.COMPLETED, S.SKIPPED, S.IGNORED):
        assert report(stages, "deploy", to, deployment=D.IN_PROGRESS).changed
        return

    with pytest.raises(StageOutOfOrder) as refused:
        report(stages, "deploy", to, deployment=D.IN_PROGRESS)
    assert refused.value.facts == {"stage": "deploy", "status": to, "blocking": "test"}


def test_first_stage_starts_the_deployment() -> None:
    decision = report(
        pipeline_of(DeploymentKind.PROMOTE), "build", S.IN_PROGRESS, deployment=D.PENDING
    )

    assert decision == StageDecision(
        Stage("build", S.IN_PROGRESS), D.IN_PROGRESS, starts=True, actions=(Action.START,)
    )


def test_last_stage_completes_the_deployment() -> None:
    stages = pipeline(S.COMPLETED, S.SKIPPED, S.IGNORED, S.COMPLETED, S.IN_PROGRESS)

    decision = report(stages, "smoke_test", S.COMPLETED, deployment=D.IN_PROGRESS)

    assert decision.deployment is D.COMPLETED
    assert decision.aborts == ()


@pytest.mark.parametrize(
    ("on_failure", "deployment", "aborted"),
    [
        (OnFailure.FAIL, D.FAILED, ("deploy", "smoke_test")),
        (OnFailure.PAUSE, D.PAUSED, ()),
    ],
)
def test_failed_stage_ends_or_pauses_by_policy(
    on_failure: OnFailure, deployment: DeploymentStatus, aborted: tuple[str, ...]
) -> None:
    stages = pipeline(S.COMPLETED, S.COMPLETED, S.IN_PROGRESS, S.PENDING, S.PENDING)

    decision = report(
        stages, "security_scan", S.FAILED, deployment=D.IN_PROGRESS, on_failure=on_failure
    )

    assert decision.deployment is deployment
    assert decision.aborts == aborted


@pytest.mark.parametrize(
    ("to", "actions", "after"),
    [
        (S.COMPLETED, (Action.START, Action.COMPLETE), D.COMPLETED),
        (S.FAILED, (Action.START, Action.FAIL), D.FAILED),
    ],
)
def test_one_report_may_start_and_finish_a_deployment(
    to: StageStatus, actions: tuple[Action, ...], after: DeploymentStatus
) -> None:
    decision = report([Stage("deploy")], "deploy", to, deployment=D.PENDING)

    assert (decision.starts, decision.ends, decision.touches) == (True, True, True)
    assert decision.actions == actions
    assert decision.deployment is after


def test_environment_is_touched_when_deploy_begins() -> None:
    before = pipeline(S.COMPLETED, S.COMPLETED, S.PENDING, S.PENDING, S.PENDING)
    after = pipeline(S.COMPLETED, S.COMPLETED, S.COMPLETED, S.PENDING, S.PENDING)

    assert not report(before, "security_scan", S.FAILED, deployment=D.IN_PROGRESS).touches
    assert report(after, "deploy", S.IN_PROGRESS, deployment=D.IN_PROGRESS).touches


def test_pipeline_without_deploy_touches_when_it_starts() -> None:
    stages = [Stage("copy"), Stage("switch")]

    assert report(stages, "copy", S.IN_PROGRESS, deployment=D.PENDING).touches


def test_completion_without_a_deploy_stage_that_ran_still_touches() -> None:
    stages = pipeline(S.COMPLETED, S.COMPLETED, S.COMPLETED, S.SKIPPED, S.IN_PROGRESS)

    assert report(stages, "smoke_test", S.COMPLETED, deployment=D.IN_PROGRESS).touches


@pytest.mark.parametrize("by_report", [True, False])
def test_retry_is_a_new_attempt_and_resumes(*, by_report: bool) -> None:
    stages = pipeline(S.COMPLETED, S.FAILED, S.PENDING)

    if by_report:
        decision = report(stages, "test", S.IN_PROGRESS, deployment=D.PAUSED)
    else:
        decision = retry(stages, "test", deployment=D.PAUSED)

    assert decision.stage == Stage("test", S.IN_PROGRESS, attempt=2)
    assert (decision.starts, decision.ends) == (True, False)
    assert decision.actions == (Action.RESUME,)
    assert decision.deployment is D.IN_PROGRESS


@pytest.mark.parametrize(("stage", "deployment"), list(product(S, D)))
def test_retry_and_ignore_need_a_failed_stage_and_a_paused_deployment(
    stage: StageStatus, deployment: DeploymentStatus
) -> None:
    stages = pipeline(stage, S.PENDING)
    if stage is S.FAILED and deployment is D.PAUSED:
        assert retry(stages, "build", deployment=deployment).changed
        assert ignore(stages, "build", deployment=deployment).stage.status is S.IGNORED
        return

    with pytest.raises(IllegalTransition):
        retry(stages, "build", deployment=deployment)
    with pytest.raises(IllegalTransition):
        ignore(stages, "build", deployment=deployment)


def test_ignoring_the_last_failure_completes_the_deployment() -> None:
    stages = pipeline(S.COMPLETED, S.COMPLETED, S.COMPLETED, S.COMPLETED, S.FAILED)

    decision = ignore(stages, "smoke_test", deployment=D.PAUSED)

    assert decision.actions == (Action.RESUME, Action.COMPLETE)
    assert decision.deployment is D.COMPLETED


@pytest.mark.parametrize(("stage", "deployment"), list(product(S, D)))
def test_skip_needs_a_pending_stage_of_an_open_deployment(
    stage: StageStatus, deployment: DeploymentStatus
) -> None:
    stages = pipeline(stage, S.PENDING)
    if stage is S.PENDING and deployment in (D.PENDING, D.IN_PROGRESS, D.PAUSED):
        decision = skip(stages, "build", deployment=deployment)
        assert decision.stage.status is S.SKIPPED
        assert decision.deployment is deployment
        return

    with pytest.raises(IllegalTransition):
        skip(stages, "build", deployment=deployment)


def test_skipping_the_last_open_stage_completes_only_what_runs() -> None:
    stages = pipeline(S.COMPLETED, S.PENDING)

    assert skip(stages, "test", deployment=D.IN_PROGRESS).deployment is D.COMPLETED
    with pytest.raises(IllegalTransition):
        skip([Stage("build")], "build", deployment=D.PENDING)


@pytest.mark.parametrize("name", sorted(STRICT))
def test_strict_stages_are_neither_skipped_nor_ignored(name: str) -> None:
    failed = [Stage(name, S.FAILED)]

    with pytest.raises(NotPermitted):
        ignore(failed, name, deployment=D.PAUSED, strict=STRICT)
    with pytest.raises(NotPermitted):
        skip([Stage(name)], name, deployment=D.IN_PROGRESS, strict=STRICT)


def test_unknown_stage_is_not_found() -> None:
    with pytest.raises(ResourceNotFound, match="no stage deliver"):
        report(pipeline(S.PENDING), "deliver", S.IN_PROGRESS, deployment=D.PENDING)


def test_promotion_has_five_stages_and_a_rollback_runs_two_of_them() -> None:
    promotion = pipeline_of(DeploymentKind.PROMOTE)
    rollback = pipeline_of(DeploymentKind.ROLLBACK)

    assert [stage.name for stage in promotion] == list(PIPELINE)
    assert open_stages(promotion) == PIPELINE
    assert open_stages(rollback) == ("deploy", "smoke_test")
    assert report(rollback, "deploy", S.IN_PROGRESS, deployment=D.PENDING).changed


@pytest.mark.parametrize(
    ("kind", "scan", "smoke", "omitted"),
    [
        (DeploymentKind.PROMOTE, S.COMPLETED, S.COMPLETED, False),
        (DeploymentKind.PROMOTE, S.SKIPPED, S.COMPLETED, True),
        (DeploymentKind.PROMOTE, S.COMPLETED, S.IGNORED, True),
        (DeploymentKind.ROLLBACK, S.SKIPPED, S.COMPLETED, False),
        (DeploymentKind.ROLLBACK, S.SKIPPED, S.IGNORED, True),
    ],
)
def test_strict_stages_left_out(
    kind: DeploymentKind, scan: StageStatus, smoke: StageStatus, *, omitted: bool
) -> None:
    stages = pipeline(S.SKIPPED, S.SKIPPED, scan, S.COMPLETED, smoke)

    assert strict_omitted(stages, kind, STRICT) is omitted
    assert not strict_omitted(stages, kind, frozenset())
