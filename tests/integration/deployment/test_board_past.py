"""The board and the comparison of environments as of the past: what was seen is told again."""

import random
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from release_manager.deployment.v1 import deployment_pb2 as pb
from release_manager.deployment.v1 import restrictions_pb2

from shared.domain_error import DomainError
from shared.errors import ResourceNotFound, ValidationFailed
from tests.support.deployments import World
from tests.support.freezing import freeze, once
from tests.support.restricting import lock, unlock

pytestmark = pytest.mark.asyncio(loop_scope="session")

STEPS = 40
OPEN = (
    "SELECT d.id::text FROM deployments d JOIN services s ON s.id = d.service_id"
    " WHERE s.name = $1 AND d.status IN ('pending', 'in-progress', 'paused', 'cancelling')"
)
TOUCHED = (
    "SELECT d.id::text FROM deployments d JOIN services s ON s.id = d.service_id"
    " WHERE s.name = $1 AND d.touched_at IS NOT NULL ORDER BY d.touched_at DESC LIMIT 1"
)


class Walk:
    """Things that happen at random to a service in Dev and Staging."""

    def __init__(self, world: World, app: str, source: random.Random) -> None:
        """Begin with ten releases."""
        self._world, self._app, self._source = world, app, source
        self._locks: list[str] = []
        self.done: Counter[str] = Counter()

    async def step(self) -> None:
        """Do something; what is refused has no effect."""
        acts = (*(self.request,) * 3, *(self.drive,) * 6, *(self.roll_back,) * 2, self.restrict)
        act = self._source.choice(acts)
        try:
            await act()
        except DomainError:
            self.done["refused"] += 1
        else:
            self.done[act.__name__] += 1

    async def request(self) -> None:
        release = f"{self._app}@{self._source.randrange(10)}"
        method = self._source.choice((self._world.promote, self._world.create))
        await method(release, self._source.choice(("dev", "dev", "staging")))

    async def drive(self) -> None:
        ids = [row[0] for row in await self._world.database.fetch(OPEN, self._app)]
        if not ids:
            return
        found = await self._world.get(self._source.choice(ids))
        if found.approval_status == pb.APPROVAL_STATUS_PENDING:
            found = await self._world.approve(found.id, "lead1")
        failed = self._source.random() < 0.2
        if self._source.random() < 0.1:
            request = pb.CancelDeploymentRequest(deployment=found.id, reason="not needed")
            await self._world.call("admin", "CancelDeployment", request)
        elif not found.stages and found.status == pb.DEPLOYMENT_STATUS_PENDING:
            await self._world.start(found.id)
        elif not found.stages:
            await self._world.finish(found.id, "failed" if failed else "completed")
        for stage in found.stages:
            if stage.status == pb.STAGE_STATUS_PENDING:
                status = "failed" if failed and stage.name == "smoke_test" else "completed"
                await self._world.stage(found.id, stage.name, status)
                if self._source.random() < 0.4:
                    break

    async def roll_back(self) -> None:
        subject = await self._world.database.fetchval(TOUCHED, self._app)
        if subject is not None:
            await self._world.roll_back(subject, preempt=self._source.random() < 0.5)

    async def restrict(self) -> None:
        """Lock or unlock in a way that stops nobody for long, or make a window that is over."""
        if self._locks and self._source.random() < 0.6:
            await unlock(self._world, self._locks.pop())
        elif self._source.random() < 0.5:
            made = await lock(self._world, self._app, "prod")
            self._locks.append(made.lock.id)
        else:
            name = self._app
            await freeze(self._world, services=[name], environments=["Prod"], once=once(1, 2))


async def statuses(world: World, app: str, as_of: Timestamp | None = None) -> Any:
    request = pb.ListEnvironmentStatusesRequest(service=app, as_of=as_of)
    return await world.call("viewer1", "ListEnvironmentStatuses", request)


async def difference(world: World, app: str, as_of: Timestamp | None = None) -> Any:
    request = pb.DiffEnvironmentsRequest(
        environment="dev", compared_with="staging", service=app, as_of=as_of
    )
    return await world.call("viewer1", "DiffEnvironments", request)


def told(answer: Any) -> Any:
    """Return an answer without what the past does not tell: the status of what held the slot."""
    copy = type(answer)()
    copy.CopyFrom(answer)
    places = (
        copy.statuses
        if isinstance(copy, pb.ListEnvironmentStatusesResponse)
        else [side for one in copy.differences for side in (one.environment, one.compared_with)]
    )
    for place in places:
        if place.HasField("running"):
            place.running.ClearField("status")
    return copy


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_what_was_seen_is_told_again_later(world: World, app: str, seed: int) -> None:
    for number in range(10):
        await world.release(f"{app}@{number}")
    walk, seen = Walk(world, app, random.Random(seed)), []
    for _ in range(STEPS):
        await walk.step()
        seen.append((await statuses(world, app), await difference(world, app)))
    assert walk.done["request"] > 2, walk.done
    assert walk.done["drive"] > 5, walk.done
    health = {one.health for board, _ in seen for one in board.statuses}
    assert len(health) > 2, health
    for board, compared in seen:
        assert told(await statuses(world, app, board.as_of)) == told(board)
        assert told(await difference(world, app, compared.as_of)) == told(compared)


