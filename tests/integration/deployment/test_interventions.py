"""What people do about a failed stage: try again, go on, leave out, give up; and the attempts."""

from typing import Any

import pytest
from release_manager.deployment.v1 import deployment_pb2 as pb
from release_manager.deployment.v1 import execution_pb2 as execution

from shared.errors import (
    EtagMismatch,
    IllegalTransition,
    NotPermitted,
    ResourceNotFound,
    RoleRequired,
    StageResultFinal,
)
from shared.ids import new_id
from tests.support.deployments import STAGES, World
from tests.support.executing import Executor, pausing, promoted, stage_report, told_of
from tests.support.programs import add_program

pytestmark = pytest.mark.asyncio(loop_scope="session")

WHY = "known to be flaky"


async def paused(world: World, app: str, place: str, stage: str = "test", **policy: object) -> str:
    """Return a deployment that is paused on a stage."""
    await pausing(world, place, **policy)
    made = await promoted(world, app, place)
    before = STAGES[: STAGES.index(stage)]
    answer = await world.run_stages(made, *before, stage, last="failed")
    assert answer.status == pb.DEPLOYMENT_STATUS_PAUSED
    assert answer.status_reason == f"Stage {stage} failed."
    assert answer.HasField("deadline")
    return made


async def attempts(world: World, deployment: str, **more: object) -> list[execution.StageAttempt]:
    """Return the attempts of a deployment."""
    request = execution.ListStageAttemptsRequest(deployment=deployment, **more)  # type: ignore[arg-type]
    answer: execution.ListStageAttemptsResponse = await world.call(
        "viewer1", "ListStageAttempts", request
    )
    return list(answer.attempts)


async def test_a_stage_is_tried_again(world: World, app: str, place: str) -> None:
    made = await paused(world, app, place)
    runner = Executor(world, "dev2", "runner-9")
    request = execution.RetryStageRequest(deployment=made, stage="test")
    answer = await world.call("dev1", "RetryStage", request)
    assert (answer.stage.attempt, answer.stage.status) == (2, pb.STAGE_STATUS_IN_PROGRESS)
    assert answer.stage.output == ""
    assert answer.deployment.status == pb.DEPLOYMENT_STATUS_IN_PROGRESS
    assert answer.deployment.status_reason == ""
    assert len(answer.audit.event_ids) == 1
    token = (await runner.claim(made)).lease_token
    await runner.report(made, "test", "failed", token, output="once more")
    # A report can begin an attempt, too.
    token_less = await runner.report(made, "test", "in_progress")
    assert token_less.stage.attempt == 3
    await runner.report(made, "test", "completed", output="well")
    seen = await attempts(world, made, stage="test")
    assert [one.attempt for one in seen] == [1, 2, 3]
    words = [pb.StageStatus.Name(one.status).removeprefix("STAGE_STATUS_") for one in seen]
    assert words == ["FAILED", "FAILED", "COMPLETED"]
    assert [one.output for one in seen] == ["", "once more", "well"]
    assert [one.started_by for one in seen] == ["dev1", "dev1", "dev2"]
    assert [one.ended_by for one in seen] == ["dev1", "dev2", "dev2"]
    assert all(one.HasField("completed_at") for one in seen)
    assert {one.stage for one in await attempts(world, made)} == {"build", "test"}
    actions = [action for action, _ in await told_of(world, made)]
    assert actions[2:] == ["pause", "retry", "claim", "pause", "retry", "update"]
    await world.check_events()


async def test_attempts_come_in_pages(world: World, app: str, place: str) -> None:
    made = await paused(world, app, place)
    await world.call(
        "dev1", "RetryStage", execution.RetryStageRequest(deployment=made, stage="test")
    )
    seen, token = [], ""
    while True:
        request = execution.ListStageAttemptsRequest(deployment=made, page_size=1, page_token=token)
        answer = await world.call("viewer1", "ListStageAttempts", request)
        seen += [(one.stage, one.attempt) for one in answer.attempts]
        token = answer.next_page_token
        if not token:
            break
    assert seen == [("build", 1), ("test", 1), ("test", 2)]
    wrongs: tuple[dict[str, Any], ...] = (
        {"deployment": str(new_id())},
        {"deployment": made, "stage": "nowhere"},
    )
    for wrong in wrongs:
        request = execution.ListStageAttemptsRequest(**wrong)
        assert isinstance(
            await world.refused("viewer1", "ListStageAttempts", request), ResourceNotFound
        )


async def test_a_failure_is_ignored_by_a_person(world: World, app: str, place: str) -> None:
    made = await paused(world, app, place)
    request = execution.IgnoreStageRequest(deployment=made, stage="test", reason=WHY)
    answer = await world.call("dev2", "IgnoreStage", request)
    assert (answer.stage.status, answer.stage.reason) == (pb.STAGE_STATUS_IGNORED, WHY)
    assert answer.deployment.status == pb.DEPLOYMENT_STATUS_IN_PROGRESS
    (attempt,) = await attempts(world, made, stage="test")
    assert attempt.status == pb.STAGE_STATUS_FAILED
    action, details = (await told_of(world, made))[-1]
    assert (action, details["reason"]) == ("ignore", WHY)
    assert (details["stage_before"], details["stage_after"]) == ("failed", "ignored")
    await world.run_stages(made, "security_scan", "deploy", "smoke_test")
    assert (await world.get(made)).status == pb.DEPLOYMENT_STATUS_COMPLETED
    await world.check_events()


async def test_ignoring_the_last_stage_completes(world: World, app: str, place: str) -> None:
    made = await paused(world, app, place, "smoke_test")
    request = execution.IgnoreStageRequest(deployment=made, stage="smoke_test", reason=WHY)
    answer = await world.call("dev1", "IgnoreStage", request)
    assert answer.deployment.status == pb.DEPLOYMENT_STATUS_COMPLETED
    await world.check_events()


