"""Calling another service: what is sent along, and how its errors arrive."""

import socket
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio

from shared.errors import AuditUnavailable, DeadlineExceeded, SlotTaken, TokenRejected
from shared.identity.actor import Call, current_call
from shared.rpc.channel import dial
from tests.rpc.calls import until
from tests.rpc.conftest import Running
from tests.rpc.protos import echo_pb2_grpc
from tests.rpc.protos.echo_pb2 import EchoRequest

pytestmark = pytest.mark.asyncio(loop_scope="session")


def stub_of(channel: grpc.aio.Channel) -> Any:
    return echo_pb2_grpc.EchoServiceStub(channel)


@pytest_asyncio.fixture(loop_scope="session")
async def stub(running: Running) -> AsyncIterator[Any]:
    async with dial(running.server.address, token=lambda: "program", seconds=10) as channel:
        yield stub_of(channel)


async def test_the_token_goes_along(stub: Any) -> None:
    assert (await stub.SayAsProgram(EchoRequest(text="hello"))).actor == "program"


async def test_the_token_is_asked_for_each_time(running: Running) -> None:
    tokens = iter([None, "nobody", "viewer"])
    async with dial(running.server.address, token=lambda: next(tokens)) as channel:
        stub = stub_of(channel)
        assert (await stub.SayOpenly(EchoRequest())).actor == ""
        with pytest.raises(TokenRejected):
            await stub.Say(EchoRequest())
        assert (await stub.Say(EchoRequest())).actor == "viewer"


async def test_the_request_id_goes_along(stub: Any) -> None:
    reset = current_call.set(Call(method="/x.Y/Z", request_id="one-for-all"))
    assert (await stub.Say(EchoRequest())).request_id == "one-for-all"
    current_call.reset(reset)


async def test_errors_arrive_as_they_were_raised(stub: Any) -> None:
    with pytest.raises(SlotTaken, match="auth in prod is busy") as caught:
        await stub.Say(EchoRequest(act="taken"))
    assert caught.value.facts["status"] == "paused"
    assert isinstance(caught.value.__cause__, grpc.aio.AioRpcError)


@pytest.mark.parametrize("method", ["Yield", "Write"])
async def test_errors_of_streams_do_too(stub: Any, method: str) -> None:
    answers = getattr(stub, method)(EchoRequest(act="taken"))
    assert (await anext(aiter(answers))).text == "first"
    with pytest.raises(SlotTaken):
        await anext(aiter(answers))


async def test_a_call_takes_no_longer_than_agreed(running: Running) -> None:
    async with dial(running.server.address, token=lambda: "program", seconds=0.5) as channel:
        stub = stub_of(channel)
        started = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            await stub.Say(EchoRequest(act="wait"))
        assert 0.4 < time.monotonic() - started < 10
        with pytest.raises(DeadlineExceeded):
            await stub.Say(EchoRequest(act="wait"), timeout=0.1)
        # On a slow machine a call may be over before it gets there.
        await until(lambda: 0 < running.servicer.entered == running.servicer.cancelled)


async def test_nobody_there() -> None:
    with socket.socket() as held:  # so that nobody else listens there
        held.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{held.getsockname()[1]}"
        async with dial(address, seconds=20, unavailable=AuditUnavailable) as channel:
            with pytest.raises(AuditUnavailable):
                await stub_of(channel).Say(EchoRequest())
            with pytest.raises(AuditUnavailable):
                async for _ in stub_of(channel).Write(EchoRequest()):
                    pass


async def test_what_is_unavailable_at_first_is_tried_again(stub: Any, running: Running) -> None:
    running.servicer.failures = 2
    assert (await stub.Say(EchoRequest(act="flaky", text="at last"))).text == "at last"
    assert running.servicer.entered == 3
