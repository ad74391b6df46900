"""Servers as programs: signals, ports that are taken, and workers that share one."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import grpc
import pytest

from tests.rpc.calls import VIEWER
from tests.rpc.protos import echo_pb2_grpc
from tests.rpc.protos.echo_pb2 import EchoRequest
from tests.support.machine import free_ports
from tests.support.platform import ANY_PORT

pytestmark = pytest.mark.asyncio(loop_scope="session")

HELLO = EchoRequest(text="hello")
READY = b'"listening"'


@asynccontextmanager
async def program(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run `tests.rpc.worker`, and make sure that nothing of it is left."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.rpc.worker",
        *arguments,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def listening(process: asyncio.subprocess.Process, count: int = 1) -> str:
    """Wait until `count` servers listen, and return what was written until then."""
    assert process.stderr is not None
    written = b""
    async with asyncio.timeout(90):
        while written.count(READY) < count:
            line = await process.stderr.readline()
            assert line, written
            written += line
    return written.decode()


def address_in(written: str) -> str:
    """Return the address at which the server listens that has written this."""
    [found] = re.findall(r'"address": ?"([^"]+)"', written)
    return str(found)


def shared_address() -> str:
    """Return an address for servers that share one; with any port each would take its own."""
    return f"127.0.0.1:{free_ports(1)[0]}"


@asynccontextmanager
async def stub_at(address: str) -> AsyncIterator[Any]:
    # Each channel its own connection: channels of one process share them otherwise.
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(address, options) as channel:
        yield echo_pb2_grpc.EchoServiceStub(channel)


async def test_a_signal_drains_and_a_second_one_ends() -> None:
    async with (
        program(ANY_PORT) as process,
        stub_at(address_in(await listening(process))) as stub,
    ):
        napping = stub.Yield(EchoRequest(act="nap", text="done"), metadata=VIEWER)
        waiting = stub.Yield(EchoRequest(act="wait"), metadata=VIEWER)
        for begun in (waiting, napping):
            assert (await begun.read()).text == "first"
        process.terminate()
        assert (await napping.read()).text == "done"
        assert process.returncode is None
        process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(process.wait(), 20) == 128 + signal.SIGINT
        with pytest.raises(grpc.aio.AioRpcError):
            await waiting.read()


async def test_a_server_that_is_idle_ends_at_once() -> None:
    async with program(ANY_PORT) as process:
        await listening(process)
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 20) == 0


@pytest.mark.parametrize("count", ["1", "2"])
async def test_a_port_that_is_taken_is_said_so(count: str) -> None:
    async with program(ANY_PORT) as first:
        address = address_in(await listening(first))
        async with program(address, count) as second:
            assert second.stderr is not None
            written = await asyncio.wait_for(second.stderr.read(), 90)
            assert await second.wait() == 2
            assert f"cannot listen on {address}" in written.decode()


async def test_workers_share_a_port() -> None:
    address = shared_address()
    async with program(address, "2") as process:
        written = await listening(process, 2)
        pids = [int(pid) for pid in re.findall(r"worker \d is (\d+)", written)]
        assert len(set(pids)) == 2
        for _ in range(8):
            async with stub_at(address) as stub:
                assert (await stub.Say(HELLO, metadata=VIEWER)).text == "hello"
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 20) == 0


async def test_a_lost_worker_ends_all() -> None:
    async with program(shared_address(), "2") as process:
        written = await listening(process, 2)
        pid = int(re.findall(r"worker \d is (\d+)", written)[0])
        os.kill(pid, signal.SIGKILL)
        assert await asyncio.wait_for(process.wait(), 20) != 0


async def test_workers_do_not_outlive_their_parent() -> None:
    async with program(shared_address(), "2") as process:
        written = await listening(process, 2)
        pids = [int(pid) for pid in re.findall(r"worker \d is (\d+)", written)]
        process.kill()
        await process.wait()
        async with asyncio.timeout(20):
            while any(_exists(pid) for pid in pids):  # noqa: ASYNC110  (processes)
                await asyncio.sleep(0.05)


def _exists(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as stat:  # noqa: PTH123
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
