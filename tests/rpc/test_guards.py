"""Who may call, how long it may take, and what is known of a call."""

import asyncio
import time
from ipaddress import ip_network

import grpc
import pytest

from shared.rpc.status import from_rpc_error
from tests.rpc.calls import ARITIES, VIEWER, call, call_with_bytes, failure, refusal, until
from tests.rpc.conftest import Running, token
from tests.rpc.protos.echo_pb2 import EchoRequest

pytestmark = pytest.mark.asyncio(loop_scope="session")

HELLO = EchoRequest(text="hello")


@pytest.mark.parametrize(
    ("method", "caller", "reason"),
    [
        ("Say", "viewer", None),
        ("Say", "program", None),
        ("SayOpenly", "admin", None),
        ("SayAsLead", "developer", "ROLE_REQUIRED"),
        ("SayAsLead", "lead", None),
        ("SayAsLead", "admin", None),
        ("SayAsLead", "program", "SCOPE_REQUIRED"),
        ("SayAsLead", "lead program", None),
        ("SayAsProgram", "admin", "SCOPE_REQUIRED"),
        ("SayAsProgram", "lead program", "SCOPE_REQUIRED"),
        ("SayAsProgram", "program", None),
        ("SayNothing", "admin", "NOT_PERMITTED"),
    ],
)
async def test_access(running: Running, method: str, caller: str, reason: str | None) -> None:
    made = getattr(running.stub, method)(HELLO, metadata=token(caller))
    if reason is None:
        assert (await made).text == "hello"
        assert running.denied == []
        return
    error = await refusal(made)
    assert error.reason == reason
    assert running.servicer.entered == 0
    [(refused, why)] = running.denied
    assert (refused.method, why.reason) == (f"/echo.v1.EchoService/{method}", reason)
    assert refused.actor is not None


@pytest.mark.parametrize("method", ["Say", "SayAsLead", "SayAsProgram", "SayNothing"])
async def test_anonymous_callers(running: Running, method: str) -> None:
    error = await refusal(getattr(running.stub, method)(HELLO))
    assert error.reason == "CREDENTIALS_MISSING"


async def test_open_methods_know_a_caller_but_need_none(running: Running) -> None:
    assert (await running.stub.SayOpenly(HELLO)).actor == ""
    assert (await running.stub.SayOpenly(HELLO, metadata=VIEWER)).actor == "viewer"
    assert (await running.stub.SayOpenly(HELLO, metadata=token("expired"))).actor == ""


@pytest.mark.parametrize("method", ["SayAsLead", "SayNothing"])
async def test_the_forbidden_learn_nothing_of_their_request(running: Running, method: str) -> None:
    for raw in (b"\xff\xff", EchoRequest(act="x" * 99).SerializeToString()):
        failed = await failure(call_with_bytes(running, method, raw))
        assert failed.code() is grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize("method", ARITIES)
async def test_refusals_of_operations_are_told_once(running: Running, method: str) -> None:
    error = await refusal(call(running, method, EchoRequest(act="not yours")))
    assert error.reason == "NOT_PERMITTED"
    assert [why.reason for _, why in running.denied] == ["NOT_PERMITTED"]


async def test_two_credentials_are_none(running: Running) -> None:
    error = await refusal(running.stub.Say(HELLO, metadata=token("viewer") + token("admin")))
    assert error.reason == "TOKEN_REJECTED"


@pytest.mark.parametrize("running", [{"unary_seconds": 0.2}], indirect=True)
async def test_the_server_has_a_deadline_of_its_own(running: Running) -> None:
    started = time.monotonic()
    error = await refusal(call(running, "Say", EchoRequest(act="wait")))
    assert error.reason == "DEADLINE_EXCEEDED"
    assert 0.15 < time.monotonic() - started < 15
    assert running.servicer.cancelled == 1


@pytest.mark.parametrize("running", [{"unary_seconds": 0.2}], indirect=True)
@pytest.mark.parametrize("method", ["Yield", "Write"])
async def test_streams_have_none(running: Running, method: str) -> None:
    task = asyncio.ensure_future(call(running, method, EchoRequest(act="wait")))
    await until(lambda: running.servicer.entered == 1)
    await asyncio.sleep(0.5)
    assert not task.done()
    task.cancel()
    await until(lambda: running.servicer.cancelled == 1)


@pytest.mark.parametrize("method", ARITIES)
async def test_the_deadline_of_the_caller(running: Running, method: str) -> None:
    for seconds in (0.3, 1, 3, 10):  # until the call reaches the servicer in time
        failed = await failure(call(running, method, EchoRequest(act="wait"), timeout=seconds))
        assert failed.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        if running.servicer.entered:
            break
    await until(lambda: 0 < running.servicer.entered == running.servicer.cancelled)


async def test_too_little_time_is_refused_at_once(running: Running) -> None:
    await call(running, "Say", HELLO)
    told = set()
    for _ in range(1_000):  # the client's own clock may end a call before the answer is there
        failed = await failure(call(running, "Say", EchoRequest(act="wait"), timeout=0.015))
        assert failed.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        error = from_rpc_error(failed)
        if error is not None:
            told.add(error.reason)
            break
    assert told == {"DEADLINE_TOO_SHORT"}
    assert running.servicer.entered == 1


async def test_request_ids(running: Running) -> None:
    for given, kept in (("ci-42_a.B", True), ("x" * 64, True), ("x" * 65, False), ("a b", False)):
        made = running.stub.Say(HELLO, metadata=(*VIEWER, ("x-request-id", given)))
        answer = await made
        assert (answer.request_id == given) is kept
        assert (await made.trailing_metadata())["x-request-id"] == answer.request_id


async def test_a_forwarded_address_is_believed_only_of_proxies(running: Running) -> None:
    metadata = (*VIEWER, ("x-forwarded-for", "203.0.113.7"))
    assert (await running.stub.Say(HELLO, metadata=metadata)).ip_address == "127.0.0.1"


@pytest.mark.parametrize(
    "running", [{"trusted_proxies": (ip_network("127.0.0.0/8"),)}], indirect=True
)
async def test_a_proxy_is_believed(running: Running) -> None:
    metadata = (*VIEWER, ("x-forwarded-for", "198.51.100.1, 203.0.113.7"))
    assert (await running.stub.Say(HELLO, metadata=metadata)).ip_address == "203.0.113.7"


async def test_a_long_user_agent_is_cut(running: Running) -> None:
    options = [("grpc.primary_user_agent", "a" * 2000)]
    async with grpc.aio.insecure_channel(running.server.address, options) as channel:
        other = Running(running.server, running.servicer, channel)
        assert (await other.stub.Say(HELLO, metadata=VIEWER)).user_agent == "a" * 512
