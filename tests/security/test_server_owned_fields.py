"""What the service decides, no request can (OWASP ASVS 15.3.3, mass assignment).

Ids, times, versions, who made something, states and hashes are not in any request that changes
something; named by an update mask they are refused; sent all the same, as fields that the request
does not have, they are ignored, as protobuf promises, and the answer is that of the request without
them. Derived from the descriptors, so that a new RPC is covered at once.
"""

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from shared.ids import new_id
from tests.support import wire
from tests.support.corpus import places
from tests.support.every_rpc import EveryRpc
from tests.support.platform import Platform, product_methods

pytestmark = pytest.mark.asyncio(loop_scope="session")

METHODS = product_methods()
CHANGING = sorted(
    name for name in METHODS if "request_id" in METHODS[name].input_type.fields_by_name
)
MASKED = [name for name in CHANGING if "update_mask" in METHODS[name].input_type.fields_by_name]
MAKING = [name for name in CHANGING if name.split("/")[2].startswith(("Create", "Update"))]
# Of the contract: etag is what the caller has read, request_id what it calls the change.
NO_FIELDS = ("update_mask", "etag", "request_id", "validate_only")
COLUMNS = ("password_hash", "row_version", "token_hash", "created_by_id", "kind", "id", "*.id", "x")
DECIDED = {
    *("created_at", "updated_at", "archived_at", "published_at", "started_at", "finished_at"),
    *("created_by", "created_by_id", "requested_by", "approved_by", "decided_at", "decided_by"),
    *("password_hash", "token_hash", "row_version", "active", "leaf_index", "published_by"),
}
# When something happened outside, only the caller knows.
ALLOWED = {
    ("RecordRunbookExecution", "started_at"),
    ("RecordRunbookExecution", "finished_at"),
}
OWN_NUMBERS = 100
EVIL = "evil-value-of-the-caller"
LEAST_MASKS = 60


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def rpcs(platform: Platform) -> EveryRpc:
    return await EveryRpc.of(platform)


def resource_of(method: str) -> Descriptor:
    """Return the descriptor of what a method makes or changes: the first field of its answer."""
    found = METHODS[method].output_type.fields[0].message_type
    assert found is not None
    return found


def owned(method: str) -> list[str]:
    """Return the fields of the resource that the request does not have."""
    sent = METHODS[method].input_type.fields_by_name
    return [field.name for field in resource_of(method).fields if field.name not in sent]


async def test_no_changing_request_has_a_field_for_what_the_service_decides() -> None:
    found = {
        (method.split("/")[2], place.field.name)
        for method in CHANGING
        for place in places(METHODS[method].input_type)
        if place.field.name in DECIDED
    }
    assert found == ALLOWED


def masks(method: str) -> list[str]:
    sent = METHODS[method].input_type.fields_by_name
    return sorted({*owned(method), *NO_FIELDS, *(name for name in COLUMNS if name not in sent)})


@pytest.mark.parametrize("method", MASKED)
async def test_a_mask_that_names_what_the_service_decides_is_refused(
    rpcs: EveryRpc, method: str
) -> None:
    for path in masks(method):
        request = rpcs.request(method, update_mask=FieldMask(paths=[path]))
        answer = await rpcs.ask(method, request)
        assert answer.code is grpc.StatusCode.INVALID_ARGUMENT, (path, answer)
        assert answer.fields == ["update_mask"], (path, answer)


async def test_the_masks_are_as_many_as_it_looks() -> None:
    assert sum(len(masks(method)) for method in MASKED) > LEAST_MASKS


@pytest.mark.parametrize("method", MAKING)
async def test_what_is_sent_beyond_the_contract_changes_nothing(
    rpcs: EveryRpc, method: str
) -> None:
    request = rpcs.requests[method]
    without = await rpcs.ask(method, request)
    raw = request.SerializeToString() + b"".join(beyond(method))
    within = await rpcs.ask(method, raw)
    assert without.ok, without
    assert within.ok, within
    [expected], [found] = without.answers, within.answers
    assert EVIL.encode() not in found
    assert comparable(method, found) == comparable(method, expected)


def beyond(method: str) -> Iterator[bytes]:
    """Yield the fields of the resource as if the request had them, by their numbers and others."""
    taken = METHODS[method].input_type.fields_by_number
    for field in resource_of(method).fields:
        for number in {field.number, OWN_NUMBERS + field.number} - set(taken):
            yield fragment(field, number)


def fragment(field: FieldDescriptor, number: int) -> bytes:
    if field.type == FieldDescriptor.TYPE_STRING:
        return wire.block(number, EVIL.encode() if field.name != "id" else str(new_id()).encode())
    if field.message_type is not None:
        return wire.block(number, Timestamp(seconds=1).SerializeToString())
    return wire.tag(number, wire.VARINT) + wire.varint(3)


def comparable(method: str, raw: bytes) -> Message:
    """Return an answer without what differs from call to call: ids, times and versions."""
    answer: Any = message_factory.GetMessageClass(METHODS[method].output_type).FromString(raw)
    answer.ClearField("audit")
    clear_what_differs(answer)
    compared: Message = answer
    return compared


def clear_what_differs(message: Any) -> None:
    for field, value in message.ListFields():
        differs = {"id", "etag", "user_id", "deployment_id", "deadline"}
        if field.name in differs or field.name.endswith("_at"):
            message.ClearField(field.name)
        elif field.message_type is not None and not field.message_type.GetOptions().map_entry:
            for inner in value if field.is_repeated else [value]:
                clear_what_differs(inner)
