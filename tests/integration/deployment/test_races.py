"""Many callers at once: one slot, one effect for each request, one result for each stage."""

import asyncio
from collections.abc import Awaitable, Sequence

import pytest
from release_manager.deployment.v1 import deployment_pb2 as pb

from shared.domain_error import DomainError
from shared.errors import (
    DeploymentExists,
    IllegalTransition,
    RequestIdReused,
    SlotTaken,
    StageResultFinal,
)
from shared.ids import new_id
from tests.support.deployments import World
from tests.support.publishing import publish

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def outcomes(calls: Sequence[Awaitable[object]]) -> tuple[list[object], list[DomainError]]:
    """Return what succeeded and what was refused; anything else is raised."""
    done = await asyncio.gather(*calls, return_exceptions=True)
    errors = [result for result in done if isinstance(result, BaseException)]
    refused = [error for error in errors if isinstance(error, DomainError)]
    assert len(refused) == len(errors), errors
    return [result for result in done if not isinstance(result, BaseException)], refused


async def test_of_twenty_starts_one_gets_the_slot(world: World, app: str, place: str) -> None:
    await publish(world, place, pb.Policy(queue=pb.QUEUE_MODE_QUEUE))
    waiting = []
    for number in range(20):
        release = await world.release(f"{app}@{number}")
        waiting.append((await world.create(release, place)).id)
    # Then nobody stands in line, and whoever comes first has the slot.
    await publish(world, place, pb.Policy(queue=pb.QUEUE_MODE_SUPERSEDE))
    started, refused = await outcomes([world.start(deployment) for deployment in waiting])
    assert len(started) == 1
    assert all(isinstance(error, SlotTaken) for error in refused)
    holders = await world.database.fetchval(
        "SELECT count(*) FROM deployments WHERE status = 'in-progress' AND service_id = $1",
        world.services[app],
    )
    assert holders == 1
    await world.check_events()


async def test_of_twenty_requests_for_a_release_one_is_made(world: World, app: str) -> None:
    release = await world.release(f"{app}@1")
    made, refused = await outcomes([world.promote(release, "dev") for _ in range(20)])
    assert len(made) == 1
    assert all(isinstance(error, DeploymentExists) for error in refused)


async def test_a_request_id_has_one_effect(world: World, app: str) -> None:
    release, request_id = await world.release(f"{app}@1"), str(new_id())
    request = pb.PromoteReleaseRequest(release=release, environment="dev", request_id=request_id)
    made, refused = await outcomes(
        [world.call("dev1", "PromoteRelease", request) for _ in range(20)]
    )
    assert not refused
    assert len({answer.deployment.id for answer in made}) == 1  # type: ignore[attr-defined]
    assert len({tuple(answer.audit.event_ids) for answer in made}) == 1  # type: ignore[attr-defined]
    other = pb.PromoteReleaseRequest(release=release, environment="staging", request_id=request_id)
    assert isinstance(await world.refused("dev1", "PromoteRelease", other), RequestIdReused)
    await world.check_events()


async def test_a_stage_ends_once(world: World, app: str) -> None:
    made = await world.promote(await world.release(f"{app}@1"), "dev")
    await world.stage(made.id, "build", "in_progress")
    calls = [
        world.stage(made.id, "build", status)
        for status in ("completed", "failed")
        for _ in range(8)
    ]
    done, refused = await outcomes(calls)
    assert len(done) == 8
    assert all(isinstance(error, StageResultFinal) for error in refused)
    assert (await world.get(made.id)).etag == "3"
    await world.check_events()


async def test_a_rollback_and_the_end_of_its_subject_exclude_each_other(
    world: World, app: str
) -> None:
    await world.deployed(await world.release(f"{app}@0"))
    for number in range(1, 9):
        made = await world.create(await world.release(f"{app}@{number}"), "dev")
        await world.start(made.id)
        done, refused = await outcomes(
            [world.finish(made.id), world.roll_back(made.id, preempt=True)]
        )
        after = await world.get(made.id)
        # Whichever came first: the rollback always wins in the end, and the finish only before it.
        assert after.status == pb.DEPLOYMENT_STATUS_ROLLED_BACK
        assert len(done) + len(refused) == 2
        assert all(isinstance(error, IllegalTransition) for error in refused)
        carrier = after.rolled_back_by
        finished = await world.run_stages(carrier, "deploy", "smoke_test")
        assert finished.status == pb.DEPLOYMENT_STATUS_COMPLETED
    sequence = await world.database.fetch(
        "SELECT completed_seq FROM deployments WHERE service_id = $1 AND completed_seq IS NOT NULL"
        " ORDER BY completed_seq",
        world.services[app],
    )
    assert [row[0] for row in sequence] == list(range(1, len(sequence) + 1))
    await world.check_events()


async def test_many_rollbacks_make_one(world: World, app: str) -> None:
    await world.deployed(await world.release(f"{app}@1"))
    subject = await world.deployed(await world.release(f"{app}@2"))
    made, refused = await outcomes([world.roll_back(subject.id) for _ in range(10)])
    assert len(made) == 1
    assert len(refused) == 9
    rows = await world.database.fetchval(
        "SELECT count(*) FROM deployments WHERE kind = 'rollback' AND service_id = $1",
        world.services[app],
    )
    assert rows == 1
    await world.check_events()


async def test_environments_of_a_service_do_not_wait_for_one_another_for_ever(
    world: World, app: str
) -> None:
    names = [await world.release(f"{app}@{number}") for number in range(1, 4)]
    for name in names:
        await world.deployed(name)
        staged = await world.create(name, "staging")
        await world.approve(staged.id, "dev2")
        await world.start(staged.id)
        await world.finish(staged.id)
    latest = {
        place: await world.database.fetchval(
            "SELECT id::text FROM deployments WHERE environment_id = $1 AND service_id = $2"
            " ORDER BY deployed_at DESC LIMIT 1",
            world.environments[place],
            world.services[app],
        )
        for place in ("Dev", "Staging")
    }
    fresh = await world.release(f"{app}@9")
    done, refused = await outcomes(
        [
            world.roll_back(latest["Dev"]),
            world.roll_back(latest["Staging"]),
            *(world.promote(fresh, "dev") for _ in range(4)),
        ]
    )
    assert len(done) == 3
    assert all(isinstance(error, DeploymentExists) for error in refused)
    await world.check_events()
