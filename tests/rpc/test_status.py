"""Errors on their way: complete when they are small, and never too large to arrive."""

from datetime import timedelta

import grpc
import pytest
from google.rpc.status_pb2 import Status
from hypothesis import given
from hypothesis import strategies as st

from shared.domain_error import FieldViolation, GateViolation
from shared.errors import ResourceNotFound, ValidationFailed
from shared.rpc.status import MOST_BYTES, from_rpc_error, from_status, to_status
from tests.rpc.calls import ARITIES, call, failure, refusal
from tests.rpc.conftest import Running
from tests.rpc.protos.echo_pb2 import EchoRequest

TEXT = st.text(max_size=3000)


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize("method", ARITIES)
async def test_200_violations_arrive_as_what_they_are(running: Running, method: str) -> None:
    failed = await failure(call(running, method, EchoRequest(act="many")))
    assert failed.code() is grpc.StatusCode.INVALID_ARGUMENT
    error = from_rpc_error(failed)
    assert error is not None
    assert error.facts["count"] == "200"
    assert 1 < len(error.fields) <= 51
    shown = len(error.fields) - 1
    assert (
        error.fields[-1].description
        == f"{200 - shown} more are not shown here; correct these first."
    )


@pytest.mark.asyncio(loop_scope="session")
async def test_violations_found_by_the_rules_are_capped_too(running: Running) -> None:
    error = await refusal(call(running, "Say", EchoRequest(tags=[""] * 5000)))
    assert error.reason == "VALIDATION_FAILED"
    assert error.facts["count"] == "5000"
    assert len(error.fields) == 51


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize("text", ["x" * 1_000_000, "é" * 400_000, "\n" * 900_000, "%" * 900_000])
async def test_a_long_request_repeated_in_the_error(running: Running, text: str) -> None:
    error = await refusal(call(running, "Say", EchoRequest(act="echo in error", text=text)))
    assert error.reason == "RESOURCE_NOT_FOUND"
    assert error.facts["resource_type"] == "release"
    assert error.facts["resource"].endswith("…")
    assert str(error).endswith("matching List call.")


@pytest.mark.asyncio(loop_scope="session")
async def test_details_of_every_kind(running: Running) -> None:
    gates = (await refusal(call(running, "Say", EchoRequest(act="gates")))).gates
    assert gates == (GateViolation("approval", "auth@1.4.0", "1 of 2 approvals given"),)
    taken = await refusal(call(running, "Say", EchoRequest(act="taken")))
    assert taken.retry_after == timedelta(seconds=1.5)


@given(
    facts=st.dictionaries(st.from_regex(r"extra_[a-z]{1,20}", fullmatch=True), TEXT, max_size=40),
    fields=st.lists(st.builds(FieldViolation, TEXT, TEXT, TEXT), max_size=80),
    gates=st.lists(st.builds(GateViolation, TEXT, TEXT, TEXT), max_size=80),
    resource=TEXT,
)
def test_a_status_is_always_small_enough(
    facts: dict[str, str],
    fields: list[FieldViolation],
    gates: list[GateViolation],
    resource: str,
) -> None:
    error = ResourceNotFound(
        resource_type="release",
        resource=resource,
        fields=tuple(fields),
        gates=tuple(gates),
        retry_after=timedelta(seconds=1),
        **facts,
    )
    status = to_status(error)
    on_the_wire = sum(1 if 0x20 <= byte < 0x7F else 3 for byte in status.message.encode())
    assert status.ByteSize() + on_the_wire <= MOST_BYTES
    arrived = from_status(Status.FromString(status.SerializeToString()))
    assert isinstance(arrived, ResourceNotFound)


def test_what_is_small_arrives_complete() -> None:
    error = ValidationFailed(
        count=1, first="name: must not be empty", fields=(FieldViolation("name", "empty", "r.id"),)
    )
    arrived = from_status(to_status(error))
    assert isinstance(arrived, ValidationFailed)
    assert (str(arrived), arrived.facts) == (str(error), error.facts)
    assert (arrived.fields, arrived.gates, arrived.retry_after) == (error.fields, (), None)


def test_foreign_statuses_are_not_ours() -> None:
    assert from_status(Status(code=5, message="not found")) is None
    foreign = to_status(ResourceNotFound(resource_type="a", resource="b"))
    foreign.details[0].value = foreign.details[0].value.replace(
        b"release-manager", b"somebody-elsexx"
    )
    assert from_status(foreign) is None
