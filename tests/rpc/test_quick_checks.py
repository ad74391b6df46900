"""The quick way says yes only to what the long way has nothing to say about."""

from typing import Any
from uuid import UUID

import pytest
from buf.validate import validate_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.struct_pb2 import ListValue, Struct, Value
from hypothesis import given, settings
from hypothesis import strategies as st
from protovalidate import Validator
from release_manager.audit.v1 import audit_pb2 as pb

from services.audit.messages import READ_HERE
from shared.rpc.message_checks import DEEPEST, unusable_values
from shared.rpc.quick_checks import PLAIN_PATTERN, NotUnderstood, compiled, quick_check
from tests.rpc.test_message_checks import nested
from tests.support.corpus import cases
from tests.support.platform import product_methods
from tests.support.things_made import event

VALIDATOR = Validator()
TYPES = sorted(
    {
        method.input_type.full_name: method.input_type for method in product_methods().values()
    }.items()
)
SOME_ID = str(UUID(int=0x0190A5B8_C3F1_7ABC_9DEF_0123456789AB))
TEXTS = [
    *(
        "",
        " ",
        "a",
        "A",
        "0",
        "-",
        "_",
        ".",
        "a\n",
        "\n",
        "\na",
        "a\0",
        "\0",
        "é",
        "٣",
        "\uff41",
        "\U0001f600",
    ),
    *(SOME_ID, SOME_ID.upper(), SOME_ID.replace("-", ""), f"{{{SOME_ID}}}", f"{SOME_ID}\n"),
    *("10.0.0.1", "10.0.0.01", "256.1.1.1", "::1", "::ffff:1.2.3.4", "fe80::1%eth0", "1.2.3.4/8"),
    *("team:1", "team:", "Team:1", "deploy", "sha256:" + "a" * 64, "1.4.0", "2026-12", "2026-13"),
    *("x" * length for length in (49, 50, 51, 62, 63, 64, 99, 100, 101, 128, 129)),
    *("é" * length for length in (128, 129, 256, 257, 512, 513)),
]
NUMBERS = [-(2**31), -1, 0, 1, 2, 7, 8, 100, 256, 257, 1_000, 1_001, 2**31 - 1]


def is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def is_right(message: Message) -> bool:
    return not unusable_values(message) and not VALIDATOR.collect_violations(message)


def messages(descriptor: Descriptor, depth: int = 0) -> st.SearchStrategy[Any]:
    """Make messages whose fields are absent, right, or wrong in the ways that are usual."""
    fields = {
        field.name: field_values(field, depth)
        for field in descriptor.fields
        if depth < 3 or field.message_type is None
    }
    return st.fixed_dictionaries({}, optional=fields).map(lambda given: made(descriptor, given))


def made(descriptor: Descriptor, given: dict[str, Any]) -> Message:
    message: Message = GetMessageClass(descriptor)()
    for name, value in given.items():
        field = descriptor.fields_by_name[name]
        if is_map(field):
            getattr(message, name).update(value)
        elif field.is_repeated:
            getattr(message, name).extend(value)
        elif field.message_type is not None:
            getattr(message, name).CopyFrom(value)
        else:
            setattr(message, name, value)
    return message


