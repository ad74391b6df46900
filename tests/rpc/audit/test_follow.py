"""Following: every matching entry once and in order, from any position, until it must end."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from typing import Any

import grpc
import pytest
from release_manager.audit.v1 import audit_pb2 as pb

from services.audit.reading import following, head_watch
from services.audit.store import windows
from shared.errors import FollowSlotsTaken
from shared.identity.actor import Role
from shared.ids import new_id
from shared.rpc.slots import Slots
from tests.rpc.audit.conftest import Service, as_, event, refusal
from tests.rpc.audit.follower import Follower, follow, numbers, size
from tests.support.polling import eventually, keeps_promise, no_open_transaction
from tests.support.walls import lose_end

pytestmark = pytest.mark.asyncio(loop_scope="session")

WITHIN_S = 5


async def test_from_the_beginning_and_then_as_they_come(
    audit: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "HEARTBEAT_S", 60)
    await audit.log(*[event(number) for number in range(700)])
    async with follow(audit, from_index=0) as follower:
        assert numbers(await follower.until(700)) == list(range(700))
        assert follower.largest <= following.LARGEST_BATCH
        await audit.log(*[event(number) for number in range(700, 710)])
        async with asyncio.timeout(15):  # far less than a heartbeat
            while len(follower.entries) < 710:
                await follower.read()
        assert numbers(follower.entries) == list(range(710))
        stored = await audit.stub.GetAuditLog(
            pb.GetAuditLogRequest(leaf_index=follower.entries[0].leaf_index), metadata=as_("lead1")
        )
        assert stored.audit_log == follower.entries[0]


async def test_from_now_begins_with_the_next_entry_whenever_that_comes(audit: Service) -> None:
    """The first message is a promise: what is appended after it is in the stream."""
    await audit.log(event(1))
    for number in range(2, 12):
        async with follow(audit) as follower:
            begin = follower.next_index
            assert begin == await size(audit)
            await audit.log(event(number))
            while not follower.entries:
                await follower.read()
            assert numbers(follower.entries) == [number]
            assert follower.entries[0].leaf_index == begin
        # The end of this stream is an entry too, which could come in the next round.
        ended = "SELECT count(*) = $1 FROM audit_logs WHERE action = 'follow_done'"
        await eventually(partial(audit.owner.fetchval, ended, number - 1), 20)


async def test_the_filter_holds_and_the_position_goes_on_all_the_same(audit: Service) -> None:
    batch = [event(n, action=("deploy", "approve")[n % 2], user="lead1") for n in range(100)]
    await audit.log(*batch)
    asked = pb.AuditLogFilter(action="approve", user="lead1", producer="deployment")
    async with follow(audit, filter=asked, from_index=0) as follower:
        assert numbers(await follower.until(100)) == list(range(1, 100, 2))
    nothing = pb.AuditLogFilter(resource_id="d-none")
    async with follow(audit, filter=nothing, from_index=0) as follower:
        assert await follower.until(100) == []


async def test_a_stream_is_resumed_from_any_message(audit: Service) -> None:
    await audit.log(*[event(number) for number in range(40)])
    wanted = pb.AuditLogFilter(resource_type="deployment")
    seen: list[int] = []
    position = 0
    for round_ in range(10):
        async with follow(audit, filter=wanted, from_index=position) as follower:
            await audit.log(*[event(40 + round_ * 10 + number) for number in range(10)])
            message = await follower.read()
            while not message.audit_logs:
                message = await follower.read()
            seen += numbers(follower.entries)
            position = follower.next_index
    async with follow(audit, filter=wanted, from_index=position) as follower:
        seen += numbers(await follower.until(await size(audit)))
    assert seen == list(range(140))


async def test_only_what_is_signed_with_the_checkpoint_that_covers_it(audit: Service) -> None:
    async with follow(audit, from_index=0, only_signed=True) as follower:
        await audit.log(*[event(number) for number in range(5)])
        while len(follower.entries) < 5:
            message = await follower.read()
            for entry in message.audit_logs:
                newest = await audit.owner.fetchval("SELECT max(tree_size) FROM audit_checkpoints")
                assert entry.leaf_index < newest
        while not follower.checkpoints:
            await follower.read()
        [stored] = await audit.owner.fetch(
            "SELECT root, note FROM audit_checkpoints WHERE tree_size = $1",
            follower.checkpoints[0].tree_size,
        )
        assert (follower.checkpoints[0].root, follower.checkpoints[0].note) == tuple(stored)


async def test_each_checkpoint_comes_once_and_after_what_it_covers(audit: Service) -> None:
    async with follow(audit, from_index=0) as follower:
        for number in range(3):
            await audit.log(event(number))
            end = await size(audit)
            while not follower.checkpoints or follower.checkpoints[-1].tree_size < end:
                await follower.read()
        sizes = [checkpoint.tree_size for checkpoint in follower.checkpoints]
        assert sizes == sorted(set(sizes))


async def test_a_heartbeat_comes_when_nothing_else_does(
    audit: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert following.HEARTBEAT_S <= 10
    monkeypatch.setattr(following, "HEARTBEAT_S", 0.3)
    async with follow(audit, filter=pb.AuditLogFilter(resource_id="d-none")) as follower:
        while not follower.checkpoints:  # that of the entry about following itself
            await follower.read()
        await audit.log(event(1))
        end = await size(audit)
        assert await follower.until(end) == []
        for _ in range(3):
            message = await follower.read()
            assert not message.audit_logs
        assert follower.next_index == end


async def test_positions_that_cannot_be(audit: Service) -> None:
    await audit.log(event(1))
    end = await size(audit)
    asked = pb.FollowAuditLogsRequest(from_index=end + 10)
    error = await refusal(audit.stub.FollowAuditLogs(asked, metadata=as_("lead1")).read())
    assert (error.reason, error.facts["position"]) == ("POSITION_OUT_OF_RANGE", str(end + 10))


async def test_what_will_come_in_the_places_of_lost_entries_is_not_passed_by(
    audit: Service,
) -> None:
    """Of a ledger that was cut off, more was signed than is there."""
    await audit.log(*[event(number) for number in range(9)])
    proved = pb.GetInclusionProofRequest(leaf_index=8)
    await audit.stub.GetInclusionProof(proved, metadata=as_("lead1"))
    await lose_end(audit.owner, 4, tree_too=False)
    async with follow(audit, from_index=0, only_signed=True) as follower:
        await follower.until(4)
        assert numbers(follower.entries) == [0, 1, 2, 3]
        assert follower.next_index <= await size(audit)


async def test_what_was_retired_is_not_skipped_in_silence(audit: Service) -> None:
    """The stream ends before the hole, and says where it goes on and by which entry."""
    await audit.log(*[event(number) for number in range(9)])
    await audit.owner.execute(
        "INSERT INTO audit_retirements (month, first_index, end_index, leaf_index, dropped_at)"
        " VALUES ('2020-01-01', 3, 6, 8, now())"
    )
    async with follow(audit, from_index=0) as follower:
        assert numbers(await follower.until(3)) == [0, 1, 2]
        error = await refusal(follower.call.read())
    assert error.reason == "ENTRY_RETIRED"
    facts = {name: error.facts[name] for name in ("position", "retired_by", "next_index")}
    assert facts == {"position": "3", "retired_by": "8", "next_index": "6"}
    async with follow(audit, from_index=6) as follower:
        assert numbers(await follower.until(9)) == [6, 7, 8]


async def test_what_is_retired_while_it_is_read_is_not_skipped_either(
    audit: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    await audit.log(*[event(number) for number in range(9)])
    entries = windows.entries

    async def after_the_drop(tx: Any, *asked: Any) -> AsyncIterator[Any]:
        monkeypatch.setattr(windows, "entries", entries)
        await audit.owner.execute(
            "INSERT INTO audit_retirements (month, first_index, end_index, leaf_index, dropped_at)"
            " VALUES ('2020-01-01', 3, 6, 8, now())"
        )
        async for row in entries(tx, *asked):
            if row.leaf_index not in range(3, 6):
                yield row

    # A snapshot that began before a month was dropped sees neither its rows nor that it was.
    monkeypatch.setattr(windows, "entries", after_the_drop)
    async with follow(audit, from_index=0) as follower:
        assert numbers(await follower.until(3)) == [0, 1, 2]
        error = await refusal(follower.call.read())
    assert (error.reason, error.facts["position"]) == ("ENTRY_RETIRED", "3")


async def test_ten_streams_of_one_caller(audit: Service) -> None:
    followers = [follow(audit) for _ in range(following.PER_CALLER)]
    for one in followers:
        await one.__aenter__()
    more = audit.stub.FollowAuditLogs(pb.FollowAuditLogsRequest(), metadata=as_("lead1"))
    assert (await refusal(more.read())).reason == "FOLLOW_SLOTS_TAKEN"
    async with follow(audit, by="lead2"):
        pass
    await followers[0].__aexit__(None, None, None)
    async with asyncio.timeout(20):
        while True:
            again = audit.stub.FollowAuditLogs(pb.FollowAuditLogsRequest(), metadata=as_("lead1"))
            try:
                await again.read()
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.02)  # the server has not noticed yet
            else:
                break
    again.cancel()
    for one in followers[1:]:
        await one.__aexit__(None, None, None)


async def test_200_streams_of_all() -> None:
    slots = Slots(FollowSlotsTaken, per_caller=following.PER_CALLER, total=following.TOTAL)
    held = [slots.taken(new_id()) for _ in range(following.TOTAL)]
    for one in held:
        one.__enter__()
    with pytest.raises(FollowSlotsTaken), slots.taken(new_id()):
        pass
    for one in held:
        one.__exit__(None, None, None)
    assert slots.running == 0


async def test_one_poller_for_all_and_none_without_followers(
    audit: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    look = head_watch.HeadWatch.look

    async def counted(self: head_watch.HeadWatch) -> head_watch.Seen:
        nonlocal looks
        looks += 1
        return await look(self)

    monkeypatch.setattr(head_watch.HeadWatch, "look", counted)
    followers = [follow(audit, by=by) for by in ["lead1", "lead2"] * 10]
    for one in followers:
        await one.__aenter__()
    await asyncio.sleep(1)

    async def seen(least: int) -> bool:
        return looks >= least

    async def at_rest() -> bool:
        before = looks
        await asyncio.sleep(0.5)
        return looks == before

    looks, began = 0, time.monotonic()
    await asyncio.sleep(1)
    await eventually(partial(seen, 3), 30)
    assert looks <= 2 * (time.monotonic() - began) / head_watch.EVERY_S
    for one in followers:
        await one.__aexit__(None, None, None)
    await eventually(at_rest, 30)


@pytest.mark.parametrize(
    ("change", "reason"),
    [("demoted", "ROLE_REQUIRED"), ("cut off", "TOKEN_REJECTED")],
)
@pytest.mark.parametrize("reader", ["waits for entries", "takes nothing"])
async def test_who_may_no_longer_read_is_cut_off_within_seconds(
    audit: Service, change: str, reason: str, reader: str
) -> None:
    """Also when the reader takes nothing, so that the stream waits for room, not for entries."""
    batch = [event(number) for number in range(60)]
    for one in batch:
        one.details.update({"padding": "x" * 60_000})
    await audit.log(*batch)
    asked: dict[str, Any] = {"from_index": 0} if reader == "takes nothing" else {}
    actors, lead = audit.callers.actors, audit.callers.actors["lead2"]

    async def one_is(_number: int) -> float:
        actors["lead2"] = lead
        async with follow(audit, by="lead2", **asked) as follower:
            del actors["lead2"]
            if change == "demoted":
                actors["lead2"] = replace(lead, role=Role.DEVELOPER)
            if reader == "takes nothing":
                await asyncio.sleep(WITHIN_S)
            began = time.monotonic()
            assert await follower.refused() == reason
            return time.monotonic() - began

    await keeps_promise(WITHIN_S, one_is)


async def test_an_export_is_cut_off_too(audit: Service) -> None:
    for _ in range(4):
        batch = [event(number) for number in range(60)]
        for one in batch:
            one.details.update({"padding": "x" * 60_000})
        await audit.log(*batch)
    call = audit.stub.ExportAuditLogs(pb.ExportAuditLogsRequest(), metadata=as_("lead2"))
    await call.read()
    del audit.callers.actors["lead2"]
    await asyncio.sleep(4)
    assert await Follower(call).refused() == "TOKEN_REJECTED"


async def test_a_slow_reader_delays_nobody_and_misses_nothing(audit: Service) -> None:
    async with follow(audit, from_index=0) as slow, follow(audit, by="lead2") as quick:
        for round_ in range(12):
            batch = [event(round_ * 20 + number) for number in range(20)]
            for one in batch:
                one.details.update({"padding": "x" * 50_000})
            await audit.log(*batch)
            async with asyncio.timeout(20):
                while len(quick.entries) < (round_ + 1) * 20:
                    await quick.read()
        await no_open_transaction(audit.owner)
        assert numbers(await slow.until(await size(audit)))[-240:] == list(range(240))


async def test_a_follower_that_comes_late_is_served_beside_the_writers(audit: Service) -> None:
    """Several writers, and followers with different filters: each gets exactly what it wants."""
    end = asyncio.get_running_loop().create_future()

    async def write(writer: int) -> None:
        for number in range(0, 100, 5):
            kind = ("deployment", "release")[writer % 2]
            start = writer * 1000 + number
            await audit.log(*[event(start + n, resource_type=kind) for n in range(5)])

    async def read(kind: str, by: str) -> list[int]:
        wanted = pb.AuditLogFilter(resource_type=kind)
        async with follow(audit, by=by, filter=wanted, from_index=0) as follower:
            while not end.done() or follower.next_index < end.result():
                await follower.read()
            return numbers(follower.entries)

    readers = [
        asyncio.create_task(read(kind, by))
        for kind, by in (("deployment", "lead1"), ("release", "lead2"), ("deployment", "admin"))
    ]
    await asyncio.gather(*(write(writer) for writer in range(4)))
    end.set_result(await size(audit))
    deployments, releases, again = await asyncio.gather(*readers)
    assert sorted(deployments) == [w * 1000 + n for w in (0, 2) for n in range(100)]
    assert sorted(releases) == [w * 1000 + n for w in (1, 3) for n in range(100)]
    assert deployments == again
