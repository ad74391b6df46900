"""Watching: what is true now, then the newest state of whatever changes, as long as it lasts."""

import asyncio
import time
from typing import Any

import grpc
import pytest
from release_manager.deployment.v1 import deployment_pb2 as pb

from services.deployment.watching import feed, watching
from shared.errors import FollowSlotsTaken, ResourceNotFound, TokenRejected
from shared.ids import new_id
from tests.support.deployments import STAGES, World
from tests.support.polling import eventually, keeps_promise
from tests.support.watching import beginning
from tests.support.watching import watching as watch

pytestmark = pytest.mark.asyncio(loop_scope="session")

# Within which a stream tells what nobody was notified of, and ends for who may no longer watch.
PROMISED_S = 5


async def history(world: World, app: str) -> dict[str, pb.Deployment]:
    """Make deployments of one service: replaced, live, failed, and waiting."""
    made = {
        "replaced": await world.deployed(await world.release(f"{app}@1.0.0")),
        "live": await world.deployed(await world.release(f"{app}@2.0.0")),
    }
    failed = await world.create(await world.release(f"{app}@3.0.0"), "Dev")
    await world.start(failed.id)
    made["failed"] = await world.finish(failed.id, "failed")
    made["waiting"] = await world.create(await world.release(f"{app}@4.0.0"), "Dev")
    return made


async def test_the_current_state_is_what_is_open_and_what_is_live(world: World, app: str) -> None:
    made = await history(world, app)
    states = await beginning(world, made["live"].id, made["waiting"].id, service=app)
    for name in ("live", "waiting"):
        assert states[made[name].id] == await world.get(made[name].id, "BASIC")


