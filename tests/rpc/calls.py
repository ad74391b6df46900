"""Calling methods of every arity in one way, and reading how they fail."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest

from shared.domain_error import DomainError
from shared.rpc.status import from_rpc_error
from tests.rpc.conftest import Running, token
from tests.rpc.protos.echo_pb2 import EchoRequest

STREAMED = ("Yield", "Write", "Chat", "ChatWrite")
READING = ("Gather", "GatherRead", "Chat", "ChatWrite")
ARITIES = ("Say", "Gather", "GatherRead", *STREAMED)
VIEWER = token("viewer")


async def call(
    running: Running, method: str, *requests: EchoRequest, metadata: Any = VIEWER, **how: Any
) -> list[Any]:
    """Call a method of any arity and return its answers."""
    given: Any = iter(requests) if method in READING else requests[0]
    return await answers(getattr(running.stub, method)(given, metadata=metadata, **how), method)


async def call_with_bytes(
    running: Running, method: str, content: bytes, metadata: Any = VIEWER
) -> list[Any]:
    """Call a method with bytes that are perhaps no message."""
    sides = ("stream" if side else "unary" for side in (method in READING, method in STREAMED))
    rpc = getattr(running.channel, "_".join(sides))(f"/echo.v1.EchoService/{method}")
    return await answers(
        rpc(iter([content]) if method in READING else content, metadata=metadata), method
    )


def raw(arity: Callable[[str], Any], method: str) -> Any:
    """Return a method that takes and returns bytes: `raw(channel.unary_unary, "/a.B/C")`."""
    return arity(method)


async def answers(made: Any, method: str) -> list[Any]:
    """Return all answers of a call; it ends with the task that reads them.

    gRPC tells the server of a cancelled reader only while that waits for a message: between two,
    the call would go on for as long as something refers to it.
    """
    try:
        return [answer async for answer in made] if method in STREAMED else [await made]
    finally:
        made.cancel()


async def failure(made: Awaitable[Any]) -> grpc.aio.AioRpcError:
    """Return what a call failed with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await made
    return caught.value


async def refusal(made: Awaitable[Any]) -> DomainError:
    """Return the domain error that a call failed with."""
    error = from_rpc_error(await failure(made))
    assert error is not None
    return error


def is_of_grpc_itself(failed: grpc.aio.AioRpcError) -> bool:
    """Tell whether a call was refused without details and trailers of ours."""
    return not failed.trailing_metadata()


async def until(reached: Callable[[], bool]) -> None:
    """Wait until something is so, for at most twenty seconds."""
    async with asyncio.timeout(20):
        while not reached():  # noqa: ASYNC110  (what is waited for knows no events)
            await asyncio.sleep(0.005)
