"""The bad-input corpus: for every field of a request, every value that breaks things elsewhere.

It is generated from the descriptors, so a new RPC or field is in it at once. Each case is a valid
request but for one thing, as bytes, with what may come of it:

* REFUSED: INVALID_ARGUMENT, because the protos or their comments forbid the value.
* TAKEN: exactly what comes of the valid request; the value is data like any other.
* SOUGHT: the value names something, so NOT_FOUND (or another plain answer of `SOUGHT_CODES`) too.
* UNFORESEEN: bytes changed at random; any code that tells the caller what is wrong.
"""

import math
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final

import grpc
from buf.validate import validate_pb2
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message
from release_manager.deployment.v1.restrictions_pb2 import OVERRIDABLE_GATE_IRREVERSIBLE

from tests.support import corpus_values as values
from tests.support import wire

Code = grpc.StatusCode


class Expected(Enum):
    """What may come of a case."""

    REFUSED = auto()
    TAKEN = auto()
    SOUGHT = auto()
    UNFORESEEN = auto()


SOUGHT_CODES: Final = frozenset(
    {Code.OK, Code.NOT_FOUND, Code.FAILED_PRECONDITION, Code.ALREADY_EXISTS, Code.INVALID_ARGUMENT}
)
UNFORESEEN_CODES: Final = SOUGHT_CODES | {
    Code.ABORTED,
    Code.OUT_OF_RANGE,
    Code.UNAUTHENTICATED,
    Code.PERMISSION_DENIED,
}
# Fields whose value names something: what is allowed and yet names nothing is not found. Or it is
# compared with what is there (etag), or has rules of its own that its comment states.
_NAMING = """
    id leaf_index team owner user service environment release target_release runbook deployment
    approvers approver deployed_by approval rollback pipeline_stage deployment_metric
    service_account api_token_id session_id users stage event_id aggregate aggregate_seq aggregates
    occurred_at status outcome teams services releases from_release to_release deployment_id
    legal_hold lock author window environments exempt_services deployments webhook compared_with
"""
NAMING: Final = frozenset(_NAMING.split())
COMPARED: Final = {
    "etag": UNFORESEEN_CODES,
    "username": frozenset({Code.OK, Code.UNAUTHENTICATED, Code.RESOURCE_EXHAUSTED}),
    "password": frozenset(
        {Code.OK, Code.UNAUTHENTICATED, Code.RESOURCE_EXHAUSTED, Code.INVALID_ARGUMENT}
    ),
    "refresh_token": frozenset({Code.UNAUTHENTICATED}),
    "leaf_index": SOUGHT_CODES | {Code.OUT_OF_RANGE},
    # Places in the tree of this moment, and what only its key can have signed.
    **dict.fromkeys(
        (
            "from_index",
            "first_index",
            "end_index",
            "tree_size",
            "from_size",
            "to_size",
            "level",
            "tile",
            "width",
        ),
        frozenset({Code.OK, Code.INVALID_ARGUMENT, Code.OUT_OF_RANGE}),
    ),
    # Output is at its place already or not, and no other attempt may have printed any.
    **dict.fromkeys(
        ("offset", "text", "lease_token"), frozenset({Code.OK, Code.INVALID_ARGUMENT, Code.ABORTED})
    ),
    "from_offset": frozenset({Code.OK, Code.INVALID_ARGUMENT, Code.OUT_OF_RANGE}),
    "attempt": frozenset({Code.OK, Code.INVALID_ARGUMENT, Code.NOT_FOUND}),
    # A URL has more rules than a pattern can say.
    "url": frozenset({Code.OK, Code.INVALID_ARGUMENT}),
    # What is looked back at does not lie in the future, and the span of a report is limited.
    **dict.fromkeys(
        ("commit_time", "as_of", "start", "end"), frozenset({Code.OK, Code.INVALID_ARGUMENT})
    ),
    # Expressions have a grammar; executions do not end in the future, locks and the time to start
    # only there; versions may not be there.
    **dict.fromkeys(
        (
            *("filter", "order_by", "started_at", "finished_at", "expires_at", "not_before"),
            *("start_by", "update_mask"),
        ),
        frozenset({Code.OK, Code.INVALID_ARGUMENT}),
    ),
    # Schedules have rules of their own, and a field of another form is only a part of it.
    **dict.fromkeys(
        (
            *("opens_at", "closes_at", "days", "rule", "first_opens_at", "open_for"),
            *("once", "weekly", "recurring", "time_zone", "exception_dates"),
        ),
        frozenset({Code.OK, Code.INVALID_ARGUMENT}),
    ),
    "draft": frozenset({Code.OK, Code.FAILED_PRECONDITION}),
    "version": frozenset({Code.OK, Code.FAILED_PRECONDITION, Code.NOT_FOUND}),
    "expected_version": frozenset({Code.OK, Code.ABORTED}),
    "known_checkpoint": frozenset({Code.OK, Code.INVALID_ARGUMENT}),
}
# Fields of messages that several methods share, which one of these has no use for.
REFUSED_BY: Final = {"FollowAuditLogs": frozenset({"start_date", "end_date"})}
# Objects that are looked for may be smaller than those that are stored; in bytes, about.
LARGEST_STRUCTS: Final = {"release_manager.audit.v1.AuditLogFilter.details": 4_096}
# Values that a rule of the service refuses, with what to do instead.
REFUSED_VALUES: Final = {
    f"release_manager.deployment.v1.{message}.gate": OVERRIDABLE_GATE_IRREVERSIBLE
    for message in ("NewOverride", "OverrideGateRequest")
}
TOKENS: Final = frozenset({"page_token", "resume_token"})
MUTATIONS: Final = int(os.environ.get("CORPUS_MUTATIONS", "16"))


