"""Lists of a catalog of years: every list, filter, order and search, on its pages from end to end.

Each is asked for its first, a middle and its last page in turns, and so is an RPC that does nothing
on the same server. What counts is the 95th percentile on the slowest of the three pages.
"""

import time
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.empty_pb2 import Empty

from benchmarks import catalog_past
from benchmarks.figures import Figure, Pair, Promise, percentile
from benchmarks.list_kinds import MODULES, Kind, kinds
from benchmarks.nothing import DO_NOTHING
from benchmarks.stage import PRODUCER, UNCOMPARED, Bench, Metadata

# Calls of each page, or what `--entries` says; the percentile needs some.
CALLS = 30
WARMING = 3
WORST_MS = 50
LARGEST_PAGE = 1_000
FIRST, MIDDLE, LAST = PLACES = ("first", "middle", "last")


@dataclass(frozen=True)
class Client:
    """Whoever asks; answers of lists are decoded, as any client has to."""

    channel: grpc.aio.Channel
    metadata: Metadata

    async def nothing(self) -> None:
        """Ask for nothing."""
        await self._method(DO_NOTHING, Empty)(Empty(), metadata=self.metadata)

    async def page(self, kind: Kind, request: Any) -> Any:  # noqa: ANN401  (any list's)
        """Ask for a page."""
        module = MODULES[kind.method.split("/")[1]]
        answer = getattr(module, f"{kind.rpc}Response")
        return await self._method(kind.method, answer)(request, metadata=self.metadata)

    def _method(self, name: str, answer: Any) -> Any:  # noqa: ANN401  (a class of messages)
        return self.channel.unary_unary(
            name,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=answer.FromString,
        )


@dataclass
class Spent:
    """How many milliseconds calls took: of a list by page, and of nothing."""

    pages: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in PLACES})
    nothing: list[float] = field(default_factory=list)


async def run(bench: Bench) -> Sequence[Figure]:
    """Measure each kind of list; the slowest comes last."""
    async with _filled(bench) as client:
        figures = [await _figure(client, kind, bench.size(CALLS)) for kind in kinds()]
    return sorted(figures, key=lambda figure: figure.value)


@asynccontextmanager
async def _filled(bench: Bench) -> AsyncIterator[Client]:
    """Provide an admin of a catalog service with years in its database."""
    async with bench.audit() as audit:
        await audit.owner.execute("UPDATE users SET role = 'admin' WHERE username = $1", PRODUCER)
        await catalog_past.fill(audit.owner)
        module = "benchmarks.catalog_nothing"
        async with bench.beside(audit, module, "CATALOG_ADDRESS", UNCOMPARED) as catalog:
            yield Client(catalog.channel, audit.metadata)


async def _figure(client: Client, kind: Kind, calls: int) -> Figure:
    requests, entries = await _requests(client, kind)
    spent = Spent()
    for number in range(-WARMING, calls):
        took = {name: await _timed(client.page(kind, requests[name])) for name in PLACES}
        idle = await _timed(client.nothing())
        if number >= 0:
            spent.nothing.append(idle)
            for name, milliseconds in took.items():
                spent.pages[name].append(milliseconds)
    facts: dict[str, Any] = {"entries": entries}
    for name, times in spent.pages.items():
        facts[name] = {"median": percentile(times, 0.5), "p95": percentile(times, 0.95)}
    slowest = max(facts[name]["p95"] for name in PLACES)
    pair = Pair([slowest], [percentile(spent.nothing, 0.95)])
    promise = Promise(at_most=WORST_MS)
    return Figure(f"list: {kind.name}", "ms", pair, "ms, nothing", promise, facts)


async def _timed(call: Awaitable[Any]) -> float:
    """Return how many milliseconds a call takes."""
    began = time.perf_counter()
    await call
    return (time.perf_counter() - began) * 1_000


async def _requests(client: Client, kind: Kind) -> tuple[dict[str, Any], int]:
    """Return the requests of the three pages, and how many entries there are in all."""
    tokens, entries = [""], 0
    while True:
        answer = await client.page(kind, kind.later(tokens[-1], LARGEST_PAGE))
        entries += len(getattr(answer, answer.DESCRIPTOR.fields[0].name))
        if not answer.next_page_token:
            break
        tokens.append(answer.next_page_token)
    last = tokens[-1]
    while token := (await client.page(kind, kind.later(last))).next_page_token:
        last = token
    return {
        FIRST: kind.request,
        MIDDLE: kind.later(tokens[len(tokens) // 2]),
        LAST: kind.later(last),
    }, entries
