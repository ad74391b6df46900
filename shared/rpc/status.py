"""Domain errors as `google.rpc.Status` and back: the one map from kind to code, and its limits.

An error travels in trailers, and clients refuse trailers beyond about 8 KiB; then the caller would
read RESOURCE_EXHAUSTED instead of what is wrong. So everything here is bounded: the sentence, each
fact, the number of violations, and all of it together.
"""

from collections.abc import Iterable
from functools import cache
from typing import TypeVar
from urllib.parse import quote

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, PreconditionFailure, RetryInfo
from google.rpc.status_pb2 import Status

from shared import errors
from shared.domain_error import DomainError, FieldViolation, GateViolation, Kind

DOMAIN = "release-manager"
DETAILS_KEY = "grpc-status-details-bin"

MOST_BYTES = 6_144
MOST_VIOLATIONS = 50
LONGEST_SENTENCE = 1_024
LONGEST_FACT = 256

_OVERHEAD = 16  # of one entry in a repeated field or map: tags and lengths
_AS_IS = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")  # what grpc-message leaves alone
_LEFT_OUT = "{count} more are not shown here; correct these first."

M = TypeVar("M", bound=Message)

CODES = {
    Kind.INVALID: grpc.StatusCode.INVALID_ARGUMENT,
    Kind.UNAUTHENTICATED: grpc.StatusCode.UNAUTHENTICATED,
    Kind.DENIED: grpc.StatusCode.PERMISSION_DENIED,
    Kind.MISSING: grpc.StatusCode.NOT_FOUND,
    Kind.EXISTS: grpc.StatusCode.ALREADY_EXISTS,
    Kind.PRECONDITION: grpc.StatusCode.FAILED_PRECONDITION,
    Kind.CONFLICT: grpc.StatusCode.ABORTED,
    Kind.EXHAUSTED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Kind.UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    Kind.DEADLINE: grpc.StatusCode.DEADLINE_EXCEEDED,
    Kind.RANGE: grpc.StatusCode.OUT_OF_RANGE,
    Kind.INTERNAL: grpc.StatusCode.INTERNAL,
}


def code_of(error: DomainError) -> grpc.StatusCode:
    """Return the status code of an error's kind."""
    return CODES[error.kind]


def to_status(error: DomainError) -> Status:
    """Return `error` as it travels, in at most `MOST_BYTES` with its sentence as a header."""
    facts = {name: clip(value, LONGEST_FACT) for name, value in error.facts.items()}
    sentence = str(error)
    for name, value in error.facts.items():
        if facts[name] != value:
            sentence = sentence.replace(value, facts[name])
    sentence = clip(sentence, LONGEST_SENTENCE)
    status = Status(code=int(code_of(error).value[0]), message=sentence)
    budget = _Budget(MOST_BYTES - status.ByteSize() - len(quote(sentence, _AS_IS)))
    info = ErrorInfo(reason=error.reason, domain=DOMAIN)
    for name, value in facts.items():
        if budget.take(len(name) + len(value.encode())):
            info.metadata[name] = value
    status.details.add().Pack(info)
    if error.retry_after is not None:
        delay = Duration()
        delay.FromTimedelta(error.retry_after)
        status.details.add().Pack(RetryInfo(retry_delay=delay))
    if error.fields:
        status.details.add().Pack(_bad_request(error.fields, budget))
    if error.gates:
        status.details.add().Pack(_precondition_failure(error.gates, budget))
    return status


class _Budget:
    """The bytes that are left for details; some are kept back for the envelopes around them."""

    def __init__(self, total: int) -> None:
        self._left = total - 512

    def take(self, size: int) -> bool:
        """Spend `size` bytes and say so, or leave the budget alone when they are not there."""
        if size + _OVERHEAD > self._left:
            return False
        self._left -= size + _OVERHEAD
        return True

    def fitting(self, entries: Iterable[M]) -> list[M]:
        """Return the first entries, as many as may be shown and can be paid."""
        shown: list[M] = []
        for entry in entries:
            if len(shown) == MOST_VIOLATIONS or not self.take(entry.ByteSize()):
                break
            shown.append(entry)
        return shown


def _bad_request(fields: tuple[FieldViolation, ...], budget: _Budget) -> BadRequest:
    shown = budget.fitting(
        BadRequest.FieldViolation(
            field=clip(violation.field, LONGEST_FACT),
            description=clip(violation.description, LONGEST_FACT),
            reason=clip(violation.rule, LONGEST_FACT),
        )
        for violation in fields
    )
    detail = BadRequest(field_violations=shown)
    if len(shown) < len(fields):
        more = _LEFT_OUT.format(count=len(fields) - len(shown))
        detail.field_violations.add(description=more)
    return detail


def _precondition_failure(gates: tuple[GateViolation, ...], budget: _Budget) -> PreconditionFailure:
    shown = budget.fitting(
        PreconditionFailure.Violation(
            type=clip(gate.gate, LONGEST_FACT),
            subject=clip(gate.subject, LONGEST_FACT),
            description=clip(gate.description, LONGEST_FACT),
        )
        for gate in gates
    )
    detail = PreconditionFailure(violations=shown)
    if len(shown) < len(gates):
        more = _LEFT_OUT.format(count=len(gates) - len(shown))
        detail.violations.add(description=more)
    return detail


def clip(text: str, limit: int) -> str:
    """Return `text` in at most `limit` bytes of UTF-8, ending in an ellipsis when it was longer."""
    raw = text.encode("utf-8", "replace")
    if len(raw) <= limit:
        return raw.decode()
    ellipsis = "…"
    return raw[: limit - len(ellipsis.encode())].decode("utf-8", "ignore") + ellipsis


def from_rpc_error(failure: grpc.aio.AioRpcError) -> DomainError | None:
    """Return the error that the other service raised, or None when it did not say which.

    The class, the sentence, the facts and the violations are those that arrived; what was cut off
    to fit the trailers stays lost.
    """
    for key, value in failure.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            try:
                return from_status(Status.FromString(value))
            except DecodeError:
                return None
    return None


def from_status(status: Status) -> DomainError | None:
    """Return the error of a status, or None when its reason is not one of ours."""
    info = _detail(status, ErrorInfo)
    declared = errors_by_reason().get(info.reason)
    if declared is None or info.domain != DOMAIN:
        return None
    error = declared.__new__(declared)
    Exception.__init__(error, status.message)
    error.facts = dict(info.metadata)
    error.fields = tuple(
        FieldViolation(entry.field, entry.description, entry.reason)
        for entry in _detail(status, BadRequest).field_violations
    )
    error.gates = tuple(
        GateViolation(entry.type, entry.subject, entry.description)
        for entry in _detail(status, PreconditionFailure).violations
    )
    retry = _detail(status, RetryInfo)
    error.retry_after = retry.retry_delay.ToTimedelta() if retry.HasField("retry_delay") else None
    return error


def _detail(status: Status, kind: type[M]) -> M:
    """Return the detail of a kind, empty when there is none."""
    found = kind()
    for packed in status.details:
        if packed.Unpack(found):
            break
    return found


@cache
def errors_by_reason() -> dict[str, type[DomainError]]:
    """Return every declared error by its reason."""
    declared = (one for one in vars(errors).values() if isinstance(one, type))
    return {
        one.reason: one
        for one in declared
        if issubclass(one, DomainError) and one is not DomainError
    }
