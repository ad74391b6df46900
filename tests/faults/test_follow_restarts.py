"""Followers of a ledger whose service is killed and stopped: each entry once, in order, none lost.

`FOLLOW_ENTRIES`, `FOLLOW_WRITERS` and `FOLLOW_RESTARTS` make it larger; the full size, which takes
some minutes, is `FOLLOW_ENTRIES=500000 FOLLOW_WRITERS=8 FOLLOW_RESTARTS=5`.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import asyncpg
import grpc
import pytest
from release_manager.audit.v1 import audit_pb2 as pb
from release_manager.audit.v1 import audit_pb2_grpc

from shared.ids import new_id
from shared.merkle.checkpoint import opened
from shared.merkle.note import Verifier
from tests.faults.ledger_machine import LedgerMachine, ledger_machine
from tests.support.programs import add_person, add_program

ENTRIES: Final = int(os.environ.get("FOLLOW_ENTRIES", "5000"))
WRITERS: Final = int(os.environ.get("FOLLOW_WRITERS", "4"))
RESTARTS: Final = int(os.environ.get("FOLLOW_RESTARTS", "2"))
# Small enough for restarts to fall into the midst of the work, large enough for the full size.
BATCH: Final = max(10, min(250, ENTRIES // 2_000))
SECONDS: Final = 120 + ENTRIES // 400
UP_S: Final = 60.0
KINDS: Final = ("deployment", "release")
# CANCELLED is what gRPC itself answers to a call that arrives while its server shuts down.
PASSING: Final = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "CANCELLED"})
EVERYTHING: Final = pb.AuditLogFilter(category=pb.AUDIT_CATEGORY_ALL)
RELEASES: Final = pb.AuditLogFilter(resource_type="release")
pytestmark = pytest.mark.timeout(SECONDS + 120)


@dataclass
class Follower:
    """What one caller asks for and has got; it goes on after each interruption."""

    wanted: pb.AuditLogFilter
    only_signed: bool = False
    next_index: int = 0
    streams: int = 0
    indexes: list[int] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def take(self, message: pb.FollowAuditLogsResponse) -> None:
        """Deal with a message, then remember the position, as its comment says."""
        assert message.next_index >= self.next_index
        for entry in message.audit_logs:
            assert self.next_index <= entry.leaf_index < message.next_index
            self.indexes.append(entry.leaf_index)
            self.events.append(entry.event_id)
        if message.HasField("checkpoint"):
            assert message.checkpoint.tree_size <= message.next_index
            self.notes.append(message.checkpoint.note)
        self.next_index = message.next_index


@dataclass
class World:
    """A running service and its callers."""

    machine: LedgerMachine
    stub: Any
    writing: Any
    reading: Any
    acknowledged: dict[str, int] = field(default_factory=dict)
    ending: asyncio.Event = field(default_factory=asyncio.Event)
    failures: list[str] = field(default_factory=list)

    async def passed(self, failure: grpc.aio.AioRpcError | asyncio.CancelledError) -> None:
        """Wait a moment after an error that a restart explains; any other one is raised.

        The client shows CANCELLED as a cancellation, which it is not unless the task has one.
        """
        task = asyncio.current_task()
        if isinstance(failure, grpc.aio.AioRpcError):
            self.failures.append(failure.code().name)
            is_passing = failure.code().name in PASSING
        else:
            self.failures.append("CANCELLED")
            is_passing = task is not None and not task.cancelling()
        if not is_passing:
            raise failure
        await asyncio.sleep(0.05)


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    with ledger_machine() as machine:
        await add_person(machine.database_url, "admin", "admin")
        machine.start_service(0)
        writer = await add_program(machine.database_url, "writer", "viewer", ("audit.write",))
        reader = await add_program(machine.database_url, "reader", "lead", ("audit.export",))
        async with machine.channel(0) as channel:
            await asyncio.wait_for(channel.channel_ready(), UP_S)
            yield World(
                machine,
                audit_pb2_grpc.AuditServiceStub(channel),
                (("authorization", f"Bearer {writer.token}"),),
                (("authorization", f"Bearer {reader.token}"),),
            )


async def write(world: World, number: int) -> None:
    """Append a writer's share in batches, each sent until it is acknowledged."""
    share = range(number, ENTRIES, WRITERS)
    for first in range(0, len(share), BATCH):
        events = [
            pb.AuditEvent(
                event_id=str(new_id()),
                action="deploy",
                resource_type=KINDS[place % 2],
                resource_id=str(place),
            )
            for place in share[first : first + BATCH]
        ]
        answer = await append(world, pb.LogActionsRequest(events=events))
        for result in answer.results:
            assert result.outcome != pb.APPEND_OUTCOME_REFUSED, result
            world.acknowledged[result.event_id] = result.leaf_index


