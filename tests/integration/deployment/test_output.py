"""Output of stages: appended once at its place, given back whole, and proved by the ledger."""

import asyncio
import hashlib
import random

import pytest
from release_manager.deployment.v1 import deployment_pb2, output_pb2

from shared.errors import (
    IllegalTransition,
    LeaseHeld,
    LeaseLost,
    OutputFull,
    OutputMixed,
    OutputOffset,
    OutputOutOfRange,
    ResourceNotFound,
    ValidationFailed,
)
from shared.ids import new_id
from tests.support.deployments import World
from tests.support.executing import Executor, becomes, lease_is_over, pausing, stage_report, told_of
from tests.support.printing import LONGEST, Printer, grown, printer

pytestmark = pytest.mark.asyncio(loop_scope="session")

EMPTY = hashlib.sha256(b"").hexdigest()


async def shown(
    world: World, deployment: str, stage: str = "build"
) -> deployment_pb2.PipelineStage:
    """Return a stage as GetPipelineStage gives it."""
    listed = await world.get(deployment, "STAGES")
    stage_id = next(found.id for found in listed.stages if found.name == stage)
    request = deployment_pb2.GetPipelineStageRequest(pipeline_stage=stage_id)
    answer = await world.call("viewer1", "GetPipelineStage", request)
    found: deployment_pb2.PipelineStage = answer.pipeline_stage
    return found


async def test_what_is_appended_is_given_back(world: World, app: str, place: str) -> None:
    stage = await printer(world, app, place, "first line\n", "Zwölf ☃ 😀", "\r\n", " ")
    assert (await stage.text()).encode() == stage.sent
    assert [message.complete for message in await stage.messages()] == [False]
    await world.stage(stage.deployment, "build", "completed")
    (only,) = await stage.messages()
    assert only.text.encode() == stage.sent
    assert (only.offset, only.next_offset) == (0, len(stage.sent))
    assert (only.attempt, only.complete) == (1, True)
    by_id = await stage.messages(stage=(await shown(world, stage.deployment)).id, deployment="")
    assert by_id == [only]


async def test_the_same_again_has_no_effect(world: World, app: str, place: str) -> None:
    stage = await printer(world, app, place, "äbc", "defg", "hij" * 20_000, "end")
    for text, offset in (
        ("äbc", 0),
        ("bcde", 2),
        ("gh", 7),
        ("jend", 60_007),
        ("äbcdefg", 0),
    ):
        request = stage.piece(text, offset)
        answer = await world.call("dev1", "AppendStageOutput", request)
        assert (answer.attempt, answer.next_offset) == (1, len(stage.sent)), text
        assert not answer.audit.event_ids
    assert (await stage.text()).encode() == stage.sent


@pytest.mark.parametrize(
    "case",
    [
        ("xbc", 0, "something else"),
        ("abd", 0, "something else"),
        ("f", 3, "something else"),
        ("efg", 4, "ends after"),
        ("g", 7, "gap"),
        ("g", 2**60, "gap"),
    ],
    ids=str,
)
async def test_anything_else_is_refused_with_the_size(
    world: World, app: str, place: str, case: tuple[str, int, str]
) -> None:
    text, offset, problem = case
    stage = await printer(world, app, place, "abc", "def")
    error = await stage.refused(text, offset)
    assert isinstance(error, OutputOffset)
    assert error.facts["size"] == "6"
    assert problem in str(error)
    assert await stage.text() == "abcdef"
    await stage.prints("g")


async def test_of_many_who_append_at_one_place_one_succeeds(
    world: World, app: str, place: str
) -> None:
    stage = await printer(world, app, place)
    requests = [stage.piece(f"line {number}") for number in range(8)]
    answers = await asyncio.gather(
        *(world.call("dev1", "AppendStageOutput", request) for request in requests),
        return_exceptions=True,
    )
    refusals = [answer for answer in answers if isinstance(answer, OutputOffset)]
    assert len(refusals) == len(requests) - 1
    assert {error.facts["size"] for error in refusals} == {"6"}
    winner = next(n for n, answer in enumerate(answers) if not isinstance(answer, Exception))
    assert await stage.text() == f"line {winner}"


