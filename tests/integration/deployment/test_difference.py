"""Two environments compared."""

from typing import Any

import pytest
from release_manager.deployment.v1 import deployment_pb2 as pb

from shared.errors import ResourceNotFound
from tests.support.deployments import World

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def compared(world: World, here: str, there: str, **more: Any) -> list[Any]:
    request = pb.DiffEnvironmentsRequest(environment=here, compared_with=there, **more)
    answer = await world.call("viewer1", "DiffEnvironments", request)
    return list(answer.differences)


async def test_how_live_releases_relate(world: World, app: str) -> None:
    names = [await world.release(f"{app}@{number}") for number in range(4)]
    await world.create(names[0], "dev")
    (nothing,) = await compared(world, "dev", "staging", service=app)
    assert nothing.relation == pb.ENVIRONMENT_RELATION_NEITHER
    assert nothing.environment.pending_count == 1
    assert nothing.environment.pending[0].release == names[0]
    await world.start(nothing.environment.pending[0].id)
    await world.finish(nothing.environment.pending[0].id)

    (only,) = await compared(world, "dev", "staging", service=app)
    (mirrored,) = await compared(world, "staging", "dev", service=app)
    assert only.relation == pb.ENVIRONMENT_RELATION_ONLY_HERE
    assert mirrored.relation == pb.ENVIRONMENT_RELATION_ONLY_THERE

    made = await world.create(names[0], "staging")
    await world.approve(made.id, "lead1")
    await world.start(made.id)
    (running,) = await compared(world, "dev", "staging", service=app)
    assert running.compared_with.running.id == made.id
    assert running.compared_with.running.status == pb.DEPLOYMENT_STATUS_IN_PROGRESS
    await world.finish(made.id)
    (same,) = await compared(world, "dev", "staging", service=app)
    assert same.relation == pb.ENVIRONMENT_RELATION_SAME
    assert same.environment.live_release_id == same.compared_with.live_release_id
    assert not same.releases_between_count

    await world.deployed(names[3])
    (ahead,) = await compared(world, "dev", "staging", service=app)
    (behind,) = await compared(world, "staging", "dev", service=app)
    assert ahead.relation == pb.ENVIRONMENT_RELATION_AHEAD
    assert behind.relation == pb.ENVIRONMENT_RELATION_BEHIND
    assert [one.release for one in ahead.releases_between] == [names[2], names[1]]
    assert ahead.releases_between_count == behind.releases_between_count == 2
    assert ahead.environment.live_release == names[3]
    assert ahead.compared_with.live_release == names[0]
    assert ahead.environment.HasField("live_since")


async def test_more_releases_than_are_named_are_counted(world: World, app: str) -> None:
    names = [await world.release(f"{app}@{number}") for number in range(25)]
    done = await world.deployed(names[0])
    staged = await world.create(names[0], "staging")
    await world.approve(staged.id, "lead1")
    await world.start(staged.id)
    await world.finish(staged.id)
    await world.deployed(names[24])
    (found,) = await compared(world, "dev", "staging", service=app)
    assert found.releases_between_count == 23
    assert [one.release for one in found.releases_between] == names[4:24][::-1]
    assert done.release == found.compared_with.live_release


async def test_pages_by_name_and_a_team(own_world: World) -> None:
    world = own_world
    for app in ("charlie", "alpha", "Bravo"):
        await world.deployed(await world.release(f"{app}@1"))
    request = pb.DiffEnvironmentsRequest(environment="dev", compared_with="prod", page_size=2)
    first = await world.call("viewer1", "DiffEnvironments", request)
    request.page_token = first.next_page_token
    second = await world.call("viewer1", "DiffEnvironments", request)
    names = [one.service for page in (first, second) for one in page.differences]
    assert names == ["alpha", "Bravo", "charlie"]
    assert not second.next_page_token
    assert [one.service for one in await compared(world, "dev", "prod", team="team bravo")] == [
        "Bravo"
    ]


async def test_what_is_not_there_is_named(world: World) -> None:
    usual: dict[str, Any] = {"environment": "dev", "compared_with": "prod"}
    for given in ({"environment": "nowhere"}, {"compared_with": "nowhere"}, {"team": "nobody"}):
        request = pb.DiffEnvironmentsRequest(**(usual | given))
        error = await world.refused("viewer1", "DiffEnvironments", request)
        assert isinstance(error, ResourceNotFound)
