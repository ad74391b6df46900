"""A stage that prints, for tests: appending to its output and reading it back."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from release_manager.deployment.v1 import output_pb2 as pb

from shared.domain_error import DomainError
from shared.rpc.status import from_rpc_error
from tests.support.deployments import World
from tests.support.executing import promoted

LONGEST = 65_536


@dataclass
class Printer:
    """A stage of a deployment, whose output is in `sent`."""

    world: World
    deployment: str
    stage: str = "build"
    who: str = "dev1"
    sent: bytearray = field(default_factory=bytearray)

    @property
    def sha256(self) -> str:
        """The hash of all that was sent."""
        return hashlib.sha256(self.sent).hexdigest()

    def piece(
        self, text: str, offset: int | None = None, **more: Any
    ) -> pb.AppendStageOutputRequest:
        """Return the request to append at a place, next if none is given."""
        place = len(self.sent) if offset is None else offset
        return pb.AppendStageOutputRequest(
            deployment=self.deployment, stage=self.stage, offset=place, text=text, **more
        )

    async def prints(self, *texts: str, **more: Any) -> pb.AppendStageOutputResponse:
        """Append texts one after the other."""
        for text in texts:
            request = self.piece(text, **more)
            answer: pb.AppendStageOutputResponse = await self.world.call(
                self.who, "AppendStageOutput", request
            )
            self.sent += text.encode()
            assert answer.next_offset == len(self.sent)
        return answer

    async def refused(self, text: str, offset: int | None = None, **more: Any) -> DomainError:
        """Return the error with which a piece is refused."""
        request = self.piece(text, offset, **more)
        return await self.world.refused(self.who, "AppendStageOutput", request)

    def tail(self, who: str = "viewer1", **more: Any) -> Any:
        """Open a stream of the output."""
        named = {"deployment": self.deployment, "stage": self.stage} | more
        metadata = (("authorization", f"Bearer {self.world.tokens[who]}"),)
        return self.world.output.TailStageOutput(
            pb.TailStageOutputRequest(**named), metadata=metadata, timeout=60
        )

    async def messages(self, **more: Any) -> list[pb.TailStageOutputResponse]:
        """Read a stream to its end."""
        return [message async for message in self.tail(**more)]

    async def text(self, **more: Any) -> str:
        """Read the output to its end."""
        return "".join([message.text async for message in self.tail(**more)])

    async def tail_refused(self, **more: Any) -> DomainError:
        """Return the error with which a stream is refused."""
        return await end_of(self.tail(**more))


async def end_of(stream: Any) -> DomainError:
    """Return the error with which a stream ends."""
    failure = None
    while failure is None:
        try:
            await anext(aiter(stream))
        except Exception as raised:  # noqa: BLE001  (whatever it is, it must be one of ours)
            failure = raised
    error = from_rpc_error(failure)  # type: ignore[arg-type]
    assert error is not None, repr(failure)
    return error


async def printer(world: World, app: str, place: str, *texts: str) -> Printer:
    """Return a stage that runs and has printed something."""
    made = Printer(world, await promoted(world, app, place))
    await world.stage(made.deployment, made.stage, "in_progress")
    if texts:
        await made.prints(*texts)
    return made


async def grown(stream: Any, least: int) -> AsyncIterator[pb.TailStageOutputResponse]:
    """Yield messages until `least` bytes are there; nothing that is not there is waited for."""
    async with asyncio.timeout(20):
        async for message in stream:
            yield message
            if message.next_offset >= least:
                return
