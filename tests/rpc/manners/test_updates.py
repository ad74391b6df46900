"""Update masks and etags: every change that has one treats it alike."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
import pytest_asyncio
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from release_manager.deployment.v1 import restrictions_pb2 as restrictions

from shared.errors import EtagMismatch, ValidationFailed
from tests.support.corpus import Code
from tests.support.every_rpc import EveryRpc, answered
from tests.support.manners import methods_that, subject
from tests.support.platform import product_methods
from tests.support.raw_calls import Answer
from tests.support.rows import changed, fingerprints

pytestmark = pytest.mark.asyncio(loop_scope="session")

UPDATES = methods_that("update_mask")
WITH_ETAG = methods_that("etag")
REPEATABLE = methods_that("request_id")
STANDARD = {"update_mask", "etag", "request_id", "validate_only"}
# Written into every answer anew: when a rehearsal would have made the change.
MOMENTS = ("updated_at", "audit")
# What a request gives for a field that it cannot leave empty, when all are to be changed.
OTHERS: Mapping[str, object] = {
    "name": "manners-other",
    "title": "Other",
    "content": "Other.",
    "team": "Frontend",
    "owner": "dev1",
    "environment": "dev",
    "email": "other@example.com",
    "full_name": "Other",
    "description": "Other",
    "promotion_order": 77,
    "notes": "Other",
    "commit": "abcdef0123",
    "commit_time": Timestamp(seconds=1_700_000_000),
    "artifact_digest": "sha256:" + "cd" * 32,
    "repository": "https://code.example.com/other",
    "role": 3,
    "tier": 1,
    "lifecycle": 1,
    "kind": 2,
    "reason": "Other",
    "time_zone": "Asia/Tokyo",
    "once": restrictions.OnceSchedule(
        opens_at=Timestamp(seconds=4_000_000_000), closes_at=Timestamp(seconds=4_000_003_600)
    ),
    "recurring": restrictions.RecurringSchedule(
        rule="FREQ=YEARLY", first_opens_at="2027-12-24T18:00", open_for=Duration(seconds=3_600)
    ),
}
# What a field names, where the contract calls it by a longer word.
NOUNS: Mapping[str, str] = {"window": "freeze_window"}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def still(rpcs: EveryRpc) -> AsyncIterator[EveryRpc]:
    """Give the product, in which nothing changes: everything here is rehearsed or refused."""
    before = await fingerprints(rpcs.platform.database_url)
    yield rpcs
    assert changed(before, await fingerprints(rpcs.platform.database_url)) == {}


def changeable(method: str) -> list[str]:
    """Return the fields that an update can change: all but the first and the standard ones."""
    names = [field.name for field in product_methods()[method].input_type.fields]
    return [name for name in names[1:] if name not in STANDARD]


def masked(rpcs: EveryRpc, method: str, *paths: str, **changes: object) -> Message:
    """Return the request of an update with a mask."""
    request: Message = rpcs.request(method, update_mask=FieldMask(paths=paths), **changes)
    return request


def full(rpcs: EveryRpc, method: str, *paths: str) -> Message:
    """Return the request of an update that has something in every field which needs it."""
    valid = rpcs.requests[method]
    set_already = {field.name for field, _value in valid.ListFields()}
    given = {name: OTHERS[name] for name in changeable(method) if name in OTHERS}
    missing = {
        name: value
        for name, value in given.items()
        if name not in set_already and (_fits_in(valid, name) or paths == (name,))
    }
    return masked(rpcs, method, *paths, **missing)


def _fits_in(valid: Message, name: str) -> bool:
    """Say whether a field can be set beside all others: of a oneof, only one can."""
    oneof = valid.DESCRIPTOR.fields_by_name[name].containing_oneof
    return oneof is None or valid.WhichOneof(oneof.name) is None


async def outcome(rpcs: EveryRpc, method: str, request: Message) -> bytes:
    """Return what an update comes to: the resource as it would be, without the moment."""
    message = answered(method, await rpcs.ask(method, request))
    resource = getattr(message, message.DESCRIPTOR.fields[0].name)
    for name in MOMENTS:
        if name in resource.DESCRIPTOR.fields_by_name:
            resource.ClearField(name)
    return bytes(resource.SerializeToString(deterministic=True))


def assert_refuses_mask(answer: Answer) -> None:
    refused = (answer.code, answer.reason, set(answer.fields))
    assert refused == (Code.INVALID_ARGUMENT, ValidationFailed.reason, {"update_mask"})


@pytest.mark.parametrize("method", UPDATES)
async def test_no_mask_means_the_fields_that_are_not_empty(still: EveryRpc, method: str) -> None:
    request = still.request(method)
    given = [field.name for field, _ in request.ListFields() if field.name in changeable(method)]
    assert given
    without = await outcome(still, method, request)
    assert without == await outcome(still, method, masked(still, method))
    assert without == await outcome(still, method, masked(still, method, *given))
    assert without == await outcome(still, method, masked(still, method, *reversed(given), *given))


@pytest.mark.parametrize("method", UPDATES)
async def test_a_star_means_every_field(still: EveryRpc, method: str) -> None:
    named = await outcome(still, method, full(still, method, *changeable(method)))
    assert named == await outcome(still, method, full(still, method, "*"))
    assert named != await outcome(still, method, still.request(method))


@pytest.mark.parametrize("method", UPDATES)
async def test_every_field_can_be_named_alone(still: EveryRpc, method: str) -> None:
    """What is not named stays as it is, whatever the request has in its field."""
    alone = [await outcome(still, method, full(still, method, name)) for name in changeable(method)]
    assert len(set(alone)) == len(alone)


@pytest.mark.parametrize("method", UPDATES)
async def test_a_mask_names_nothing_else(still: EveryRpc, method: str) -> None:
    """Neither what is unknown nor what cannot be changed: the thing itself, what answers show."""
    resource = product_methods()[method].output_type.fields[0].message_type
    assert resource is not None
    first = product_methods()[method].input_type.fields[0]
    shown = {field.name for field in resource.fields} - set(changeable(method))
    assert "id" in shown
    for path in (*sorted(shown | STANDARD | {first.name}), "nothing", "", "Name", "*.*"):
        if path not in changeable(method):
            assert_refuses_mask(await still.ask(method, masked(still, method, path)))
    known = changeable(method)[0]
    for paths in (("*", known), (known, "nothing"), (f"{known}.inside",)):
        assert_refuses_mask(await still.ask(method, masked(still, method, *paths)))


async def etag_now(rpcs: EveryRpc, method: str) -> str:
    """Return the etag of what a request is about, as the Get of that kind shows it."""
    field = subject(product_methods()[method])
    assert field is not None
    get = getter(method.rpartition("/")[0], _camel(NOUNS.get(field.name, field.name)))
    request: Any = type(rpcs.requests[get])(
        **{field.name: getattr(rpcs.requests[method], field.name)}
    )
    answer = answered(get, await rpcs.ask(get, request))
    return str(getattr(answer, answer.DESCRIPTOR.fields[0].name).etag)


def getter(service: str, noun: str) -> str:
    """Return the Get of a kind: that of the same service, or else the one that there is."""
    own = f"{service}/Get{noun}"
    if own in product_methods():
        return own
    [other] = [name for name in product_methods() if name.endswith(f"/Get{noun}")]
    return other


def _camel(name: str) -> str:
    return "".join(map(str.title, name.split("_")))


@pytest.mark.parametrize("method", WITH_ETAG)
async def test_an_etag_is_that_of_now_or_nothing(still: EveryRpc, method: str) -> None:
    now = await etag_now(still, method)
    for right in (now, ""):
        answered(method, await still.ask(method, still.request(method, etag=right)))
    for stale in (str(int(now) - 1), str(int(now) + 1), f"0{now}", f" {now}", "x", '"' + now + '"'):
        answer = await still.ask(method, still.request(method, etag=stale))
        assert (answer.code, answer.reason) == (Code.ABORTED, EtagMismatch.reason)
        assert answer.facts["current"] == now


@pytest.mark.parametrize("method", WITH_ETAG)
async def test_a_stale_change_leaves_everything_as_it_is(still: EveryRpc, method: str) -> None:
    """Also when it is not a rehearsal; what was left is looked at in the end."""
    repeatable = {"request_id": "01890000-0000-7000-8000-000000000000"}
    for more in ({}, repeatable) if method in REPEATABLE else ({},):
        request = still.request(method, etag="999", validate_only=False, **more)
        answer = await still.ask(method, request)
        assert (answer.code, answer.reason) == (Code.ABORTED, EtagMismatch.reason)


async def test_every_field_that_has_to_be_given_is(still: EveryRpc) -> None:
    """So that the tests above change each field to something."""
    for method in UPDATES:
        by_name = product_methods()[method].input_type.fields_by_name
        for name in changeable(method):
            field = by_name[name]
            is_plain = not field.is_repeated and field.type != FieldDescriptor.TYPE_BOOL
            assert not is_plain or name in OTHERS or getattr(still.requests[method], name), name