@dataclass(frozen=True)
class Case:
    """A request that is wrong, or at least odd, in one way; `value` is what it may echo.

    `place` is the field that it is about, empty for bytes that are no message.
    """

    method: str
    label: str
    raw: bytes
    expected: Expected
    codes: frozenset[grpc.StatusCode] = frozenset()
    value: str = ""
    place: str = ""

    @property
    def is_large(self) -> bool:
        """Whether it may be over the limit of the server, which refuses without reading it."""
        return len(self.raw) >= values.MEBIBYTE


@dataclass(frozen=True)
class Place:
    """A field somewhere in a request: the fields that lead to it, itself the last."""

    path: tuple[FieldDescriptor, ...]

    @property
    def field(self) -> FieldDescriptor:
        """The field itself."""
        return self.path[-1]

    @property
    def rules(self) -> validate_pb2.FieldRules:
        """Its rules, or those of its items if it is a list."""
        found = self.field.GetOptions().Extensions[validate_pb2.field]
        return found.repeated.items if self.field.is_repeated else found

    def __str__(self) -> str:
        return ".".join(field.name for field in self.path)

    def set(self, valid: Message, value: Any) -> bytes:
        """Return the valid request with another value here, as the only item if it is a list."""
        changed = type(valid)()
        changed.CopyFrom(valid)
        message: Any = changed
        for field in self.path[:-1]:
            message = getattr(message, field.name)
            if field.is_repeated:
                message = message[0] if message else message.add()
        name = self.field.name
        many = value if isinstance(value, list) else [value]
        if is_map(self.field):
            message.ClearField(name)
            getattr(message, name).update(value)
        elif self.field.is_repeated:
            message.ClearField(name)
            getattr(message, name).extend(many)
        elif self.field.message_type is not None:
            getattr(message, name).CopyFrom(value)
        else:
            setattr(message, name, value)
        return changed.SerializeToString()

    def append(self, valid: Message, fragment: bytes) -> bytes:
        """Return the valid request followed by bytes inside the message that has this field."""
        return _appended(valid, self.path, fragment)


def _appended(message: Message, path: tuple[FieldDescriptor, ...], fragment: bytes) -> bytes:
    field = path[0]
    if len(path) == 1:
        return message.SerializeToString() + fragment
    inner = getattr(message, field.name)
    rest = type(message)()
    rest.CopyFrom(message)
    rest.ClearField(field.name)
    changed = _appended(inner[0] if field.is_repeated else inner, path[1:], fragment)
    return rest.SerializeToString() + wire.block(field.number, changed)


def places(message: Any, above: tuple[FieldDescriptor, ...] = ()) -> Iterator[Place]:
    """Yield every field of a request's descriptor, and the fields of the messages in it."""
    for field in message.fields:
        path = (*above, field)
        yield Place(path)
        inner = field.message_type
        if inner is None or is_map(field):
            continue
        if not inner.full_name.startswith("google.protobuf."):
            yield from places(inner, path)


def is_map(field: FieldDescriptor) -> bool:
    """Say whether a field is a map, which is a list of pairs on the wire."""
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def cases(method: str, valid: Message) -> Iterator[Case]:
    """Yield every case of a method, given a request that it accepts."""
    refused = REFUSED_BY.get(method.rpartition("/")[2], frozenset())
    for place in places(valid.DESCRIPTOR):
        for label, raw, expected, value in _of_place(place, valid):
            if expected is Expected.TAKEN and place.field.name in refused:
                expected = Expected.REFUSED  # noqa: PLW2901
            codes: frozenset[grpc.StatusCode] = frozenset()
            if expected is not Expected.REFUSED:
                codes = COMPARED.get(place.field.name, frozenset())
            yield Case(method, f"{place}: {label}", raw, expected, codes, value, str(place))
    yield from _bytes(method, valid)


