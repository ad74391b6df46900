"""Calls by name and bytes, and what came of them: for tests of what no stub would send."""

import asyncio
from collections.abc import Awaitable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from google.rpc.status_pb2 import Status

from shared.rpc.status import DETAILS_KEY

Metadata = Sequence[tuple[str, str | bytes]]

PATIENCE_SECONDS = 20.0
AT_ONCE = 24


@dataclass(frozen=True)
class Answer:
    """How a call ended; `reason` and `domain` are those of its ErrorInfo, empty without one.

    `details` has the types of all its details, `said` every text in them.
    """

    code: grpc.StatusCode
    text: str = ""
    reason: str = ""
    domain: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    fields: Sequence[str] = ()
    answers: Sequence[bytes] = ()
    details: Sequence[str] = ()
    said: Sequence[str] = ()

    @property
    def ok(self) -> bool:
        """Whether the call succeeded."""
        return self.code is grpc.StatusCode.OK

    def __str__(self) -> str:
        return f"{self.code.name} {self.reason}: {self.text}"


async def ask(
    channel: grpc.aio.Channel,
    method: str,
    raw: bytes,
    metadata: Metadata = (),
    *,
    streams: bool = False,
    most: int | None = None,
    seconds: float = PATIENCE_SECONDS,
    **how: Any,
) -> Answer:
    """Send one request and return the end of the call, `most` answers of a stream at most."""
    kind: Any = channel.unary_stream if streams else channel.unary_unary
    call = kind(method)(raw, metadata=tuple(metadata), timeout=seconds, **how)
    try:
        if not streams:
            return Answer(grpc.StatusCode.OK, answers=[await call])
        return Answer(grpc.StatusCode.OK, answers=await _first(call, most))
    except grpc.aio.AioRpcError as failure:
        return answer_of(failure)


async def some_at_a_time(calls: Iterable[Awaitable[Answer]], most: int = AT_ONCE) -> list[Answer]:
    """Await calls that have not begun yet, at most so many at a time; their answers in order."""
    places = asyncio.Semaphore(most)

    async def one(call: Awaitable[Answer]) -> Answer:
        async with places:
            return await call

    return await asyncio.gather(*map(one, calls))


async def _first(call: Any, most: int | None) -> list[bytes]:
    answers: list[bytes] = []
    async for answer in call:
        answers.append(answer)
        if len(answers) == most:
            call.cancel()
            break
    return answers


def answer_of(failure: grpc.aio.AioRpcError) -> Answer:
    """Return what a failure says, in its trailers as well."""
    info, bad = ErrorInfo(), BadRequest()
    details: list[str] = []
    said: list[str] = []
    for key, value in failure.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            for detail in Status.FromString(value).details:
                detail.Unpack(info)
                detail.Unpack(bad)
                details.append(detail.TypeName())
                kind = descriptor_pool.Default().FindMessageTypeByName(detail.TypeName())
                said += texts_of(message_factory.GetMessageClass(kind).FromString(detail.value))
    return Answer(
        failure.code(),
        failure.details() or "",
        info.reason,
        info.domain,
        dict(info.metadata),
        [violation.field for violation in bad.field_violations],
        details=details,
        said=said,
    )


def texts_of(message: Message) -> Iterator[str]:
    """Yield every text in a message, in its maps and in the messages in it."""
    for kind, value in message.ListFields():
        many: Iterable[object] = value if kind.is_repeated else [value]
        if isinstance(value, Mapping):
            many = [*value.keys(), *value.values()]
        for one in many:
            if isinstance(one, str):
                yield one
            elif isinstance(one, Message):
                yield from texts_of(one)
