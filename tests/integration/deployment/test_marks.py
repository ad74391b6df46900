"""Releases marked bad: in one place or everywhere, until the mark is taken away."""

import asyncio
from typing import Any

import pytest
from release_manager.deployment.v1 import deployment_pb2 as pb

from shared.errors import GateUnsatisfied, NoStableRelease, ResourceNotFound, RoleRequired
from shared.ids import new_id
from tests.support.deployments import World
from tests.support.publishing import clear, held_up, mark, told, until_waiting

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def listed(world: World, **wanted: Any) -> list[pb.ReleaseMark]:
    """Return all marks that a list has for a request."""
    answer = await world.call("viewer1", "ListReleaseMarks", pb.ListReleaseMarksRequest(**wanted))
    return list(answer.marks)


async def test_what_is_bad_somewhere_is_not_deployed_there(world: World, app: str) -> None:
    release = await world.release(f"{app}@1")
    waiting = await world.create(release, "dev")
    made = (await mark(world, release, "dev")).mark
    assert (made.release, made.environment, made.reason) == (release, "Dev", "it leaks")
    assert (made.marked_by, made.deployment_id) == ("lead1", "")
    assert made.environment_id == str(world.environments["Dev"])
    assert not made.HasField("cleared_at")
    (blocker,) = (await world.get(waiting.id)).blockers
    assert (blocker.gate, blocker.reason) == ("release", "1: it is marked bad here (it leaks)")
    with pytest.raises(GateUnsatisfied, match="marked bad"):
        await world.start(waiting.id)
    gone = (await clear(world, release, "dev", who="lead2")).mark
    assert gone.id == made.id
    assert gone.HasField("cleared_at")
    assert (gone.cleared_by, gone.cleared_because) == ("lead2", "mended")
    assert not (await world.get(waiting.id)).blockers
    await world.start(waiting.id)
    await world.check_events()


async def test_what_runs_goes_on_running(world: World, app: str) -> None:
    release = await world.release(f"{app}@1")
    running = await world.create(release, "dev")
    await world.start(running.id)
    await mark(world, release)
    assert (await world.finish(running.id)).status == pb.DEPLOYMENT_STATUS_COMPLETED


async def test_a_mark_everywhere_is_one_of_its_own(world: World, app: str) -> None:
    release = await world.release(f"{app}@1")
    for environment in ("", "dev", "staging"):
        await mark(world, release, environment)
    found = await listed(world, release=release)
    assert [entry.environment for entry in found] == ["Staging", "Dev", ""]
    here = await listed(world, release=release, environment="dev")
    assert [entry.environment for entry in here] == ["Dev", ""]
    await clear(world, release)
    with pytest.raises(GateUnsatisfied, match="marked bad"):
        await world.create(release, "dev")
    await clear(world, release, "dev")
    await world.create(release, "dev")
    assert [entry.environment for entry in await listed(world, service=app)] == ["Staging"]
    all_ever = await listed(world, service=app, show_cleared=True)
    assert [entry.HasField("cleared_at") for entry in all_ever] == [False, True, True]
    await world.check_events()


async def test_marking_again_changes_nothing(world: World, app: str) -> None:
    release = await world.release(f"{app}@1")
    first = await mark(world, release, "dev")
    again = await mark(world, release, "dev", who="lead2", reason="other words")
    assert again.mark == first.mark
    assert first.audit.event_ids
    assert not again.audit.event_ids
    answers = await asyncio.gather(*(mark(world, release) for _ in range(8)))
    assert len({answer.mark.id for answer in answers}) == 1
    assert sum(len(answer.audit.event_ids) for answer in answers) == 1
    await world.check_events()