async def append(world: World, request: pb.LogActionsRequest) -> Any:
    while True:
        try:
            return await world.stub.LogActions(request, metadata=world.writing, timeout=20)
        except (grpc.aio.AioRpcError, asyncio.CancelledError) as failure:
            await world.passed(failure)


async def follow(world: World, follower: Follower) -> None:
    """Follow until everything was written and seen, again and again from the last position."""
    while True:
        call = world.stub.FollowAuditLogs(
            pb.FollowAuditLogsRequest(
                filter=follower.wanted,
                from_index=follower.next_index,
                only_signed=follower.only_signed,
            ),
            metadata=world.reading,
        )
        follower.streams += 1
        try:
            async for message in call:
                follower.take(message)
                if world.ending.is_set() and follower.next_index > max(world.acknowledged.values()):
                    call.cancel()
                    return
        except (grpc.aio.AioRpcError, asyncio.CancelledError) as failure:
            await world.passed(failure)


async def restart(world: World) -> None:
    """Kill the service or stop it in good order, in turns, each time after a share of the work."""
    for number in range(1, RESTARTS + 1):
        while len(world.acknowledged) < ENTRIES * number // (RESTARTS + 1):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        if number % 2:
            world.machine.kill_service(0)
        else:
            process = world.machine.services[0]
            process.terminate()
            await asyncio.to_thread(process.wait, UP_S)
        world.machine.start_service(0)


async def test_followers_lose_and_repeat_nothing() -> None:
    began = time.monotonic()
    async with world() as running, asyncio.timeout(SECONDS):
        followers = [
            Follower(EVERYTHING),
            Follower(RELEASES),
            Follower(EVERYTHING, only_signed=True),
        ]
        async with asyncio.TaskGroup() as group:
            for follower in followers:
                group.create_task(follow(running, follower))
            restarting = group.create_task(restart(running))
            await asyncio.gather(*(write(running, number) for number in range(WRITERS)))
            await restarting
            running.ending.set()
            # Something to end with, whatever a stream has asked for.
            last = pb.AuditEvent(action="end", resource_type="release", resource_id="end")
            await append(running, pb.LogActionsRequest(events=[last]))
        seconds = time.monotonic() - began
        await check(running, followers)
        print(  # noqa: T201  (the outcome at full size)
            f"{ENTRIES} entries, {WRITERS} writers, {RESTARTS} restarts in {seconds:.0f} s;"
            f" streams {[follower.streams for follower in followers]},"
            f" interruptions {len(running.failures)}"
        )


async def check(world: World, followers: list[Follower]) -> None:
    """Compare what each follower has got with the ledger and with what was acknowledged."""
    database = await asyncpg.connect(world.machine.asyncpg_url)
    rows = await database.fetch(
        "SELECT leaf_index, event_id::text AS event_id, resource_type FROM audit_logs"
        " ORDER BY leaf_index"
    )
    await database.close()
    stored = [(row["leaf_index"], row["event_id"]) for row in rows]
    releases = [(row[0], row[1]) for row in rows if row["resource_type"] == "release"]
    assert len(world.acknowledged) == ENTRIES
    assert world.acknowledged.items() <= {event: index for index, event in stored}.items()
    for follower, expected in zip(followers, (stored, releases, stored), strict=True):
        got = list(zip(follower.indexes, follower.events, strict=True))
        assert follower.streams > RESTARTS
        assert got == [entry for entry in expected if entry[0] < follower.next_index]
        assert follower.next_index > max(world.acknowledged.values())
    assert followers[0].indexes == list(range(len(followers[0].indexes)))
    verifier = Verifier.parse((world.machine.keys / "ledger.pub").read_text())
    for follower in followers:
        sizes = [opened(note, verifier).size for note in follower.notes]
        assert sizes
        assert sizes == sorted(sizes)