async def test_only_a_stage_that_runs_prints(world: World, app: str, place: str) -> None:
    stage = await printer(world, app, place, "some")
    later = Printer(world, stage.deployment, "test")
    assert isinstance(await later.refused("too early"), IllegalTransition)
    await world.stage(stage.deployment, "build", "completed")
    error = await stage.refused("too late")
    assert isinstance(error, IllegalTransition)
    assert error.facts["status"] == "completed"
    await world.stage(stage.deployment, "test", "in_progress")
    await later.prints("now")
    assert (await stage.text(), await later.text()) == ("some", "now")


async def test_what_is_not_there_is_named(world: World, app: str, place: str) -> None:
    stage = await printer(world, app, place, "some")
    nowhere = str(new_id())
    for wrong, kind in (({"stage": "nothing"}, "stage"), ({"deployment": nowhere}, "deployment")):
        request = output_pb2.AppendStageOutputRequest(
            **{"deployment": stage.deployment, "stage": "build", "text": "x"} | wrong  # type: ignore[arg-type]
        )
        error = await world.refused("dev1", "AppendStageOutput", request)
        assert isinstance(error, ResourceNotFound)
        assert error.facts["resource_type"] == kind
        assert (await stage.tail_refused(**wrong)).facts["resource_type"] == kind
    assert isinstance(await stage.tail_refused(attempt=2), ResourceNotFound)
    assert isinstance(await stage.tail_refused(stage=nowhere), ResourceNotFound)
    assert isinstance(await stage.tail_refused(deployment=""), ValidationFailed)
    error = await stage.tail_refused(from_offset=5)
    assert isinstance(error, OutputOutOfRange)
    assert error.facts["size"] == "4"
    other = await printer(world, f"{app}x", place)
    build = (await shown(world, stage.deployment)).id
    assert isinstance(
        await stage.tail_refused(stage=build, deployment=other.deployment), ResourceNotFound
    )


@pytest.mark.parametrize("text", ["a\0b", "a" * (LONGEST + 1), ""], ids=["nul", "long", "empty"])
async def test_what_is_no_piece_is_refused(world: World, app: str, place: str, text: str) -> None:
    stage = await printer(world, app, place)
    error = await stage.refused(text)
    assert isinstance(error, ValidationFailed)
    assert [violation.field for violation in error.fields] == ["text"]
    await stage.prints("😀" * LONGEST)
    assert (await shown(world, stage.deployment)).output_bytes == 4 * LONGEST


async def test_there_is_an_end_to_what_is_stored(world: World, app: str, place: str) -> None:
    stage = await printer(world, app, place, "x")
    full = 64 * 1024 * 1024
    await world.database.execute(
        "UPDATE pipeline_stages SET appended_bytes = $2, counted_bytes = $2"
        " WHERE deployment_id = $1 AND name = 'build'",
        stage.deployment,
        full - 3,
    )
    error = await stage.refused("four", full - 3)
    assert isinstance(error, OutputFull)
    assert error.facts["left"] == "3"
    await world.call("dev1", "AppendStageOutput", stage.piece("end", full - 3))
    assert isinstance(await stage.refused("x", full), OutputFull)


