"""Requests that are right, recognized quickly.

Nearly every request keeps every rule, and finding out what is wrong with one that does not is slow
work. So each message type gets a quick check, compiled from the same rules of its proto, which says
True only when neither `unusable_values` nor protovalidate has anything to say. Whatever it does not
say yes to goes the long way, which alone decides and alone words the refusal: a quick check that
knows too little costs time and never lets anything pass. A type with a rule that is not understood
here has no quick check at all.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from ipaddress import ip_address
from math import inf, isfinite
from typing import Any

from buf.validate import validate_pb2
from buf.validate.validate_pb2 import FieldRules, StringRules
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message

from shared.rpc.message_checks import DEEPEST, FIRST_SECOND, LAST_SECOND, NANOS

# True only for what is right.
Check = Callable[[Any], bool]

# Rules of whole messages, by their text in the proto.
EXPRESSIONS: Mapping[str, Check] = {
    "(this.aggregate == '') == (this.aggregate_seq == 0)": lambda message: (
        (message.aggregate == "") == (message.aggregate_seq == 0)
    ),
}
UNDERSTOOD_IGNORES = (validate_pb2.IGNORE_UNSPECIFIED, validate_pb2.IGNORE_IF_ZERO_VALUE)
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
# Patterns that mean the same to RE2 and to Python: anchored, without escapes and special groups.
PLAIN_PATTERN = re.compile(r"\^((?:(?!\(\?|\[:)[^\\^$])*)\$")


class NotUnderstood(Exception):
    """A rule for which there is no quick check; the type goes the long way."""


def quick_check(descriptor: Descriptor, passed: frozenset[str] = frozenset()) -> Check:
    """Return the quick check of a message type; for one with other rules, a check that says no.

    It does not look into fields whose full name is in `passed`.
    """
    try:
        return compiled(descriptor, passed)
    except NotUnderstood:
        return _never


def compiled(descriptor: Descriptor, passed: frozenset[str] = frozenset()) -> Check:
    """Return the quick check of a message type; raises NotUnderstood."""
    return _Compiler(passed).message(descriptor)


def _never(_message: Message) -> bool:
    return False


class _Compiler:
    """Makes checks of messages, fields and values; `above` are the types that one lies in."""

    def __init__(self, passed: frozenset[str]) -> None:
        self._passed = passed

    def message(self, descriptor: Descriptor, above: tuple[str, ...] = ()) -> Check:
        special = _SPECIAL.get(descriptor.full_name)
        if special is not None:
            return special
        if descriptor.full_name in above or descriptor.full_name.startswith("google."):
            raise NotUnderstood(descriptor.full_name)
        plain: list[tuple[str, Check]] = []
        of_whole = [*_expressions(descriptor), *_oneofs(descriptor)]
        for field in descriptor.fields:
            check, needed = self._field(field, (*above, descriptor.full_name))
            if field.has_presence:
                of_whole.append(_if_present(field.name, check, needed=needed))
            elif check is not _always:
                plain.append((field.name, check))
        return _all_of(plain, of_whole)

    def _field(self, field: FieldDescriptor, above: tuple[str, ...]) -> tuple[Check, bool]:
        """Return the check of a field's value, and whether the field must be there."""
        rules = field.GetOptions().Extensions[validate_pb2.field]
        names = _names(rules)
        of_type = names - {"required", "ignore"}
        if rules.ignore not in UNDERSTOOD_IGNORES or len(of_type) > 1:
            raise NotUnderstood(field.full_name)
        if field.full_name in self._passed:
            check: Check = _always
        elif field.is_repeated:
            check = self._repeated(field, rules, of_type, above)
        else:
            check = self._value(field, rules, of_type, above)
        skips_zero = rules.ignore == validate_pb2.IGNORE_IF_ZERO_VALUE
        if field.has_presence or not (rules.required or skips_zero):
            return check, rules.required
        if rules.required:
            return (lambda value: bool(value) and check(value)), True
        return (lambda value: not value or check(value)), False

    def _repeated(
        self, field: FieldDescriptor, rules: FieldRules, of_type: set[str], above: tuple[str, ...]
    ) -> Check:
        repeated = rules.repeated
        limits = _names(repeated) - {"min_items", "max_items", "items"}
        if of_type - {"repeated"} or limits or _is_map(field):
            raise NotUnderstood(field.full_name)
        of_item = _names(repeated.items)
        if len(of_item) > 1:
            raise NotUnderstood(field.full_name)
        item = self._value(field, repeated.items, of_item, above)
        least = repeated.min_items
        most = repeated.max_items if repeated.HasField("max_items") else inf
        return lambda values: least <= len(values) <= most and all(map(item, values))

    def _value(
        self, field: FieldDescriptor, rules: FieldRules, of_type: set[str], above: tuple[str, ...]
    ) -> Check:
        if field.message_type is not None:
            if of_type:
                raise NotUnderstood(field.full_name)
            return self.message(field.message_type, above)
        if field.enum_type is not None:
            return _enum_check(field, field.enum_type, rules, of_type)
        if field.type == FieldDescriptor.TYPE_STRING:
            return _text_check(field, rules, of_type)
        if field.type in {FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_INT64}:
            return _number_check(field, rules, of_type)
        if of_type:
            raise NotUnderstood(field.full_name)
        if field.type in {FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT}:
            return isfinite
        return _always


