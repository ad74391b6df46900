"""Every RPC of the running product: a request that it accepts, and somebody who may make it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from google.protobuf import message_factory
from google.protobuf.message import Message

from tests.support.platform import IDENTITY, Platform, product_methods
from tests.support.raw_calls import Answer, Metadata
from tests.support.valid_requests import valid_requests

WRITTEN_BY_PROGRAMS = frozenset({"LogAction", "LogActions", "GetAggregateSequences"})
# A person's session must not be ended by trying out a log-out, nor their password be changed.
RISKY = frozenset({f"/{IDENTITY}/Logout", f"/{IDENTITY}/ChangePassword"})


@dataclass
class EveryRpc:
    """The running product, a valid request for each method, and who makes it."""

    platform: Platform
    requests: Mapping[str, Message]
    admin: Metadata
    writer: Metadata
    program: Metadata

    @classmethod
    async def of(cls, platform: Platform) -> Self:
        """Make the things that the requests are about, and the callers."""
        admin = await platform.person("admin")
        writer = await platform.program("viewer", "audit.write", "on_behalf_of")
        program = await platform.program("admin")
        return cls(platform, await valid_requests(platform, admin, writer), admin, writer, program)

    def caller(self, method: str) -> Metadata:
        """Return who may make a call: an admin, or a program where only programs may."""
        if method in RISKY:
            return self.program
        return self.writer if method.split("/")[2] in WRITTEN_BY_PROGRAMS else self.admin

    def request(self, method: str, **changes: object) -> Any:
        """Return the valid request of a method with other values in some fields."""
        return changed_request(self.requests[method], **changes)

    async def ask(
        self, method: str, request: Message | bytes, by: Metadata | None = None
    ) -> Answer:
        """Call a method by its name, as who may make it unless somebody else is given."""
        return await self.platform.ask(method, request, self.caller(method) if by is None else by)


def changed_request(valid: Message, **changes: object) -> Any:
    """Return a copy of a request with other values in some fields; None empties a field."""
    request: Any = type(valid)()
    request.CopyFrom(valid)
    for name, value in changes.items():
        request.ClearField(name)
        if isinstance(value, list | tuple):
            getattr(request, name).extend(value)
        elif isinstance(value, Message):
            getattr(request, name).CopyFrom(value)
        elif value is not None:
            setattr(request, name, value)
    return request


def answered(method: str, answer: Answer) -> Any:
    """Return the message that a call was answered with; fails for one that was refused."""
    assert answer.ok, f"{method}: {answer}"
    kind = message_factory.GetMessageClass(product_methods()[method].output_type)
    return kind.FromString(answer.answers[0])