async def test_a_lease_asks_for_its_token(world: World, app: str, place: str) -> None:
    stage, runner = await printer(world, app, place, "before "), Executor(world)
    token = (await runner.claim(stage.deployment)).lease_token
    assert isinstance(await stage.refused("x"), LeaseHeld)
    assert isinstance(await stage.refused("x", lease_token=str(new_id())), LeaseLost)
    stage.who = "dev2"
    assert isinstance(await stage.refused("x", lease_token=token), LeaseLost)
    stage.who = "dev1"
    await stage.prints("after", lease_token=token)
    until = "SELECT expires_at FROM deployment_leases WHERE deployment_id = $1"
    await world.database.execute(
        "UPDATE deployment_leases SET expires_at = now() + interval '60 seconds'"
        " WHERE deployment_id = $1",
        stage.deployment,
    )
    soon = await world.database.fetchval(until, stage.deployment)
    await stage.prints(".", lease_token=token)
    assert (await world.database.fetchval(until, stage.deployment) - soon).total_seconds() > 200
    await lease_is_over(world, stage.deployment)
    assert isinstance(await stage.refused("x", lease_token=token), LeaseLost)
    await becomes(world, stage.deployment, "FAILED")
    _, details = (await told_of(world, stage.deployment))[-1]
    assert (details["output_stage"], details["output_attempt"]) == ("build", 1)
    assert (details["output_bytes"], details["output_sha256"]) == (len(stage.sent), stage.sha256)
    assert (await stage.text()).encode() == stage.sent


async def test_the_ledger_proves_what_was_printed(world: World, app: str, place: str) -> None:
    stage = await printer(world, app, place, "ä", "b" * LONGEST, "☃" * LONGEST, "\n")
    before = await told_of(world, stage.deployment)
    await world.stage(stage.deployment, "build", "completed")
    await world.stage(stage.deployment, "test", "completed")
    entries = (await told_of(world, stage.deployment))[len(before) :]
    assert [action for action, _ in before] == ["promote", "start"]
    found = [(entry["output_bytes"], entry["output_sha256"]) for _, entry in entries]
    assert found == [(len(stage.sent), stage.sha256), (0, EMPTY)]
    given = (await stage.text()).encode()
    assert hashlib.sha256(given).hexdigest() == found[0][1]
    await world.check_events()


async def test_stopping_a_deployment_tells_what_its_stage_has_printed(
    world: World, app: str, place: str
) -> None:
    stage = await printer(world, app, place, "half of it")
    request = deployment_pb2.CancelDeploymentRequest(deployment=stage.deployment, reason="enough")
    await world.call("dev1", "CancelDeployment", request)
    _, details = (await told_of(world, stage.deployment))[-1]
    assert (details["output_stage"], details["output_bytes"]) == ("build", 10)
    assert details["output_sha256"] == stage.sha256
    assert (await stage.messages())[-1].complete


async def test_each_attempt_has_an_output_of_its_own(world: World, app: str, place: str) -> None:
    await pausing(world, place)
    stage = await printer(world, app, place, "first attempt")
    await world.stage(stage.deployment, "build", "failed")
    await world.stage(stage.deployment, "build", "in_progress")
    assert (await stage.messages())[-1].attempt == 2
    assert (await shown(world, stage.deployment)).output_bytes == 0
    again = Printer(world, stage.deployment)
    assert isinstance(await again.refused("no", 13), OutputOffset)
    await again.prints("second")
    assert await again.text() == await again.text(attempt=2) == "second"
    (first,) = await stage.messages(attempt=1, follow=True)
    assert (first.text, first.complete) == ("first attempt", True)
    await world.stage(stage.deployment, "build", "completed")
    entries = [entry for _, entry in await told_of(world, stage.deployment)]
    sealed = [
        (entry["attempt"], entry["output_sha256"]) for entry in entries if "output_sha256" in entry
    ]
    assert sealed == [(1, stage.sha256), (2, again.sha256)]


async def test_output_set_as_a_whole_is_given_when_nothing_replaces_it_any_more(
    world: World, app: str, place: str
) -> None:
    await pausing(world, place)
    stage, runner = await printer(world, app, place), Executor(world)
    await runner.report(stage.deployment, "build", "in_progress", output="x")
    error = await stage.refused("more", 1)
    assert isinstance(error, OutputMixed)
    assert await stage.text() == ""
    whole = "ä☃😀" * 80_000
    await runner.report(stage.deployment, "build", "failed", output=whole)
    parts = await stage.messages()
    assert "".join(part.text for part in parts) == whole
    assert len(parts) > 1
    assert max(part.ByteSize() for part in parts) < 600_000
    _, details = (await told_of(world, stage.deployment))[-1]
    assert details["output_sha256"] == hashlib.sha256(whole.encode()).hexdigest()
    await world.stage(stage.deployment, "build", "in_progress")
    assert await stage.text(attempt=1) == whole
    assert await stage.text() == ""


