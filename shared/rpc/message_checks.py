"""What no request may contain, whatever its own rules say.

Protobuf carries values that PostgreSQL, JSON or Python refuse later, in the middle of the work:
NUL in text, NaN in a `jsonb`, enum numbers nobody knows, times beyond year 9999. Walking each
request once turns them into violations that name the field.

A batch may hold hundreds of events with free-form details, so the walk is compiled: each message
type has a plan of the fields that need a look, and paths are put together only for what is wrong.
"""

import math
from collections.abc import Callable
from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from shared.domain_error import FieldViolation

DEEPEST = 20
FIRST_SECOND = -62_135_596_800  # 0001-01-01T00:00:00Z
LAST_SECOND = 253_402_300_799  # 9999-12-31T23:59:59Z
LONGEST_DURATION = 315_576_000_000  # ten thousand years, as its proto says
NANOS = 1_000_000_000

# A check adds what it finds to a list, each with its path from the value that is checked.
Found = list[FieldViolation]
Check = Callable[[Any, Found], None]


class Unusable(Exception):
    """A servicer that checks a value itself, while it reads it, has found it unusable.

    The validation interceptor then looks at the whole request and says what is wrong.
    """


def unusable_values(message: Message) -> Found:
    """Return a violation for each value in `message` that nothing could be done with."""
    found: Found = []
    _check_of(message.DESCRIPTOR)(message, found)
    return found


@cache
def _check_of(descriptor: Descriptor) -> Check:
    """Return the check of a message type, made once."""
    special = _SPECIAL.get(descriptor.full_name)
    if special is not None:
        return special
    plan: list[tuple[str, bool, Check]] = []

    def check(message: Any, found: Found) -> None:  # noqa: ANN401  (any message)
        for name, needs_presence, check_field in plan:
            if not needs_presence or message.HasField(name):
                before = len(found)
                check_field(getattr(message, name), found)
                if len(found) > before:
                    _prefix(found, before, name)

    for field in descriptor.fields:
        single = _value_check(field)
        if single is not None:
            presence = field.message_type is not None and not field.is_repeated
            plan.append((field.name, presence, _spread(field, single)))
    return check


def _spread(field: FieldDescriptor, single: Check) -> Check:
    """Return the check of a field from that of one value: for each element, key and entry."""
    if not field.is_repeated:
        return single
    entry = field.message_type
    if entry is None or not entry.GetOptions().map_entry:

        def each_element(values: Any, found: Found) -> None:  # noqa: ANN401
            for index, value in enumerate(values):
                before = len(found)
                single(value, found)
                _prefix(found, before, f"[{index}]")

        return each_element
    of_key = _value_check(entry.fields_by_name["key"])
    of_value = _value_check(entry.fields_by_name["value"])

    def each_entry(entries: Any, found: Found) -> None:  # noqa: ANN401
        for key in entries:
            before = len(found)
            if of_key is not None:
                of_key(key, found)
            if of_value is not None:
                of_value(entries[key], found)
            _prefix(found, before, f'["{key}"]')

    return each_entry


def _value_check(field: FieldDescriptor) -> Check | None:
    """Return the check of one value of a field, or None when every value will do."""
    if field.message_type is not None:
        message_type = field.message_type
        # Looked up when used: types may contain themselves.
        return lambda value, found: _check_of(message_type)(value, found)  # noqa: PLW0108
    if field.enum_type is not None:
        name, numbers = field.enum_type.name, frozenset(field.enum_type.values_by_number)
        return lambda value, found: _known(value, name, numbers, found)
    if field.type == FieldDescriptor.TYPE_STRING:
        return _text
    if field.type in {FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT}:
        return _number
    return None


def _prefix(found: Found, start: int, part: str) -> None:
    """Put `part` before the paths of all violations from `start` on."""
    for index in range(start, len(found)):
        below = found[index]
        dot = "." if below.field and not below.field.startswith("[") else ""
        path = f"{part}{dot}{below.field}"
        found[index] = FieldViolation(path, below.description, below.rule)


def _text(value: str, found: Found) -> None:
    if "\0" in value:
        found.append(FieldViolation("", "must not contain the character NUL", "string.nul"))


def _number(value: float, found: Found) -> None:
    if not math.isfinite(value):
        found.append(FieldViolation("", "must be a finite number", "double.finite"))


def _known(value: int, name: str, numbers: frozenset[int], found: Found) -> None:
    if value not in numbers:
        sentence = f"{value} is not a value of {name}"
        found.append(FieldViolation("", sentence, "enum.defined_only"))


def _timestamp(message: Any, found: Found) -> None:  # noqa: ANN401  (read by field names)
    if not (FIRST_SECOND <= message.seconds <= LAST_SECOND and 0 <= message.nanos < NANOS):
        sentence = "must be a time of the years 1 to 9999, with nanos from 0 to 999999999"
        found.append(FieldViolation("", sentence, "timestamp.valid"))


def _duration(message: Any, found: Found) -> None:  # noqa: ANN401
    seconds, nanos = message.seconds, message.nanos
    if abs(seconds) > LONGEST_DURATION or abs(nanos) >= NANOS or seconds * nanos < 0:
        sentence = "must be at most 10000 years, with nanos of the same sign below a second"
        found.append(FieldViolation("", sentence, "duration.valid"))


def _too_deep(depth: int, found: Found) -> bool:
    if depth > DEEPEST:
        sentence = f"must not be nested deeper than {DEEPEST} levels"
        found.append(FieldViolation("", sentence, "struct.depth"))
    return depth > DEEPEST


def _struct(message: Any, found: Found, depth: int = 1) -> None:  # noqa: ANN401
    if _too_deep(depth, found):
        return
    fields = message.fields
    for key in fields:
        before = len(found)
        if "\0" in key:
            _text(key, found)
        _json(fields[key], found, depth)
        if len(found) > before:
            _prefix(found, before, f'["{key}"]')


def _list(message: Any, found: Found, depth: int = 1) -> None:  # noqa: ANN401
    if _too_deep(depth, found):
        return
    for index, value in enumerate(message.values):
        before = len(found)
        _json(value, found, depth)
        if len(found) > before:
            _prefix(found, before, f"[{index}]")


def _json(value: Any, found: Found, depth: int = 0) -> None:  # noqa: ANN401
    kind = value.WhichOneof("kind")
    if kind == "string_value":
        _text(value.string_value, found)
    elif kind == "number_value":
        _number(value.number_value, found)
    elif kind == "struct_value":
        _struct(value.struct_value, found, depth + 1)
    elif kind == "list_value":
        _list(value.list_value, found, depth + 1)


_SPECIAL: dict[str, Check] = {
    "google.protobuf.Timestamp": _timestamp,
    "google.protobuf.Duration": _duration,
    "google.protobuf.Struct": _struct,
    "google.protobuf.ListValue": _list,
    "google.protobuf.Value": _json,
}
