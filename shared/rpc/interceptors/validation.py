"""Decode and validate requests; the innermost interceptor, so that callers are known before.

The bytes are decoded here and not by gRPC: whoever may not call learns nothing about the contents,
and bytes that are no message are an error of the caller instead of an UNKNOWN with a class name in
it. A single answer is encoded here for the same reason.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar

import grpc
from buf.validate import validate_pb2
from google.protobuf.descriptor import (
    EnumDescriptor,
    FieldDescriptor,
    MethodDescriptor,
    OneofDescriptor,
)
from google.protobuf.message import DecodeError, Message
from protovalidate import Validator, Violation

from shared.domain_error import FieldViolation
from shared.errors import MalformedRequest, ValidationFailed
from shared.rpc.interceptors.around import Around, Behaviour, Context, Rpc
from shared.rpc.message_checks import Unusable, unusable_values
from shared.rpc.methods import request_class
from shared.rpc.quick_checks import quick_check

MOST_REPORTED = 1_000
_NOT_BLANK = r"[^\s\p{Z}]"


class Validation(Around):
    """Gives handlers messages that keep the rules of the protos, or fails the call."""

    takes_bytes: ClassVar[bool] = True

    def __init__(
        self,
        methods: Mapping[str, MethodDescriptor],
        read_by_servicer: frozenset[str] = frozenset(),
    ) -> None:
        """Compile the rules of all requests now: the first validation of a type takes 10 ms.

        `read_by_servicer` are full names of fields that hold a Struct, which a servicer checks
        while it reads it, so that it is walked through only once: it raises Unusable for what
        `unusable_values` refuses. No request of a stream may have one.
        """
        super().__init__()
        self._validator = Validator()
        self._quick = {
            method.input_type.full_name: quick_check(method.input_type, read_by_servicer)
            for method in methods.values()
        }
        self._request_names = {
            name: method.input_type.full_name for name, method in methods.items()
        }
        for method in methods.values():
            self._validator.collect_violations(request_class(method)())

    async def around(self, rpc: Rpc, request: Any, context: Context, proceed: Behaviour) -> Any:  # noqa: ANN401
        """Decode and check each request, proceed, and encode a single answer."""
        if rpc.request_streaming:
            stream: Any = DecodedStream(context, partial(self._decode, rpc))
            answer = await proceed(stream, stream)
        else:
            message = self._decode(rpc, request)
            try:
                answer = await proceed(message, context)
            except Unusable:
                self._refuse(message)
                raise
        return answer if rpc.response_streaming or rpc.encode is None else rpc.encode(answer)

    def _decode(self, rpc: Rpc, raw: bytes) -> Any:  # noqa: ANN401
        try:
            message = raw if rpc.decode is None else rpc.decode(raw)
        except (DecodeError, ValueError):
            name = self._request_names.get(rpc.method, rpc.method)
            raise MalformedRequest(message=name) from None
        if isinstance(message, Message):
            self.check(message)
        return message

    def check(self, message: Message) -> None:
        """Raise ValidationFailed with all violations of `message`, if there are any."""
        quick = self._quick.get(message.DESCRIPTOR.full_name)
        if quick is None or not quick(message):
            self._refuse(message)

    def _refuse(self, message: Message) -> None:
        """Look at everything in `message`; raise ValidationFailed if there are violations."""
        violations = unusable_values(message)
        violations += (
            field_violation(violation, message)
            for violation in self._validator.collect_violations(message)
        )
        if violations:
            first = violations[0]
            raise ValidationFailed(
                count=len(violations),
                first=f"{first.field}: {first.description}" if first.field else first.description,
                fields=tuple(violations[:MOST_REPORTED]),
            )


class DecodedStream:
    """The requests of a stream, decoded one by one: an iterator, and the context for `read`."""

    def __init__(self, context: Context, decode: Callable[[bytes], Any]) -> None:
        """Take the context whose messages are bytes still."""
        self._context = context
        self._decode = decode

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  (whatever the context has)
        """Return what else the context offers."""
        return getattr(self._context, name)

    async def read(self) -> Any:  # noqa: ANN401
        """Return the next request, or `grpc.aio.EOF` after the last one."""
        raw = await self._context.read()
        return raw if raw is grpc.aio.EOF else self._decode(raw)

    def __aiter__(self) -> "DecodedStream":
        """Return itself: a stream is read once."""
        return self

    async def __anext__(self) -> Any:  # noqa: ANN401
        """Return the next request."""
        message = await self.read()
        if message is grpc.aio.EOF:
            raise StopAsyncIteration
        return message


def field_violation(violation: Violation, message: Message) -> FieldViolation:
    """Return protovalidate's violation as ours: `events[3].id` and its sentence."""
    found = violation.proto
    path = ""
    within: Any = message.DESCRIPTOR
    field: FieldDescriptor | None = None
    oneof: OneofDescriptor | None = None
    for element in found.field.elements if found.field else ():
        path += f".{element.field_name}" if path else element.field_name
        if element.subscript is not None:
            key = element.subscript.value
            path += f'["{key}"]' if isinstance(key, str) else f"[{key}]"
        field = None if within is None else within.fields_by_name.get(element.field_name)
        oneof = None if within is None else within.oneofs_by_name.get(element.field_name)
        within = None if field is None else field.message_type
    sentence = None if field is None else _for_people(found.rule_id, field)
    if oneof is not None:  # its own name is nothing that could be set
        sentence = f"one of these must be given: {', '.join(one.name for one in oneof.fields)}"
    return FieldViolation(
        path, sentence or found.message or f"breaks {found.rule_id}", found.rule_id
    )


def _for_people(rule_id: str, field: FieldDescriptor) -> str | None:
    """Return a sentence where protovalidate's own has numbers of an enum or a bare pattern."""
    rules = field.GetOptions().Extensions[validate_pb2.field]
    if rules.HasField("repeated"):
        rules = rules.repeated.items
    if rule_id == "string.pattern" and rules.string.pattern == _NOT_BLANK:
        return "must be given, and not only spaces"
    if rule_id == "string.min_len" and rules.string.min_len == 1:
        return "must be given"
    if rule_id == "string.uuid_empty":
        return "must be given: an id, which is a UUID"
    if rule_id.startswith("enum.") and field.enum_type is not None:
        return f"must be one of {', '.join(_allowed(field.enum_type, rules.enum))}"
    return None


def _allowed(enum: EnumDescriptor, rules: validate_pb2.EnumRules) -> list[str]:
    chosen = getattr(rules, "in") or [value.number for value in enum.values]
    return [
        value.name
        for value in enum.values
        if value.number in chosen and value.number not in rules.not_in and value.number != 0
    ]
