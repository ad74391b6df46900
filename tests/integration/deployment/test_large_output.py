"""Large outputs and slow readers: memory stays flat, and nobody is in anybody's way."""

import asyncio
import gc
import hashlib
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any

import pytest

from shared.errors import FollowSlotsTaken, OutputFull, OutputOutOfRange, TokenRejected
from tests.support.deployments import World
from tests.support.executing import pausing, told_of
from tests.support.polling import no_open_transaction
from tests.support.printing import LONGEST, Printer, end_of, printer
from tests.support.waiting import waits_for_a_lock

pytestmark = pytest.mark.asyncio(loop_scope="session")

MIB = 1_048_576
LARGE = 20 * MIB
# What server and reader together may hold at once, of a log that is more than twice that.
MOST_HELD = 8 * MIB
PER_CALLER = 10
# Tenths of a second until the server has noticed that readers are gone.
PATIENCE = 200


@contextmanager
def allocations() -> Iterator[Callable[[], int]]:
    """Count what Python allocates meanwhile; the function gives the most bytes held at once.

    Resident memory would tell less: what other tests of this process leave to its allocator moves
    that by more than a log.
    """
    gc.collect()
    tracemalloc.start()
    try:
        yield lambda: tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


async def prints(stage: Printer, size: int) -> str:
    """Print that many bytes, none of which the test keeps; return the hash of all."""
    digest, place, number = hashlib.sha256(), 0, 0
    while place < size:
        number += 1
        text = f"{number:08}☃\n" * (LONGEST // 10)
        answer = await stage.world.call("dev1", "AppendStageOutput", stage.piece(text, place))
        digest.update(text.encode())
        place = answer.next_offset
    return digest.hexdigest()


async def hash_of(stream: Any) -> tuple[int, str]:
    """Return size and hash of what a stream gives."""
    digest, place = hashlib.sha256(), 0
    async for part in stream:
        assert part.offset == place
        assert part.ByteSize() < 600_000
        digest.update(part.text.encode())
        place = part.next_offset
    return place, digest.hexdigest()


@asynccontextmanager
async def stalled(stage: Printer, who: str = "viewer1") -> AsyncIterator[Any]:
    """Open a stream that somebody reads no more of after its first message."""
    stream = stage.tail(who, follow=True)
    try:
        await anext(aiter(stream))
        yield stream
    finally:
        stream.cancel()


@pytest.mark.timeout(600)
async def test_a_large_log_goes_through_in_flat_memory(world: World, app: str, place: str) -> None:
    small = await printer(world, f"{app}small", place)
    await prints(small, 2 * MIB)
    await hash_of(small.tail())
    await world.stage(small.deployment, "build", "completed")
    stage = await printer(world, app, place)
    with allocations() as most_held:
        sent = await prints(stage, LARGE)
        size, given = await hash_of(stage.tail())
        await world.stage(stage.deployment, "build", "completed")
        again = await hash_of(stage.tail(follow=True))
        assert most_held() < MOST_HELD
    assert (given, again) == (sent, (size, sent))
    assert size >= LARGE
    _, details = (await told_of(world, stage.deployment))[-1]
    assert (details["output_bytes"], details["output_sha256"]) == (size, sent)


async def test_a_reader_that_stops_reading_hinders_nobody(
    world: World, app: str, place: str
) -> None:
    stage = await printer(world, app, place)
    sent = await prints(stage, 4 * MIB)
    async with AsyncExitStack() as stack:
        most_held = stack.enter_context(allocations())
        streams = [await stack.enter_async_context(stalled(stage)) for _ in range(5)]
        # Long enough for what fits into the buffers of the connections.
        await asyncio.sleep(1.0)
        await no_open_transaction(world.database)
        async with asyncio.timeout(60):
            assert (await hash_of(stage.tail(who="lead1")))[1] == sent
            await world.stage(stage.deployment, "build", "completed")
        assert most_held() < MOST_HELD
        # Whoever goes on reading after all has missed nothing.
        async with asyncio.timeout(60):
            rest = [part async for part in streams[0]]
        assert rest[-1].complete


async def test_a_caller_has_so_many_streams(world: World, app: str, place: str) -> None:
    stage = await printer(world, app, place, "x")
    async with AsyncExitStack() as stack:
        for _ in range(PER_CALLER):
            await stack.enter_async_context(stalled(stage, "dev3"))
        error = await end_of(stage.tail("dev3"))
        assert isinstance(error, FollowSlotsTaken)
        assert error.facts["running"] == str(PER_CALLER)
        assert await stage.text(who="lead1") == "x"
    for _ in range(PATIENCE):
        error = await end_of(stage.tail("dev3", from_offset=2))
        if isinstance(error, OutputOutOfRange):
            break
        await asyncio.sleep(0.1)
    assert isinstance(error, OutputOutOfRange)


async def test_a_stream_ends_when_its_reader_may_no_longer_read(own_world: World) -> None:
    stage = await printer(own_world, "access", "dev", "x")
    stream = stage.tail(follow=True)
    await anext(aiter(stream))
    await own_world.database.execute(
        "UPDATE users SET active = false WHERE id = $1", own_world.people["viewer1"]
    )
    async with asyncio.timeout(10):
        assert isinstance(await end_of(stream), TokenRejected)


async def test_small_pieces_take_more_room_than_they_have(
    world: World, app: str, place: str
) -> None:
    await pausing(world, place)
    stage = await printer(world, app, place, *"abc")
    counted = (
        "SELECT counted_bytes FROM pipeline_stages WHERE deployment_id = $1 AND name = 'build'"
    )
    assert await world.database.fetchval(counted, stage.deployment) == 3 * 512
    await world.database.execute(
        "UPDATE pipeline_stages SET counted_bytes = 64 * 1024 * 1024"
        " WHERE deployment_id = $1 AND name = 'build'",
        stage.deployment,
    )
    error = await stage.refused("d")
    assert isinstance(error, OutputFull)
    assert (error.facts["size"], error.facts["least"], error.facts["left"]) == ("3", "512", "0")
    # What is there already still is, and a new attempt has all the room again.
    await world.call("dev1", "AppendStageOutput", stage.piece("c", 2))
    await world.stage(stage.deployment, "build", "failed")
    await world.stage(stage.deployment, "build", "in_progress")
    assert await world.database.fetchval(counted, stage.deployment) == 0


async def test_what_is_appended_while_the_log_is_hashed_counts(
    world: World, app: str, place: str
) -> None:
    stage = await printer(world, app, place, "begun ☃ ")
    async with world.database.acquire() as held:
        transaction = held.transaction()
        await transaction.start()
        await held.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended("
            " 'pair:' || service_id || '/' || environment_id, 0)) FROM deployments WHERE id = $1",
            stage.deployment,
        )
        ends = asyncio.create_task(world.stage(stage.deployment, "build", "completed"))
        await waits_for_a_lock(world)
        await stage.prints("and more")
        await transaction.rollback()
    await ends
    _, details = (await told_of(world, stage.deployment))[-1]
    assert details["output_sha256"] == stage.sha256
    assert details["output_bytes"] == len(stage.sent)