def _all_of(plain: Sequence[tuple[str, Check]], of_whole: Sequence[Check]) -> Check:
    def right(message: Any) -> bool:  # noqa: ANN401  (any message)
        for name, check in plain:
            if not check(getattr(message, name)):
                return False
        for check in of_whole:  # noqa: SIM110  (a generator would double the time)
            if not check(message):
                return False
        return True

    return right


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _if_present(name: str, check: Check, *, needed: bool) -> Check:
    def right(message: Any) -> bool:  # noqa: ANN401
        return check(getattr(message, name)) if message.HasField(name) else not needed

    return right


def _expressions(descriptor: Descriptor) -> list[Check]:
    rules = descriptor.GetOptions().Extensions[validate_pb2.message]
    known = [EXPRESSIONS.get(rule.expression) for rule in rules.cel]
    if _names(rules) - {"cel"} or None in known:
        raise NotUnderstood(descriptor.full_name)
    return [check for check in known if check is not None]


def _oneofs(descriptor: Descriptor) -> list[Check]:
    checks: list[Check] = []
    for oneof in descriptor.oneofs:
        names = _names(oneof.GetOptions().Extensions[validate_pb2.oneof])
        if names - {"required"}:
            raise NotUnderstood(oneof.full_name)
        if names:
            checks.append(_some_of(oneof.name))
    return checks


def _some_of(name: str) -> Check:
    return lambda message: message.WhichOneof(name) is not None


def _always(_value: object) -> bool:
    return True


def _enum_check(
    field: FieldDescriptor, kind: EnumDescriptor, rules: FieldRules, of_type: set[str]
) -> Check:
    enum = rules.enum
    if of_type - {"enum"} or _names(enum) - {"defined_only", "not_in"}:
        raise NotUnderstood(field.full_name)
    return frozenset(kind.values_by_number).difference(enum.not_in).__contains__


def _number_check(field: FieldDescriptor, rules: FieldRules, of_type: set[str]) -> Check:
    if not of_type:
        return _always
    (name,) = of_type
    bounds = getattr(rules, name)
    if name not in {"int32", "int64"} or _names(bounds) - {"gte", "lte"}:
        raise NotUnderstood(field.full_name)
    least = bounds.gte if bounds.HasField("gte") else -inf
    most = bounds.lte if bounds.HasField("lte") else inf
    if least > most:  # then the rule means what lies outside
        raise NotUnderstood(field.full_name)
    return lambda value: least <= value <= most


def _text_check(field: FieldDescriptor, rules: FieldRules, of_type: set[str]) -> Check:
    text = rules.string
    names = _names(text)
    if of_type - {"string"} or names - {"min_len", "max_len", "pattern", "uuid", "ip"}:
        raise NotUnderstood(field.full_name)
    if len(names & {"pattern", "uuid", "ip"}) > 1:
        raise NotUnderstood(field.full_name)
    form = _form(field, text, names)
    if not names:
        return _without_nul
    if form is None:
        least = text.min_len
        most = text.max_len if text.HasField("max_len") else inf
        return lambda value: least <= len(value) <= most and "\0" not in value
    if names & {"min_len", "max_len"}:
        raise NotUnderstood(field.full_name)
    return form


def _without_nul(value: str) -> bool:
    return "\0" not in value


def _form(field: FieldDescriptor, text: StringRules, names: set[str]) -> Check | None:
    """Return the check of a pattern or a well-known form, which lets no NUL pass either."""
    if "uuid" in names and text.uuid:
        whole = _UUID.fullmatch
        return lambda value: whole(value) is not None
    if "ip" in names and text.ip:
        return _is_address
    if "pattern" in names:
        plain = PLAIN_PATTERN.fullmatch(text.pattern)
        if plain is None or "(?" in text.pattern:
            raise NotUnderstood(field.full_name)
        matches = re.compile(plain[1]).fullmatch
        return lambda value: matches(value) is not None and "\0" not in value
    if names & {"uuid", "ip"}:
        raise NotUnderstood(field.full_name)
    return None


@lru_cache(maxsize=1_024)
def _is_address(value: str) -> bool:
    try:
        ip_address(value)
    except ValueError:
        return False
    return "%" not in value


def _names(rules: Message) -> set[str]:
    return {field.name for field, _value in rules.ListFields()}


def _is_moment(moment: Any) -> bool:  # noqa: ANN401
    seconds: int = moment.seconds
    nanos: int = moment.nanos
    return FIRST_SECOND <= seconds <= LAST_SECOND and 0 <= nanos < NANOS


def _is_struct(struct: Any, depth: int = 1) -> bool:  # noqa: ANN401
    if depth > DEEPEST:
        return False
    fields = struct.fields
    for key in fields:
        if "\0" in key:
            return False
        value = fields[key]
        text = value.string_value
        if text:
            if "\0" in text:
                return False
        elif not _is_json(value, depth):
            return False
    return True


def _is_json(value: Any, depth: int) -> bool:  # noqa: ANN401
    """Check a value that is no text, or an empty one."""
    kind = value.WhichOneof("kind")
    if kind == "number_value":
        return isfinite(value.number_value)
    if kind == "struct_value":
        return _is_struct(value.struct_value, depth + 1)
    if kind != "list_value":
        return True
    if depth == DEEPEST:
        return False
    return all(
        "\0" not in item.string_value and _is_json(item, depth + 1)
        for item in value.list_value.values
    )


_SPECIAL: Mapping[str, Check] = {
    "google.protobuf.Timestamp": _is_moment,
    "google.protobuf.Struct": _is_struct,
    "google.protobuf.Empty": _always,
}