_Found = Iterator[tuple[str, bytes, Expected, str]]


def _of_place(place: Place, valid: Message) -> _Found:
    field, rules = place.field, place.rules
    if is_map(field):
        yield from _maps(place, valid)
        return
    if field.is_repeated:
        yield from _lists(place, valid)
    if field.message_type is not None:
        yield from _messages(place, valid)
    elif field.type == FieldDescriptor.TYPE_STRING:
        yield from _texts(place, valid)
    elif field.enum_type is not None:
        for label, number in values.enums(field):
            refused = REFUSED_VALUES.get(field.full_name) == number
            right = not refused and values.permits_enum(rules, field, number)
            yield label, place.set(valid, number), _verdict(place, right=right), ""
    elif field.cpp_type in {
        FieldDescriptor.CPPTYPE_INT32,
        FieldDescriptor.CPPTYPE_INT64,
        FieldDescriptor.CPPTYPE_DOUBLE,
    }:
        for label, amount in values.numbers(field):
            right = values.permits_number(rules, amount)
            yield label, place.set(valid, amount), _verdict(place, right=right), ""
    wrong_kind = wire.FIXED32 if field.type != FieldDescriptor.TYPE_FIXED32 else wire.FIXED64
    fragment = wire.tag(field.number, wrong_kind) + b"abcdabcd"[: 4 if wrong_kind == 5 else 8]
    yield "wrong wire type", place.append(valid, fragment), Expected.UNFORESEEN, ""


def _messages(place: Place, valid: Any) -> _Found:
    assert place.field.message_type is not None
    kind = place.field.message_type.full_name
    if kind == "google.protobuf.Timestamp":
        for label, moment, right in values.times():
            yield label, place.set(valid, moment), _verdict(place, right=right), ""
    elif kind == "google.protobuf.Duration":
        for label, span in values.durations():
            right = values.permits_duration(place.rules, span)
            yield label, place.set(valid, span), _verdict(place, right=right), ""
    elif kind == "google.protobuf.FieldMask":
        for label, paths, right in values.masks(valid.DESCRIPTOR.fields[1].name):
            made = type(valid)().update_mask
            made.paths.extend(paths)
            yield label, place.set(valid, made), _verdict(place, right=right), ""
    elif kind == "google.protobuf.Struct":
        yield from _structs(place, valid)


def _texts(place: Place, valid: Message) -> _Found:
    rules = place.rules.string
    for label, text in values.texts(rules, names=rules.uuid or place.field.name in NAMING):
        right = values.permits_text(place.rules, text)
        expected = _verdict(place, right=right)
        if place.field.name in TOKENS and text:
            expected = Expected.REFUSED
        elif right and text and not text.strip():
            expected = Expected.SOUGHT  # nothing but spaces, of whatever kind, may mean nothing
        yield label, place.set(valid, text), expected, text
    for label, raw in values.MALFORMED_TEXT.items():
        fragment = wire.block(place.field.number, raw)
        yield label, place.append(valid, fragment), Expected.REFUSED, ""


def _structs(place: Place, valid: Message) -> _Found:
    # A batch answers for each event alone what a single one would be refused for.
    batch = any(field.is_repeated for field in place.path)
    most = LARGEST_STRUCTS.get(place.field.full_name, math.inf)
    for label, made, permitted in values.structs():
        right = permitted and made.ByteSize() <= most
        expected = Expected.SOUGHT if batch and not right else _verdict(place, right=right)
        yield label, place.set(valid, made), expected, ""
    for depth in (19, 20, 21, 30, 99, 100, 101, 1_000):
        raw = place.append(valid, wire.block(place.field.number, wire.nested_structs(depth)))
        yield f"depth {depth}", raw, _verdict(place, right=depth <= 20), ""


def _lists(place: Place, valid: Message) -> _Found:
    rules = place.field.GetOptions().Extensions[validate_pb2.field].repeated
    yield "no items", place.set(valid, []), _verdict(place, right=not rules.min_items), ""
    if place.field.type != FieldDescriptor.TYPE_STRING:
        return
    if rules.unique:
        allowed = next(iter(getattr(rules.items.string, "in")), "dev1")
        yield "an item twice", place.set(valid, [allowed] * 2), Expected.REFUSED, ""
    if rules.max_items and not getattr(rules.items.string, "in"):
        named = "team:{}" if "aggregates" in str(place) else "item{}"
        for count in (rules.max_items, rules.max_items + 1):
            items = [named.format(number) for number in range(count)]
            right = count <= rules.max_items
            yield f"{count} items", place.set(valid, items), _verdict(place, right=right), ""