async def test_what_is_not_marked_cannot_be_cleared(world: World, app: str) -> None:
    release = await world.release(f"{app}@1")
    with pytest.raises(ResourceNotFound, match=f"{release} as bad everywhere"):
        await clear(world, release)
    await mark(world, release)
    with pytest.raises(ResourceNotFound, match=r"as bad in Dev \(marked: everywhere\)") as error:
        await clear(world, release, "dev")
    assert error.value.facts["marked"] == "everywhere"
    done = await asyncio.gather(*(clear(world, release) for _ in range(5)), return_exceptions=True)
    assert sum(isinstance(answer, pb.ClearReleaseBadResponse) for answer in done) == 1
    assert sum(isinstance(answer, ResourceNotFound) for answer in done) == 4
    again = (await mark(world, release)).mark
    assert [entry.id for entry in await listed(world, release=release)] == [again.id]
    for reference in ("nothing@1", f"{app}@2", str(new_id())):
        with pytest.raises(ResourceNotFound):
            await mark(world, reference)
    with pytest.raises(ResourceNotFound):
        await mark(world, release, "nowhere")
    await world.check_events()


async def test_developers_do_not_mark(world: World, app: str) -> None:
    release = await world.release(f"{app}@1")
    for call in (mark, clear):
        with pytest.raises(RoleRequired):
            await call(world, release, who="dev1")


async def test_rehearsals_and_repeats_mark_once(world: World, app: str) -> None:
    release, request_id = await world.release(f"{app}@1"), str(new_id())
    assert (await mark(world, release, validate_only=True)).mark.reason == "it leaks"
    assert not await listed(world, release=release)
    first = await mark(world, release, request_id=request_id)
    await clear(world, release)
    again = await mark(world, release, request_id=request_id)
    assert again.mark == first.mark
    assert not await listed(world, release=release)


async def test_entries_are_found_with_those_of_the_release(world: World, app: str) -> None:
    release = await world.release(f"{app}@1")
    made = await mark(world, release, "dev")
    gone = await clear(world, release, "dev")
    ids = [*made.audit.event_ids, *gone.audit.event_ids]
    events = [await told(world, event_id) for event_id in ids]
    assert [event["action"] for event in events] == ["mark_bad", "clear_bad"]
    for sequence, event in enumerate(events, start=1):
        assert (event["resourceType"], event["resourceId"]) == ("release", made.mark.release_id)
        assert event["aggregate"] == f"release_mark:{made.mark.id}"
        assert event["aggregateSeq"] == sequence
        details = event["details"]
        assert (details["release"], details["environment"]) == (release, "Dev")
    assert details["before"] == {
        "bad": True,
        "reason": "it leaks",
        "marked_by": str(world.people["lead1"]),
    }
    assert details["after"] == {"bad": False}


async def test_a_rollback_passes_over_what_is_marked(world: World, app: str) -> None:
    names = [await world.release(f"{app}@{number}") for number in range(3)]
    for name in names:
        latest = await world.deployed(name)
    await mark(world, names[1])
    made = await world.roll_back(latest.id)
    assert made.deployment.release == names[0]
    (by_rollback, _by_hand) = await listed(world, service=app)
    assert (by_rollback.release, by_rollback.deployment_id) == (names[2], latest.id)
    cleared = await clear(world, names[2], "dev")
    assert cleared.mark.id == by_rollback.id
    await world.check_events()


async def test_a_rollback_that_waits_for_a_mark_minds_it(world: World, app: str) -> None:
    names = [await world.release(f"{app}@{number}") for number in range(2)]
    for name in names:
        latest = await world.deployed(name)
    async with held_up(world, "lead1"):
        marking = asyncio.create_task(mark(world, names[0]))
        await until_waiting(world, 1)
        rolling = asyncio.create_task(world.roll_back(latest.id))
        await until_waiting(world, 2)
    await marking
    with pytest.raises(NoStableRelease, match="marked bad here"):
        await rolling


async def test_a_start_that_waits_for_a_mark_minds_it(world: World, app: str) -> None:
    release = await world.release(f"{app}@1")
    waiting = await world.create(release, "dev")
    async with held_up(world, "lead1"):
        marking = asyncio.create_task(mark(world, release, "dev"))
        await until_waiting(world, 1)
        starting = asyncio.create_task(world.start(waiting.id))
        await until_waiting(world, 2)
    await marking
    with pytest.raises(GateUnsatisfied, match="marked bad"):
        await starting
