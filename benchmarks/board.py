"""The board of 200 services in 5 environments, and the comparison of two of these, in one page.

Each is asked for now and as of half a year ago, in turns with an RPC that does nothing on the same
server. What counts is the 95th percentile.
"""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Final

import grpc
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from release_manager.deployment.v1 import deployment_pb2 as pb

from benchmarks import board_past
from benchmarks.figures import Figure, Pair, Promise, percentile
from benchmarks.nothing import DO_NOTHING
from benchmarks.stage import PRODUCER, UNCOMPARED, Bench, Metadata

CALLS: Final = 100
WARMING: Final = 5
WORST_MS: Final = 100
PAST: Final = datetime(2026, 6, 1, tzinfo=UTC)
_SERVICE: Final = "/release_manager.deployment.v1.DeploymentService/"

Call = Callable[[], Awaitable[Any]]


async def run(bench: Bench) -> Sequence[Figure]:
    """Measure the board and the comparison, now and as of then; the slowest comes last."""
    async with _filled(bench) as (channel, metadata):
        calls = {name: _call(channel, metadata, *asked) for name, asked in _asked().items()}
        nothing = _call(channel, metadata, DO_NOTHING, Empty(), Empty)
        figures = [
            await _figure(name, call, nothing, bench.size(CALLS)) for name, call in calls.items()
        ]
    return sorted(figures, key=lambda figure: figure.value)


def _asked() -> Mapping[str, tuple[str, Message, type[Message]]]:
    board: dict[str, Any] = {"page_size": board_past.CELLS}
    between = board | {"environment": "place-1", "compared_with": "place-5"}
    past: dict[str, Any] = {"as_of": PAST}
    status, difference = pb.ListEnvironmentStatusesResponse, pb.DiffEnvironmentsResponse
    method, other = f"{_SERVICE}ListEnvironmentStatuses", f"{_SERVICE}DiffEnvironments"
    return {
        "board": (method, pb.ListEnvironmentStatusesRequest(**board), status),
        "board, past": (method, pb.ListEnvironmentStatusesRequest(**board, **past), status),
        "difference": (other, pb.DiffEnvironmentsRequest(**between), difference),
        "difference, past": (other, pb.DiffEnvironmentsRequest(**between, **past), difference),
    }


def _call(
    channel: grpc.aio.Channel,
    metadata: Metadata,
    method: str,
    request: Message,
    answer: type[Message],
) -> Call:
    sent: Any = channel.unary_unary(
        method,
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=answer.FromString,
    )

    async def call() -> Any:  # noqa: ANN401  (an answer)
        return await sent(request, metadata=metadata)

    return call


@asynccontextmanager
async def _filled(bench: Bench) -> AsyncIterator[tuple[grpc.aio.Channel, Metadata]]:
    """Provide the deployment service with a year in its database, and whoever calls it."""
    async with bench.audit() as audit:
        await audit.owner.execute("UPDATE users SET role = 'admin' WHERE username = $1", PRODUCER)
        await board_past.fill(audit.owner)
        module = "benchmarks.deployment_nothing"
        async with bench.beside(audit, module, "DEPLOYMENT_ADDRESS", UNCOMPARED) as deployment:
            yield deployment.channel, audit.metadata


async def _figure(name: str, call: Call, nothing: Call, calls: int) -> Figure:
    spent: list[float] = []
    empty: list[float] = []
    for number in range(-WARMING, calls):
        took, idle = await _timed(call), await _timed(nothing)
        if number >= 0:
            spent.append(took)
            empty.append(idle)
    answer = await call()
    facts = {
        "entries": len(getattr(answer, answer.DESCRIPTOR.fields[0].name)),
        "bytes": answer.ByteSize(),
        "median": percentile(spent, 0.5),
    }
    pair = Pair([percentile(spent, 0.95)], [percentile(empty, 0.95)])
    return Figure(name, "ms", pair, "ms, nothing", Promise(at_most=WORST_MS), facts)


async def _timed(call: Call) -> float:
    """Return how many milliseconds a call takes."""
    began = time.perf_counter()
    await call()
    return (time.perf_counter() - began) * 1_000
