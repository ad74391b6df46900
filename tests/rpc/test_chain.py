"""Every arity and both ways to answer a stream, through the whole chain of interceptors."""

import asyncio

import grpc
import pytest
from structlog.testing import capture_logs

from shared.rpc.status import from_rpc_error
from tests.rpc.calls import (
    ARITIES,
    READING,
    VIEWER,
    call,
    call_with_bytes,
    failure,
    is_of_grpc_itself,
    raw,
    refusal,
    until,
)
from tests.rpc.conftest import Running, token
from tests.rpc.echo import SECRET
from tests.rpc.protos.echo_pb2 import EchoRequest

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.parametrize("method", ARITIES)
async def test_answers(running: Running, method: str) -> None:
    answers = await call(running, method, EchoRequest(text="hello"))
    assert answers[-1].text == "hello"
    assert answers[-1].actor == "viewer"
    assert answers[-1].ip_address == "127.0.0.1"
    assert answers[-1].user_agent.startswith("grpc-python")


@pytest.mark.parametrize("method", READING)
async def test_reads_every_request(running: Running, method: str) -> None:
    requests = [EchoRequest(text=text) for text in "abc"]
    answers = await call(running, method, *requests)
    assert ",".join(answer.text for answer in answers) == "a,b,c"


@pytest.mark.parametrize("method", ARITIES)
async def test_domain_errors_arrive_as_such(running: Running, method: str) -> None:
    failed = await failure(call(running, method, EchoRequest(act="taken")))
    assert failed.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert (failed.details() or "").startswith("auth in prod is busy with deployment 00000000-")
    error = from_rpc_error(failed)
    assert error is not None
    assert error.reason == "SLOT_TAKEN"
    assert error.facts["status"] == "paused"


@pytest.mark.parametrize("method", ARITIES)
async def test_text_of_exceptions_never_leaves(running: Running, method: str) -> None:
    with capture_logs() as logged:
        failed = await failure(call(running, method, EchoRequest(act="crash")))
    assert failed.code() is grpc.StatusCode.INTERNAL
    error = from_rpc_error(failed)
    assert error is not None
    assert error.reason == "UNEXPECTED_ERROR"
    assert dict(failed.trailing_metadata())["x-request-id"] == error.facts["request_id"]
    for told in (failed.details(), str(error), repr(failed.trailing_metadata())):
        assert "SELECT" not in str(told)
        assert "ValueError" not in str(told)
    assert [str(line["exc_info"]) for line in logged if "exc_info" in line] == [SECRET]


@pytest.mark.parametrize("method", ARITIES)
@pytest.mark.parametrize("metadata", [(), token("nobody")])
async def test_strangers_are_refused_before_decoding(
    running: Running, method: str, metadata: tuple[tuple[str, str], ...]
) -> None:
    failed = await failure(call_with_bytes(running, method, b"\xff\xff", metadata))
    assert failed.code() is grpc.StatusCode.UNAUTHENTICATED
    assert running.servicer.entered == 0


@pytest.mark.parametrize("method", ARITIES)
@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"\xff\xff", id="garbage"),
        pytest.param(b"\x12\x7f", id="truncated"),
        pytest.param(b"\x12\x03\xed\xa0\x80", id="lone surrogate"),
        pytest.param(b"\x12\x01\xff", id="no UTF-8"),
    ],
)
async def test_bytes_that_are_no_message(running: Running, method: str, content: bytes) -> None:
    failed = await failure(call_with_bytes(running, method, content))
    assert failed.code() is grpc.StatusCode.INVALID_ARGUMENT
    error = from_rpc_error(failed)
    assert error is not None
    assert error.reason == "MALFORMED_REQUEST"
    assert error.facts == {"message": "echo.v1.EchoRequest"}
    assert running.servicer.entered == 0


async def test_a_message_nested_too_deeply(running: Running) -> None:
    nested = b""
    for _ in range(150):
        length = bytes([len(nested) % 128 | 128, len(nested) // 128])
        nested = b"\x5a" + length + nested  # the field `inner`
    error = await refusal(call_with_bytes(running, "Say", nested))
    assert error.reason == "MALFORMED_REQUEST"


@pytest.mark.parametrize("method", ARITIES)
async def test_rules_of_the_protos(running: Running, method: str) -> None:
    error = await refusal(call(running, method, EchoRequest(act="x" * 21, tags=["a", ""])))
    assert error.reason == "VALIDATION_FAILED"
    assert {(found.field, found.rule) for found in error.fields} == {
        ("act", "string.max_len"),
        ("tags[1]", "string.min_len"),
    }
    assert running.servicer.entered == 0


@pytest.mark.parametrize("method", ARITIES)
async def test_cancelling_reaches_the_handler(running: Running, method: str) -> None:
    task = asyncio.ensure_future(call(running, method, EchoRequest(act="wait")))
    await until(lambda: running.servicer.entered == 1)
    task.cancel()
    await until(lambda: running.servicer.cancelled == 1)
    assert running.servicer.cleaned_up_in <= {"same"}


@pytest.mark.parametrize("method", ["Say", "Yield", "Write"])
async def test_a_task_cancelled_inside_is_no_silence(running: Running, method: str) -> None:
    made = call(running, method, EchoRequest(act="cancelled task"), timeout=5)
    assert (await refusal(made)).reason == "UNEXPECTED_ERROR"


async def test_a_lone_error_in_a_group_is_itself(running: Running) -> None:
    made = call(running, "Say", EchoRequest(act="group"))
    assert (await refusal(made)).reason == "RESOURCE_NOT_FOUND"


async def test_an_answer_that_is_no_message(running: Running) -> None:
    made = call(running, "Say", EchoRequest(act="not a message"))
    assert (await refusal(made)).reason == "UNEXPECTED_ERROR"


async def test_unknown_methods(running: Running) -> None:
    for method in ("/echo.v1.EchoService/Nope", "/nope.Nope/Nope", "/nope"):
        failed = await failure(raw(running.channel.unary_unary, method)(b"", metadata=VIEWER))
        assert failed.code() is grpc.StatusCode.UNIMPLEMENTED
        assert failed.details() == "Method not found!"
        assert is_of_grpc_itself(failed)


async def test_a_request_that_is_too_long(running: Running) -> None:
    failed = await failure(call(running, "Say", EchoRequest(text="x" * 1_100_000)))
    assert failed.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert is_of_grpc_itself(failed)