async def test_strict_stages_are_neither_ignored_nor_skipped(
    world: World, app: str, place: str
) -> None:
    made = await paused(world, app, place, strict_stages=["test", "smoke_test"])
    for who in ("dev1", "lead1", "admin"):
        ignore = execution.IgnoreStageRequest(deployment=made, stage="test", reason=WHY)
        error = await world.refused(who, "IgnoreStage", ignore)
        assert isinstance(error, NotPermitted)
        assert "strict" in str(error)
        skip = execution.SkipStageRequest(deployment=made, stage="smoke_test", reason=WHY)
        assert isinstance(await world.refused(who, "SkipStage", skip), NotPermitted)
    assert (await world.get(made)).status == pb.DEPLOYMENT_STATUS_PAUSED


async def test_a_stage_is_left_out(world: World, app: str, place: str) -> None:
    made = await promoted(world, app, place)
    skip = execution.SkipStageRequest(deployment=made, stage="test", reason=WHY)
    answer = await world.call("dev1", "SkipStage", skip)
    assert (answer.stage.status, answer.stage.reason) == (pb.STAGE_STATUS_SKIPPED, WHY)
    assert answer.deployment.status == pb.DEPLOYMENT_STATUS_PENDING
    assert isinstance(await world.refused("dev1", "SkipStage", skip), IllegalTransition)
    await world.run_stages(made, "build", "security_scan", "deploy")
    runner = Executor(world, "dev2")
    token = (await runner.claim(made)).lease_token
    skip.stage = "smoke_test"
    answer = await world.call("dev1", "SkipStage", skip)
    assert answer.deployment.status == pb.DEPLOYMENT_STATUS_COMPLETED
    assert token
    assert await attempts(world, made, stage="test") == []
    actions = [action for action, _ in await told_of(world, made)]
    assert actions == ["promote", "skip", "start", "update", "update", "claim", "skip"]
    await world.check_events()


async def test_people_give_up(world: World, app: str, place: str) -> None:
    made = await paused(world, app, place)
    request = execution.FailDeploymentRequest(
        deployment=made, reason="out of disk", failure_class=pb.FAILURE_CLASS_ERRORED
    )
    answer = await world.call("dev1", "FailDeployment", request)
    failed = answer.deployment
    assert failed.status == pb.DEPLOYMENT_STATUS_FAILED
    assert failed.failure_cause == pb.FAILURE_CAUSE_REPORTED
    assert failed.failure_class == pb.FAILURE_CLASS_ERRORED
    assert failed.status_reason == "out of disk"
    assert not failed.HasField("deadline")
    error = await world.refused("dev1", "FailDeployment", request)
    assert isinstance(error, IllegalTransition)
    assert error.facts["status"] == "failed"
    action, details = (await told_of(world, made))[-1]
    assert (action, details["reason"]) == ("fail", "out of disk")
    await world.check_events()


async def test_what_runs_is_not_given_up(world: World, app: str, place: str) -> None:
    made = await promoted(world, app, place)
    await world.stage(made, "build", "in_progress")
    for method, request in (
        ("RetryStage", execution.RetryStageRequest(deployment=made, stage="build")),
        ("IgnoreStage", execution.IgnoreStageRequest(deployment=made, stage="build", reason=WHY)),
        (
            "FailDeployment",
            execution.FailDeploymentRequest(
                deployment=made, reason=WHY, failure_class=pb.FAILURE_CLASS_FAILED
            ),
        ),
    ):
        error = await world.refused("dev1", method, request)
        assert isinstance(error, IllegalTransition), method
        assert "allowed" in error.facts


async def test_a_failed_deployment_is_not_retried(world: World, app: str, place: str) -> None:
    made = await promoted(world, app, place)
    await world.run_stages(made, "build", last="failed")
    retry = execution.RetryStageRequest(deployment=made, stage="build")
    error = await world.refused("dev1", "RetryStage", retry)
    assert isinstance(error, IllegalTransition)
    assert error.facts["allowed"] == "roll_back"
    report = stage_report(made, "build", "completed")
    assert isinstance(await world.refused("dev1", "UpdatePipelineStage", report), StageResultFinal)


async def test_who_may_intervene(own_world: World) -> None:
    world, place = own_world, "Dev"
    program = await add_program(world.database_url, "ci", "developer", ("deploy",))
    world.tokens["ci"] = program.token
    made = await paused(world, "app", place)
    calls = (
        ("RetryStage", execution.RetryStageRequest(deployment=made, stage="test")),
        ("IgnoreStage", execution.IgnoreStageRequest(deployment=made, stage="test", reason=WHY)),
        ("SkipStage", execution.SkipStageRequest(deployment=made, stage="deploy", reason=WHY)),
        (
            "FailDeployment",
            execution.FailDeploymentRequest(
                deployment=made, reason=WHY, failure_class=pb.FAILURE_CLASS_FAILED
            ),
        ),
    )
    for method, request in calls:
        assert isinstance(await world.refused("viewer1", method, request), RoleRequired)
        request.etag = "1"
        assert isinstance(await world.refused("dev1", method, request), EtagMismatch)
        request.etag = ""
        if method != "RetryStage":
            error = await world.refused("ci", method, request)
            assert isinstance(error, NotPermitted)
            assert "people decide" in str(error)
        request.validate_only = True
        await world.call("dev1", method, request)
        request.validate_only = False
    assert (await world.get(made)).status == pb.DEPLOYMENT_STATUS_PAUSED
    answer = await world.call("ci", *calls[0])
    assert answer.stage.attempt == 2