def field_values(field: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
    if is_map(field):
        return st.dictionaries(
            st.sampled_from(["lang", "UPPER", "", "a\0"]), st.sampled_from(["go", "é", ""])
        )
    one = single_values(field, depth)
    return st.lists(one, max_size=3) if field.is_repeated else one


def single_values(field: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
    if field.message_type is not None:
        if field.message_type.full_name == "google.protobuf.Struct":
            return st.sampled_from([nested(1), nested(DEEPEST), nested(DEEPEST + 1)]) | structs
        return messages(field.message_type, depth + 1)
    if field.enum_type is not None:
        return st.sampled_from([*field.enum_type.values_by_number, 99, -1])
    if field.type == FieldDescriptor.TYPE_STRING:
        rules = field.GetOptions().Extensions[validate_pb2.field].string
        known = bool(rules.pattern) and r"\p" not in rules.pattern
        # With a line's end after `$` as well.
        like = st.from_regex(rules.pattern) if known else st.text(max_size=4)
        return st.sampled_from(TEXTS) | like
    return OF_TYPE.get(field.type, st.sampled_from(NUMBERS))


OF_TYPE = {
    FieldDescriptor.TYPE_DOUBLE: st.floats(),
    FieldDescriptor.TYPE_BOOL: st.booleans(),
    FieldDescriptor.TYPE_BYTES: st.binary(max_size=4),
}
values = st.recursive(
    st.just(Value())
    | st.builds(Value, null_value=st.just(0))
    | st.builds(Value, bool_value=st.booleans())
    | st.builds(Value, number_value=st.floats())
    | st.builds(Value, string_value=st.sampled_from(TEXTS)),
    lambda inner: (
        st.builds(
            lambda items: Value(list_value=ListValue(values=items)), st.lists(inner, max_size=3)
        )
        | st.builds(
            lambda fields: Value(struct_value=Struct(fields=fields)),
            st.dictionaries(st.sampled_from(["a", "b", "", "a\0"]), inner, max_size=3),
        )
    ),
    max_leaves=8,
)
structs = st.builds(
    lambda fields: Struct(fields=fields),
    st.dictionaries(st.sampled_from(["a", "b", "", "a\0"]), values, max_size=4),
)


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(TYPES).flatmap(lambda named: messages(named[1])))
def test_a_yes_is_right(message: Any) -> None:
    if quick_check(message.DESCRIPTOR)(message):
        assert is_right(message)


def changed(changes: dict[str, Any]) -> Any:
    message: Any = event()
    for name in changes:
        message.ClearField(name)
    message.MergeFrom(made(pb.AuditEvent.DESCRIPTOR, changes))
    return message


@st.composite
def events(draw: st.DrawFn) -> Any:
    """Make an event that is right but for one or two fields, perhaps."""
    fields = st.sampled_from(tuple(pb.AuditEvent.DESCRIPTOR.fields))
    chosen = draw(st.lists(fields, min_size=1, max_size=2, unique_by=lambda field: field.name))
    return changed({field.name: draw(single_values(field, 0)) for field in chosen})


@settings(max_examples=500, deadline=None)
@given(events())
def test_a_yes_is_said_to_every_event_that_is_right(message: pb.AuditEvent) -> None:
    """And to no other; if not, the quick way would be lost and nobody would notice."""
    left_to_the_long_way = "%" in message.ip_address
    quick = quick_check(pb.AuditEvent.DESCRIPTOR)
    assert quick(message) == (is_right(message) and not left_to_the_long_way)
    but_for_details = quick_check(pb.AuditEvent.DESCRIPTOR, READ_HERE)
    message.ClearField("details")
    assert but_for_details(message) == (is_right(message) and not left_to_the_long_way)


@pytest.mark.parametrize("name", ["LogAction", "LogActions"])
def test_the_corpus_of_bad_requests(name: str) -> None:
    method = f"/release_manager.audit.v1.AuditService/{name}"
    valid = pb.LogActionRequest(event=event())
    if name == "LogActions":
        valid = pb.LogActionsRequest(events=[event(), event()])  # type: ignore[assignment]
    quick = quick_check(valid.DESCRIPTOR)
    assert quick(valid)
    said = {True: 0, False: 0}
    for case in cases(method, valid):
        try:
            message = type(valid).FromString(case.raw)
        except DecodeError:
            continue
        said[quick(message)] += 1
        assert is_right(message) or not quick(message), case.label
    assert min(said.values()) > 50


def test_which_types_go_the_long_way() -> None:
    """A list to look at when a rule is added: on a busy method it should be understood."""
    long = set()
    for name, descriptor in TYPES:
        try:
            compiled(descriptor)
        except NotUnderstood:
            long.add(name.rpartition(".")[2])
    assert not long & {"LogActionRequest", "LogActionsRequest", "GetInclusionProofRequest"}
    assert len(long) < len(TYPES) / 3


@pytest.mark.parametrize("pattern", [r"^\d+$", "^[[:alpha:]]+$", "^(?i)a$", "[a-z]", "^a$|b"])
def test_a_pattern_that_python_may_read_otherwise_is_not_understood(pattern: str) -> None:
    assert PLAIN_PATTERN.fullmatch(pattern) is None
