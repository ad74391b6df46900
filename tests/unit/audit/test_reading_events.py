"""An event as it is read from a request, and the entry that is answered."""

import math
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import ListValue, Struct, Value
from hypothesis import given, settings
from hypothesis import strategies as st
from release_manager.audit.v1 import audit_pb2 as pb

from services.audit.appending.ledger import Logged
from services.audit.messages import logged, new_event
from services.audit.rules.events import seal
from services.audit.store.appending import Placed
from shared.errors import ValidationFailed
from shared.ids import new_id
from shared.rpc.message_checks import DEEPEST, Unusable, unusable_values

NOW = datetime(2026, 11, 22, 13, 0, tzinfo=UTC)
keys = st.sampled_from(["a", "b", "é", "", "password", "a\0"])
values = st.recursive(
    st.just(Value())
    | st.builds(Value, null_value=st.just(0))
    | st.builds(Value, bool_value=st.booleans())
    | st.builds(Value, number_value=st.floats() | st.sampled_from([0.0, -0.0, 1.0, 2.0**53]))
    | st.builds(Value, string_value=st.sampled_from(["", "a", "é", "\0", "a\0b"])),
    lambda inner: (
        st.builds(
            lambda items: Value(list_value=ListValue(values=items)), st.lists(inner, max_size=3)
        )
        | st.builds(
            lambda fields: Value(struct_value=Struct(fields=fields)),
            st.dictionaries(keys, inner, max_size=3),
        )
    ),
    max_leaves=8,
)
structs = st.builds(lambda fields: Struct(fields=fields), st.dictionaries(keys, values, max_size=4))


def event(details: Struct) -> pb.AuditEvent:
    return pb.AuditEvent(
        action="deploy", resource_type="deployment", resource_id="d-1", details=details
    )


def wrapped(levels: int, kind: str) -> Struct:
    """Return an object that lies `levels` deep in objects or lists, itself the last of them."""
    value = Value(struct_value=Struct())
    for _ in range(levels - 2):
        if kind == "list":
            value = Value(list_value=ListValue(values=[value]))
        else:
            value = Value(struct_value=Struct(fields={"a": value}))
    return Struct(fields={"a": value})


@settings(max_examples=300, deadline=None)
@given(structs)
def test_what_cannot_be_used_is_noticed_while_reading(details: Struct) -> None:
    refused = bool(unusable_values(details))
    try:
        read = new_event(event(details)).details
    except Unusable:
        assert refused
    else:
        assert not refused
        assert read == plain(MessageToDict(with_kinds(details)))


@pytest.mark.parametrize("kind", ["struct", "list"])
@pytest.mark.parametrize("levels", [DEEPEST - 1, DEEPEST, DEEPEST + 1])
def test_depth(kind: str, levels: int) -> None:
    details = wrapped(levels, kind)
    assert bool(unusable_values(details)) == (levels > DEEPEST)
    if levels > DEEPEST:
        with pytest.raises(Unusable):
            new_event(event(details))
    else:
        new_event(event(details))


def numbers_in(value: Struct | ListValue | Value) -> Iterator[float]:
    """Yield every number inside."""
    if isinstance(value, Struct):
        for inside in value.fields.values():
            yield from numbers_in(inside)
    elif isinstance(value, ListValue):
        for inside in value.values:
            yield from numbers_in(inside)
    elif value.HasField("number_value"):
        yield value.number_value
    elif value.HasField("struct_value"):
        yield from numbers_in(value.struct_value)
    elif value.HasField("list_value"):
        yield from numbers_in(value.list_value)


def is_negative_zero(number: float) -> bool:
    return number == 0 and math.copysign(1, number) < 0


@settings(max_examples=300, deadline=None)
@given(structs)
def test_the_answer_has_the_details_as_they_are_stored(details: Struct) -> None:
    sent = event(details)
    try:
        sealed = seal(new_event(sent), producer="p", user_id=None, now=NOW, mac_key=b"key")
    except (Unusable, ValidationFailed):
        return
    place = Placed("appended", 0, new_id(), NOW, sealed.event_id)
    answered = logged(Logged(sealed, place), sent).details
    assert MessageToDict(answered) == sealed.stored_details()
    again = seal(new_event(event(answered)), producer="p", user_id=None, now=NOW, mac_key=b"key")
    assert again.details == sealed.details
    assert not any(map(is_negative_zero, numbers_in(answered)))


def test_the_answer_repeats_nothing_that_is_not_stored() -> None:
    sent = event(Struct(fields={"a": Value(string_value="b")}))
    unknown = b"\xa2\x06\x03abc"  # field 100
    sent.details.MergeFromString(unknown)
    sealed = seal(new_event(sent), producer="p", user_id=None, now=NOW, mac_key=b"key")
    place = Placed("appended", 0, new_id(), NOW, sealed.event_id)
    assert b"abc" not in logged(Logged(sealed, place), sent).SerializeToString()


def test_a_time_is_kept_to_the_microsecond() -> None:
    for moment in (
        NOW,
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, 999_999, UTC),
    ):
        sent = event(Struct())
        sent.occurred_at.FromDatetime(moment)
        assert new_event(sent).occurred_at == moment
        sent.occurred_at.nanos += 999
        assert new_event(sent).occurred_at == moment


def with_kinds(struct: Struct) -> Struct:
    """Return a copy in which a value of no kind is null."""
    copy = Struct.FromString(struct.SerializeToString())

    def walk(value: Value) -> None:
        kind = value.WhichOneof("kind")
        if kind is None:
            value.null_value = 0  # type: ignore[assignment]
        for inner in value.struct_value.fields.values() if kind == "struct_value" else ():
            walk(inner)
        for inner in value.list_value.values if kind == "list_value" else ():
            walk(inner)

    for inner in copy.fields.values():
        walk(inner)
    return copy


def plain(value: Any) -> Any:
    """Return the value without the differences that JSON does not know."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value
