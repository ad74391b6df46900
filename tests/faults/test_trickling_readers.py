"""Exports whose readers take a kilobyte a second: they delay nobody and hold nothing.

`TRICKLE_SECONDS` makes it longer.
"""

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

import asyncpg
import grpc
import pytest
from release_manager.audit.v1 import audit_pb2 as pb
from release_manager.audit.v1 import audit_pb2_grpc

from tests.faults.ledger_machine import CHANNEL, ledger_machine
from tests.support.programs import Program, add_person, add_program

SECONDS: Final = float(os.environ.get("TRICKLE_SECONDS", "6"))
READERS: Final = 3
PER_READER: Final = 2
BYTES_A_SECOND: Final = 1_000
SIP: Final = BYTES_A_SECOND // 10
PADDING: Final = "x" * 3_000
BATCHES: Final = 24
BATCH: Final = 500
CALLS: Final = 100
# What one stream may hold on to: a window of its export, and what is under way to it.
MOST_BYTES_A_STREAM: Final = 10 * 1024 * 1024
MOST_TIMES_SLOWER: Final = 2
OPEN_LONG: Final = """
    SELECT count(*) FROM pg_stat_activity
    WHERE application_name LIKE 'audit%' AND xact_start < now() - interval '1 second'
"""
pytestmark = pytest.mark.timeout(2 * SECONDS + 240)


@dataclass
class World:
    """A service with a ledger of some forty megabytes, and who asks it."""

    port: int
    pid: int
    stub: Any
    owner: "asyncpg.Connection[asyncpg.Record]"
    writer: Program
    readers: list[Program]

    def resident(self) -> int:
        """Return how many bytes of memory the service holds."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * 4096


def bearer(program: Program) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {program.token}"),)


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    with ledger_machine() as machine:
        url = machine.database_url
        await add_person(url, "admin", "admin")
        writer = await add_program(url, "writer", "viewer", ("audit.write",))
        readers = [
            await add_program(url, f"reader{number}", "lead", ("audit.export",))
            for number in range(READERS + 1)
        ]
        machine.start_service(0)
        owner = await asyncpg.connect(machine.asyncpg_url)
        async with machine.channel(0) as channel:
            await asyncio.wait_for(channel.channel_ready(), 60)
            stub = audit_pb2_grpc.AuditServiceStub(channel)
            made = World(machine.ports[0], machine.services[0].pid, stub, owner, writer, readers)
            for _ in range(BATCHES):
                batch = [event() for _ in range(BATCH)]
                await stub.LogActions(
                    pb.LogActionsRequest(events=batch), metadata=bearer(writer), timeout=60
                )
            yield made
        await owner.close()


def event() -> pb.AuditEvent:
    made = pb.AuditEvent(action="deploy", resource_type="deployment", resource_id="d")
    made.details.update({"padding": PADDING})
    return made


class Straw:
    """A connection to the service through which little comes back at a time."""

    def __init__(self, port: int) -> None:
        self.arrived = 0
        self._port = port

    @asynccontextmanager
    async def open(self) -> AsyncIterator[int]:
        """Listen; provides the port."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        async with server:
            yield server.sockets[0].getsockname()[1]

    async def _serve(self, near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        # Small buffers, so that what is not taken stays with the service.
        far = socket.socket()
        far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        far.setblocking(False)  # noqa: FBT003  (its name is not one to call it by)
        await asyncio.get_running_loop().sock_connect(far, ("127.0.0.1", self._port))
        reader, writer = await asyncio.open_connection(sock=far, limit=SIP)
        asking = asyncio.create_task(_pass_on(near, writer))
        asking.add_done_callback(lambda _: writer.close())  # the client is gone
        try:
            while sip := await reader.read(SIP):
                self.arrived += len(sip)
                back.write(sip)
                await asyncio.sleep(SIP / BYTES_A_SECOND)
        except (ConnectionError, asyncio.CancelledError):  # which nobody else waits for
            pass
        finally:
            asking.cancel()
            writer.close()
            back.close()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65_536):
            writer.write(data)


async def sipping(world: World, stack: AsyncExitStack, reader: Program) -> Straw:
    """Begin an export through a straw; it goes on until the stack is left."""
    straw = Straw(world.port)
    port = await stack.enter_async_context(straw.open())
    channel = await stack.enter_async_context(
        grpc.aio.insecure_channel(f"127.0.0.1:{port}", CHANNEL)
    )
    call = audit_pb2_grpc.AuditServiceStub(channel).ExportAuditLogs(
        pb.ExportAuditLogsRequest(), metadata=bearer(reader)
    )

    async def drain() -> None:
        async for _ in call:
            pass

    draining = asyncio.create_task(drain())

    async def stop() -> None:
        draining.cancel()
        await asyncio.gather(draining, return_exceptions=True)

    stack.push_async_callback(stop)
    return straw


async def appending(world: World) -> float:
    """Return the median time of an append, in seconds."""
    took = []
    for _ in range(CALLS):
        began = time.perf_counter()
        await world.stub.LogAction(
            pb.LogActionRequest(event=event()), metadata=bearer(world.writer), timeout=20
        )
        took.append(time.perf_counter() - began)
    return median(took)


async def whole_export(world: World) -> int:
    last = pb.ExportAuditLogsResponse()
    call = world.stub.ExportAuditLogs(
        pb.ExportAuditLogsRequest(), metadata=bearer(world.readers[-1])
    )
    async for last in call:  # noqa: B007  (the last one has the number of rows)
        pass
    return last.rows


async def appending_while_sipped(here: World) -> float:
    """Return the median time of an append while all readers sip, who hold nothing."""
    meanwhile: list[float] = []
    open_long, resident = 0, here.resident()
    async with AsyncExitStack() as stack:
        straws = [
            await sipping(here, stack, reader)
            for reader in here.readers[:READERS]
            for _ in range(PER_READER)
        ]
        end = time.monotonic() + SECONDS
        while time.monotonic() < end or len(meanwhile) < 3:
            meanwhile.append(await appending(here))
            open_long += await here.owner.fetchval(OPEN_LONG)
        assert await whole_export(here) >= BATCHES * BATCH
        assert all(straw.arrived > 0 for straw in straws)
        assert sum(straw.arrived for straw in straws) < len(straws) * 2 * BYTES_A_SECOND * (
            time.monotonic() - end + SECONDS
        )
        assert open_long == 0
        assert here.resident() - resident < len(straws) * MOST_BYTES_A_STREAM
    return median(meanwhile)


async def times_slower(here: World) -> float:
    """Return how many times longer an append takes while readers sip than when nobody does.

    The latter is measured before and afterwards, for a machine that becomes busier meanwhile.
    """
    before = await appending(here)
    meanwhile = await appending_while_sipped(here)
    return meanwhile / max(before, await appending(here))


@pytest.mark.asyncio
async def test_readers_of_a_kilobyte_a_second_delay_nobody() -> None:
    async with world() as here:
        assert await whole_export(here) >= BATCHES * BATCH
        # Measured once more where it is too slow: a machine may be busy just while they sip.
        first = await times_slower(here)
        assert first < MOST_TIMES_SLOWER or await times_slower(here) < MOST_TIMES_SLOWER, first
