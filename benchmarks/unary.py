"""LogAction, one entry a call, against an RPC that does nothing on the same server."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from itertools import islice
from typing import Any

from google.protobuf.empty_pb2 import Empty
from release_manager.audit.v1 import audit_pb2 as pb

from benchmarks.figures import Figure, Promise, in_turns
from benchmarks.load import in_flight, new_events
from benchmarks.nothing import DO_NOTHING
from benchmarks.stage import Audit, Bench

IN_FLIGHT = 64
CALLS = 5_000
LOG_ACTION = "/release_manager.audit.v1.AuditService/LogAction"


class Unary:
    """The rounds: as many calls of the one as of the other, on one connection."""

    def __init__(self, audit: Audit, calls: int) -> None:
        """Take the service, and how many calls a round makes."""
        self._metadata = audit.metadata
        self._calls = calls
        self._events = new_events()
        # Requests are encoded before the round and answers are not decoded: the client's part is
        # the same on both sides.
        self._log_action: Any = audit.channel.unary_unary(LOG_ACTION)
        self._do_nothing: Any = audit.channel.unary_unary(DO_NOTHING)

    async def log_action(self) -> float:
        """Append entries one by one; return calls per second."""
        requests = [
            pb.LogActionRequest(event=event).SerializeToString()
            for event in islice(self._events, self._calls)
        ]
        return await self._made(self._log_action, requests)

    async def do_nothing(self) -> float:
        """Call what does nothing; return calls per second."""
        return await self._made(self._do_nothing, [Empty().SerializeToString()] * self._calls)

    async def _made(self, call: Callable[..., Awaitable[object]], requests: list[bytes]) -> float:
        calls = [partial(call, request, metadata=self._metadata) for request in requests]
        return self._calls / await in_flight(IN_FLIGHT, calls)


async def run(bench: Bench) -> Sequence[Figure]:
    """Measure."""
    async with bench.audit() as audit:
        unary = Unary(audit, bench.size(CALLS))
        pair = await in_turns(unary.log_action, unary.do_nothing, bench.rounds)
    promise = Promise(ratio_at_least=0.75)
    return [Figure("unary", "calls/s", pair, "calls/s of nothing", promise)]