async def test_each_change_follows_as_the_whole_deployment(
    own_world: World, app: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # By notifications alone: no look of every few seconds will find any of them.
    monkeypatch.setattr(feed, "LOOK_EVERY_S", 3_600.0)
    world = own_world
    release = await world.release(f"{app}@1.0.0")
    async with watch(world, service=app) as watcher:
        assert not watcher.states
        made = await world.promote(release, "Dev")
        await watcher.sees(made)
        assert watcher.states[made.id] == await world.get(made.id, "BASIC")
        for stage in STAGES:
            answer = await world.stage(made.id, stage, "completed")
            await watcher.sees(answer.deployment)
        assert watcher.states[made.id] == await world.get(made.id, "BASIC")
        assert watcher.etags[made.id] == list(range(1, 1 + len(watcher.etags[made.id])))


async def test_one_transaction_that_changes_several_is_told_of_all(world: World, app: str) -> None:
    old = await world.deployed(await world.release(f"{app}@1.0.0"))
    live = await world.deployed(await world.release(f"{app}@2.0.0"))
    await beginning(world, live.id, service=app)
    async with watch(world, service=app) as watcher:
        answer = await world.roll_back(live.id)
        undone = pb.Deployment(id=live.id, etag=str(int(live.etag) + 1))
        await watcher.sees(undone)
        assert watcher.states[live.id].status == pb.DEPLOYMENT_STATUS_ROLLED_BACK
        await watcher.until(lambda: answer.rollback.rollback_deployment_id in watcher.states)
        # Word of its own completion may still have been on its way; of this change there is none.
        assert set(watcher.etags.get(old.id, ())) <= {int(old.etag)}


@pytest.mark.parametrize(
    "by", ["service", "environment", "release", "kind", "deployed_by", "deployments"]
)
async def test_only_what_matches_comes(world: World, app: str, by: str, place: str) -> None:
    other = f"other-{app}-{by}"
    mine = await world.create(await world.release(f"{app}@1.0.0"), place, "dev3")
    await world.deployed(await world.release(f"{other}@1.0.0"), place)
    theirs = await world.create(f"{other}@1.0.0", "Dev", "dev1")
    asked: Any = {
        "service": app,
        "environment": place,
        "release": f"{app}@1.0.0",
        "kind": pb.DEPLOYMENT_KIND_REDEPLOY,
        "deployed_by": "dev3",
        "deployments": [mine.id],
    }[by]
    if by == "kind":
        await world.start(mine.id)
        await world.finish(mine.id)
        mine = await world.create(f"{app}@1.0.0", place, "dev3")
        assert mine.kind == pb.DEPLOYMENT_KIND_REDEPLOY
    async with watch(world, **{by: asked}) as watcher:
        assert theirs.id not in watcher.states
        await world.start(theirs.id)
        changed = await world.start(mine.id)
        await watcher.sees(changed)
        assert theirs.id not in watcher.states


async def test_named_deployments_come_although_they_have_ended(world: World, app: str) -> None:
    made = await history(world, app)
    names = [made["replaced"].id, made["failed"].id]
    await beginning(world, *names, deployments=names)


@pytest.mark.parametrize("field", ["service", "environment", "release", "deployed_by"])
async def test_what_is_not_there_cannot_be_watched(world: World, field: str) -> None:
    with pytest.raises(ResourceNotFound):
        async with watch(world, **{field: str(new_id())}):
            pass


async def test_one_unknown_deployment_among_known_ones_is_named(world: World, app: str) -> None:
    made = await world.deployed(await world.release(f"{app}@1.0.0"))
    unknown = str(new_id())
    with pytest.raises(ResourceNotFound) as refused:
        async with watch(world, deployments=[made.id, unknown]):
            pass
    assert refused.value.facts["resource"] == unknown


async def test_nothing_that_ended_meanwhile_is_missed(world: World, app: str) -> None:
    """A client that was away for a while goes on from its last `as_of`."""
    made = await history(world, app)
    async with watch(world, service=app) as watcher:
        as_of = watcher.as_of
    await world.start(made["waiting"].id)
    ended = await world.finish(made["waiting"].id, "failed")
    await beginning(world, made["live"].id, service=app)
    async with watch(world, service=app, changed_since=as_of) as again:
        assert again.version(ended.id) == int(ended.etag)
        assert again.states[ended.id].status == pb.DEPLOYMENT_STATUS_FAILED
        assert made["live"].id in again.states


async def test_what_was_written_before_but_committed_after_is_not_missed(
    world: World, app: str
) -> None:
    """A transaction that takes its time has the times of its beginning."""
    made = await history(world, app)
    connection = await world.database.acquire()
    try:
        slow = connection.transaction()
        await slow.start()
        await connection.execute(
            "UPDATE deployments SET status_reason = 'late', row_version = row_version + 1"
            " WHERE id = $1",
            made["failed"].id,
        )
        async with watch(world, service=app) as watcher:
            as_of = watcher.as_of
        await slow.commit()
    finally:
        await world.database.release(connection)
    async with watch(world, service=app, changed_since=as_of) as again:
        assert again.states[made["failed"].id].status_reason == "late"


async def test_what_nobody_was_notified_of_comes_within_five_seconds(
    world: World, app: str
) -> None:
    live = (await history(world, app))["live"]
    async with watch(world, service=app) as watcher:

        async def it_comes(number: int) -> float:
            reason, version = f"by hand {number}", int(live.etag) + 1 + number
            began = time.monotonic()
            await world.database.execute(
                "UPDATE deployments SET status_reason = $2, row_version = $3 WHERE id = $1",
                *(live.id, reason, version),
            )
            await watcher.sees(pb.Deployment(id=live.id, etag=str(version)))
            assert watcher.states[live.id].status_reason == reason
            return time.monotonic() - began

        await keeps_promise(PROMISED_S, it_comes)


async def test_a_heartbeat_says_how_far_the_stream_is(
    world: World, app: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "HEARTBEAT_S", 0.5)
    await world.release(f"{app}@1.0.0")
    async with watch(world, service=app) as watcher:
        synced = watcher.as_of
        await watcher.until(lambda: watcher.heartbeats > 2)
        assert synced is not None
        await watcher.until(lambda: bool(watcher.as_of and watcher.as_of > synced))


async def test_ended_as_it_is_when_the_user_is_deactivated(own_world: World) -> None:
    async def one_is(number: int) -> float:
        who = ("dev3", "dev2", "dev1")[number]
        async with watch(own_world, who) as watcher:
            began = time.monotonic()
            await own_world.database.execute(
                "UPDATE users SET active = false WHERE id = $1", own_world.people[who]
            )
            assert isinstance(await watcher.end(), TokenRejected)
            return time.monotonic() - began

    await keeps_promise(PROMISED_S, one_is)


async def test_a_caller_has_so_many_streams_and_learns_when_to_come_again(
    own_world: World,
) -> None:
    metadata = (("authorization", f"Bearer {own_world.tokens['dev1']}"),)
    calls = [
        own_world.stub.WatchDeployments(pb.WatchDeploymentsRequest(), metadata=metadata)
        for _ in range(watching.PER_CALLER)
    ]
    for call in calls:
        await call.read()
    with pytest.raises(FollowSlotsTaken) as refused:
        async with watch(own_world, "dev1"):
            pass
    assert refused.value.retry_after is not None
    async with watch(own_world, "dev2"):
        pass
    calls.pop().cancel()
    await eventually(lambda: is_admitted(own_world), 20)
    for call in calls:
        call.cancel()


async def is_admitted(world: World) -> bool:
    try:
        async with watch(world, "dev1"):
            return True
    except FollowSlotsTaken:
        return False


async def test_a_deadline_ends_the_stream(world: World) -> None:
    metadata = (("authorization", f"Bearer {world.tokens['viewer1']}"),)
    call = world.stub.WatchDeployments(pb.WatchDeploymentsRequest(), metadata=metadata, timeout=0.5)

    async def to_the_end() -> None:
        while await asyncio.wait_for(call.read(), 20):
            pass

    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await to_the_end()
    assert ended.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