async def test_appended_output_is_not_replaced(world: World, app: str, place: str) -> None:
    stage, runner = await printer(world, app, place, "kept"), Executor(world)
    for status in ("in_progress", "completed"):
        request = stage_report(stage.deployment, "build", status, output="new")
        error = await runner.refused("UpdatePipelineStage", request)
        assert isinstance(error, OutputMixed)
        assert error.facts["size"] == "4"
    await world.stage(stage.deployment, "build", "completed")
    assert await stage.text() == "kept"


async def test_the_end_of_the_output_is_shown(world: World, app: str, place: str) -> None:
    stage = await printer(world, app, place, "short")
    found = await shown(world, stage.deployment)
    assert (found.output, found.output_bytes, found.output_truncated) == ("short", 5, False)
    await stage.prints(*(f"{number:05}☃" * 10_000 for number in range(5)))
    text = stage.sent.decode()
    found = await shown(world, stage.deployment)
    assert (found.output, found.output_truncated) == (text[-262_144:], True)
    listed = next(one for one in (await world.get(stage.deployment)).stages if one.name == "build")
    assert (listed.output, listed.output_truncated) == (text[-4_096:], True)
    assert found.output_bytes == listed.output_bytes == len(stage.sent)
    request = deployment_pb2.ListPipelineStagesRequest(deployment=stage.deployment)
    answer = await world.call("viewer1", "ListPipelineStages", request)
    first = answer.pipeline_stages[0]
    assert (first.output, first.output_bytes) == ("", len(stage.sent))


async def test_a_follower_sees_what_comes_and_ends_with_the_attempt(
    world: World, app: str, place: str
) -> None:
    stage = await printer(world, app, place, "one ")
    stream = stage.tail(follow=True)
    seen = "".join([part.text async for part in grown(stream, 4)])
    for text in ("two ", "three ", "four"):
        await stage.prints(text)
        seen += "".join([part.text async for part in grown(stream, len(stage.sent))])
        assert seen.encode() == stage.sent
    await world.stage(stage.deployment, "build", "completed")
    async with asyncio.timeout(20):
        rest = [part async for part in stream]
    assert [(part.text, part.complete) for part in rest] == [("", True)]


async def test_a_stage_can_be_followed_before_it_starts(world: World, app: str, place: str) -> None:
    stage = await printer(world, app, place, "built")
    later = Printer(world, stage.deployment, "test")
    stream = later.tail(follow=True)
    first = await anext(aiter(stream))
    assert (first.text, first.attempt, first.complete) == ("", 1, False)
    await world.stage(stage.deployment, "build", "completed")
    await world.stage(stage.deployment, "test", "in_progress")
    await later.prints("tested")
    await world.stage(stage.deployment, "test", "completed")
    async with asyncio.timeout(20):
        assert "".join([part.text async for part in stream]) == "tested"


async def test_a_cut_stream_goes_on_byte_for_byte(world: World, app: str, place: str) -> None:
    chance = random.Random(20)
    stage = await printer(world, app, place)
    for _ in range(120):
        await stage.prints("".join(chance.choices("aä☃😀\n", k=chance.randint(1, 9_000))))
    await world.stage(stage.deployment, "build", "completed")
    got, place_, cuts = bytearray(len(stage.sent)), 0, 0
    while place_ < len(stage.sent):
        stream = stage.tail(from_offset=place_)
        part = await anext(aiter(stream))
        # Only a part of it was written before the connection broke, wherever that is.
        text = part.text.encode()
        cut = len(text) if cuts >= 20 else chance.randint(1, min(len(text), 60_000))
        got[part.offset : part.offset + cut] = text[:cut]
        assert part.offset <= place_ < part.offset + 4
        place_ = max(part.offset + cut, place_)
        stream.cancel()
        cuts += 1
    assert cuts > 20
    assert got == stage.sent