async def test_locks_and_windows_are_told_as_of_then(world: World, app: str) -> None:
    await world.create(await world.release(f"{app}@1"), "dev")
    before = await statuses(world, app)
    made = await lock(world, app)
    place = await lock(world, environment="dev")
    window = await freeze(world, services=[app])
    during = await statuses(world, app)
    await unlock(world, made.lock.id)
    await unlock(world, place.lock.id)
    after = await statuses(world, app)

    cell = during.statuses[0]
    assert [one.id for one in cell.locks] == [place.lock.id, made.lock.id]
    assert [one.place for one in cell.locks] == ["everything in Dev", f"{app} everywhere"]
    assert cell.freeze.frozen
    assert [one.name for one in cell.freeze.windows] == [window.window.name]
    assert cell.freeze.opens_at == window.window.once.closes_at
    assert not before.statuses[0].locks
    assert not after.statuses[0].locks
    for seen in (before, during, after):
        assert await statuses(world, app, seen.as_of) == seen


async def test_an_open_service_says_when_it_is_frozen_next(world: World, app: str) -> None:
    await world.create(await world.release(f"{app}@1"), "dev")
    far = await freeze(world, services=[app], once=once(24 * 200, 24 * 201))
    assert not (await statuses(world, app)).statuses[0].freeze.HasField("freezes_at")
    near = await freeze(world, services=[app], once=once(2, 3))
    seen = (await statuses(world, app)).statuses[0].freeze
    assert far.window.name not in seen.freezes_by
    assert list(seen.freezes_by) == [near.window.name]
    assert seen.freezes_at == near.window.once.opens_at
    assert not seen.frozen


async def test_a_window_changed_since_says_nothing_of_the_past(own_world: World, app: str) -> None:
    world = own_world
    await world.create(await world.release(f"{app}@1"), "dev")
    window = await freeze(world, services=[app])
    seen = await statuses(world, app)
    change = restrictions_pb2.UpdateFreezeWindowRequest(
        window=window.window.name, reason="another one"
    )
    await world.call("admin", "UpdateFreezeWindow", change)
    assert seen.statuses[0].freeze.frozen
    assert not (await statuses(world, app, seen.as_of)).statuses[0].HasField("freeze")
    assert (await statuses(world, app)).statuses[0].freeze.frozen


async def test_the_future_is_refused(world: World, app: str) -> None:
    await world.release(f"{app}@1")
    ahead = Timestamp()
    ahead.FromDatetime((await statuses(world, app)).as_of.ToDatetime() + timedelta(hours=1))
    calls: tuple[tuple[str, Any], ...] = (
        ("GetEnvironmentStatus", pb.GetEnvironmentStatusRequest(service=app, environment="dev")),
        ("ListEnvironmentStatuses", pb.ListEnvironmentStatusesRequest()),
        ("DiffEnvironments", pb.DiffEnvironmentsRequest(environment="dev", compared_with="prod")),
    )
    for method, request in calls:
        request.as_of.CopyFrom(ahead)
        refused = await world.refused("viewer1", method, request)
        assert isinstance(refused, ValidationFailed), method
        assert [one.field for one in refused.fields] == ["as_of"]


async def test_before_the_first_request_there_is_nothing(world: World, app: str) -> None:
    await world.release(f"{app}@1")
    before = (await statuses(world, app)).as_of
    await world.deployed(f"{app}@1")
    assert not (await statuses(world, app, before)).statuses
    assert not (await difference(world, app, before)).differences
    request = pb.GetEnvironmentStatusRequest(service=app, environment="dev", as_of=before)
    one = await world.call("viewer1", "GetEnvironmentStatus", request)
    assert one.status.health == pb.HEALTH_NOTHING_DEPLOYED
    assert one.as_of == before


async def test_a_team_narrows_the_board(world: World, app: str) -> None:
    await world.deployed(await world.release(f"{app}@1"))
    wanted = pb.ListEnvironmentStatusesRequest(team=f"Team {app}")
    found = await world.call("viewer1", "ListEnvironmentStatuses", wanted)
    assert [one.service for one in found.statuses] == [app]
    missing = pb.ListEnvironmentStatusesRequest(team="nobody")
    error = await world.refused("viewer1", "ListEnvironmentStatuses", missing)
    assert isinstance(error, ResourceNotFound)
