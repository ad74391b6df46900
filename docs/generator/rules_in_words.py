"""Rules of validation, as the protos state them, in words.

A rule that nobody has found words for is refused, so that none is left out.
"""

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from buf.validate import validate_pb2
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    OneofDescriptorProto,
)
from google.protobuf.message import Message
from release_manager.common.v1 import access_pb2

_DAY_S, _HOUR_S, _MINUTE_S = 86_400, 3_600, 60
Enums = Callable[[str], EnumDescriptorProto]
# FieldRules, or those of one kind, such as StringRules: each a message with fields of its own.
Rules: TypeAlias = Any


class RuleWithoutWords(Exception):
    """A rule that the manual cannot describe; the text names it."""


def field_rules(field: FieldDescriptorProto, enums: Enums) -> list[str]:
    """Return the rules of a field; `enums` finds an enum by its full name."""
    rules = field.options.Extensions[validate_pb2.field]
    said = list(_all(rules, field.type_name.removeprefix("."), enums))
    if rules.ignore == validate_pb2.IGNORE_IF_ZERO_VALUE:
        said.append("not checked when empty")
    if field.options.Extensions[access_pb2.sensitive]:
        said.append("secret: never logged or audited")
    return said


def message_rules(message: DescriptorProto) -> list[str]:
    """Return the rules of a message as a whole."""
    rules = message.options.Extensions[validate_pb2.message]
    _check_known(rules, {"cel"})
    return [rule.message for rule in rules.cel]


def oneof_is_required(oneof: OneofDescriptorProto) -> bool:
    """Say whether one of the fields must be given."""
    return oneof.options.Extensions[validate_pb2.oneof].required


def _all(rules: Rules, enum: str, enums: Enums) -> Iterator[str]:
    _check_known(rules, {"cel", "required", "ignore", *_KINDS})
    if rules.required:
        yield "must be given"
    kind = rules.WhichOneof("type")
    if kind is not None:
        yield from _KINDS[kind](getattr(rules, kind), enum, enums)
    for rule in rules.cel:
        yield rule.message


def _string(rules: Rules, _enum: str, _enums: Enums) -> Iterator[str]:
    known = {"min_len", "max_len", "pattern", "uuid", "email", "ip", "uri", "in"}
    _check_known(rules, known)
    if length := _bounds(rules, "min_len", "max_len", "character"):
        yield length
    if rules.HasField("pattern"):
        yield f"matches `{rules.pattern}`"
    named = {"uuid": "a UUID", "email": "a mail address", "ip": "an IP address", "uri": "a URI"}
    yield from (word for name, word in named.items() if getattr(rules, name))
    if among := getattr(rules, "in"):
        yield "one of " + ", ".join(f"`{value}`" for value in among)


def _number(rules: Rules, _enum: str, _enums: Enums) -> Iterator[str]:
    _check_known(rules, {"gte", "lte", "finite"})
    if bounds := _bounds(rules, "gte", "lte", ""):
        yield bounds
    if "finite" in rules.DESCRIPTOR.fields_by_name and rules.finite:
        yield "a finite number"


def _enum(rules: Rules, enum: str, enums: Enums) -> Iterator[str]:
    _check_known(rules, {"defined_only", "in", "not_in"})
    if rules.defined_only:
        yield "a value of the enum"
    for rule, words in (("in", "one of"), ("not_in", "not")):
        if numbers := getattr(rules, rule):
            names = {value.number: value.name for value in enums(enum).value}
            yield f"{words} " + ", ".join(f"`{names[number]}`" for number in numbers)


def _bool(rules: Rules, _enum: str, _enums: Enums) -> Iterator[str]:
    _check_known(rules, {"const"})
    yield f"`{str(rules.const).lower()}`"


def _repeated(rules: Rules, enum: str, enums: Enums) -> Iterator[str]:
    _check_known(rules, {"min_items", "max_items", "unique", "items"})
    if count := _bounds(rules, "min_items", "max_items", "element"):
        yield count
    if rules.unique:
        yield "no element twice"
    if items := ", ".join(_all(rules.items, enum, enums)):
        yield f"each {items}"


def _map(rules: Rules, enum: str, enums: Enums) -> Iterator[str]:
    _check_known(rules, {"min_pairs", "max_pairs", "keys", "values"})
    if count := _bounds(rules, "min_pairs", "max_pairs", "pair"):
        yield count
    for name, part in (("each key", rules.keys), ("each value", rules.values)):
        if said := ", ".join(_all(part, enum, enums)):
            yield f"{name} {said}"


def _duration(rules: Rules, _enum: str, _enums: Enums) -> Iterator[str]:
    _check_known(rules, {"gte", "lte", "gt"})
    for name, word in (("gte", "at least"), ("gt", "more than"), ("lte", "at most")):
        if rules.HasField(name):
            yield f"{word} {_spelled(getattr(rules, name).seconds)}"


_KINDS: dict[str, Callable[[Rules, str, Enums], Iterator[str]]] = {
    "string": _string,
    "int32": _number,
    "int64": _number,
    "double": _number,
    "enum": _enum,
    "bool": _bool,
    "repeated": _repeated,
    "map": _map,
    "duration": _duration,
}


def _bounds(rules: Rules, least: str, most: str, unit: str) -> str:
    low = getattr(rules, least) if rules.HasField(least) else None
    high = getattr(rules, most) if rules.HasField(most) else None
    if low is None and high is None:
        return ""
    if low is not None and high is None:
        return f"at least {low:,}{_counted(unit, low)}"
    span = f"at most {high:,}" if low is None else f"{low:,} to {high:,}"
    return f"{span}{_counted(unit, high or 0)}"


def _counted(unit: str, number: int) -> str:
    return f" {unit}{'' if number == 1 else 's'}" if unit else ""


def _spelled(seconds: int) -> str:
    for length, unit in ((_DAY_S, "day"), (_HOUR_S, "hour"), (_MINUTE_S, "minute")):
        if seconds and seconds % length == 0:
            return f"{seconds // length}{_counted(unit, seconds // length)}"
    return f"{seconds}{_counted('second', seconds)}"


def _check_known(rules: Message, known: set[str]) -> None:
    """Raise RuleWithoutWords for a rule beyond those known."""
    for rule, _value in rules.ListFields():
        if rule.name not in known:
            sentence = f"{rules.DESCRIPTOR.name}.{rule.name} has no words in the manual"
            raise RuleWithoutWords(sentence)