def _maps(place: Place, valid: Message) -> _Found:
    rules = place.field.GetOptions().Extensions[validate_pb2.field].map
    for label, text in values.texts(rules.keys.string, names=False):
        right = values.permits_text(rules.keys, text)
        yield f"key {label}", place.set(valid, {text: "x"}), _verdict(place, right=right), text
    for label, text in values.texts(rules.values.string, names=False):
        right = values.permits_text(rules.values, text)
        yield f"value {label}", place.set(valid, {"x": text}), _verdict(place, right=right), text
    for count in (0, rules.max_pairs, rules.max_pairs + 1):
        pairs = {f"k{number}": "x" for number in range(count)}
        right = count <= rules.max_pairs
        yield f"{count} pairs", place.set(valid, pairs), _verdict(place, right=right), ""
    for label, raw in values.MALFORMED_TEXT.items():
        pair = wire.block(1, raw) + wire.block(2, b"x")
        fragment = wire.block(place.field.number, pair)
        yield f"key {label}", place.append(valid, fragment), Expected.REFUSED, ""


def _verdict(place: Place, *, right: bool) -> Expected:
    if not right:
        return Expected.REFUSED
    return Expected.SOUGHT if place.field.name in NAMING else Expected.TAKEN


def _bytes(method: str, valid: Message) -> Iterator[Case]:
    """Yield requests that are no message, and messages with more in them than anybody asked for."""
    raw = valid.SerializeToString()
    broken = {
        "varint cut": raw + b"\x08\xff",
        "varint too long": raw + b"\x08" + b"\xff" * 11,
        "wire type 7": raw + b"\x0f",
        "length beyond the end": raw + wire.tag(900, wire.BYTES) + wire.varint(2**31 - 1),
        "length of 2^63": raw + wire.tag(900, wire.BYTES) + wire.varint(2**63),
        "group without an end": raw + wire.tag(900, wire.GROUP),
        "group without a beginning": raw + wire.tag(900, wire.GROUP_END),
        "groups 1,000 deep": raw + wire.nested_groups(1_000),
        "only 0xff": b"\xff" * 64,
    }
    for label, bad in broken.items():
        yield Case(method, label, bad, Expected.REFUSED)
    unknown = wire.block(900, b"a") + wire.tag(901, wire.VARINT) + wire.varint(1)
    yield Case(method, "field 0", raw + b"\x00\x00", Expected.UNFORESEEN)
    yield Case(method, "twice", raw + raw, Expected.UNFORESEEN)
    yield Case(method, "unknown fields", raw + unknown, Expected.TAKEN)
    yield Case(method, "10,000 unknown fields", raw + unknown * 5_000, Expected.TAKEN)
    yield Case(method, "groups 50 deep", raw + wire.nested_groups(50), Expected.TAKEN)
    stored = _never_stored(valid)
    for number in range(MUTATIONS):
        changed = mutated(raw, random.Random(f"{method} {number}")) + stored
        if not stored or _is_harmless(valid, changed):
            yield Case(method, f"mutation {number}", changed, Expected.UNFORESEEN)


def _never_stored(valid: Message) -> bytes:
    """Return `validate_only` as bytes: at the end of a request it wins over what was before.

    Many times, as text whose length has become larger than it is takes in what follows.
    """
    field = valid.DESCRIPTOR.fields_by_name.get("validate_only")
    return b"" if field is None else (wire.tag(field.number, wire.VARINT) + b"\x01") * 128


def _is_harmless(valid: Message, raw: bytes) -> bool:
    """Say whether a mutation only rehearses; a changed length may take the end for its text."""
    try:
        return bool(getattr(type(valid).FromString(raw), "validate_only", True))
    except DecodeError:
        return True


def mutated(raw: bytes, source: random.Random) -> bytes:
    """Return bytes with one to four changes: bits flipped, bytes put in, left out or repeated."""
    out = bytearray(raw or b"\x0a\x01a")
    for _ in range(source.randint(1, 4)):
        at = source.randrange(len(out) + 1)
        match source.randrange(4):
            case 0 if at < len(out):
                out[at] ^= 1 << source.randrange(8)
            case 1:
                out[at:at] = source.randbytes(source.randint(1, 4))
            case 2:
                del out[at : at + source.randint(1, 4)]
            case _:
                out[at:at] = out[at : at + 8]
    return bytes(out)
