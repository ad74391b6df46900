"""How long an entry waits for the checkpoint that covers it, while batches are appended."""

import asyncio
import time
from bisect import bisect_left
from collections.abc import Sequence
from itertools import islice
from statistics import median
from typing import Any

from release_manager.audit.v1 import audit_pb2 as pb

from benchmarks.figures import Figure, Promise, alone, percentile
from benchmarks.genuine import covered
from benchmarks.load import new_events
from benchmarks.stage import Audit, Bench

BATCH = 1_000
IN_FLIGHT = 4
ENTRIES = 50_000
SLOWEST = 0.99
# In seconds of the database's clock, which both times are of.
CHECKPOINTS = """
    SELECT tree_size, extract(epoch FROM created_at)::float FROM audit_checkpoints
    WHERE tree_size > $1 ORDER BY tree_size
"""
ENTRIES_OF = """
    SELECT leaf_index, extract(epoch FROM created_at)::float FROM audit_logs
    WHERE leaf_index >= $1 ORDER BY leaf_index
"""
SIZE = "SELECT next_index FROM audit_log_head"


class Lag:
    """The rounds of one ledger."""

    def __init__(self, audit: Audit, entries: int) -> None:
        """Take the service, and how many entries a round appends."""
        self._audit = audit
        self._batches = max(1, entries // BATCH)
        self._events = new_events()
        self.medians: list[float] = []
        self.rates: list[float] = []

    async def append(self) -> float:
        """Append entries; return the 99th percentile of their lags in seconds."""
        first = await self._audit.owner.fetchval(SIZE)
        requests = [
            pb.LogActionsRequest(events=islice(self._events, BATCH)) for _ in range(self._batches)
        ]
        began = time.perf_counter()
        await asyncio.gather(*(self._send(requests) for _ in range(IN_FLIGHT)))
        appended = self._batches * BATCH
        self.rates.append(appended / (time.perf_counter() - began))
        await covered(self._audit, first + appended)
        lags = await self._lags(first)
        self.medians.append(median(lags))
        return percentile(lags, SLOWEST)

    async def _send(self, requests: list[Any]) -> None:
        while requests:
            await self._audit.stub.LogActions(requests.pop(), metadata=self._audit.metadata)

    async def _lags(self, first: int) -> list[float]:
        checkpoints = await self._audit.owner.fetch(CHECKPOINTS, first)
        sizes = [size for size, _at in checkpoints]
        return [
            checkpoints[bisect_left(sizes, index + 1)][1] - stored_at
            for index, stored_at in await self._audit.owner.fetch(ENTRIES_OF, first)
        ]


async def run(bench: Bench) -> Sequence[Figure]:
    """Measure."""
    async with bench.audit() as audit:
        lag = Lag(audit, bench.size(ENTRIES))
        pair = await alone(lag.append, bench.rounds)
    facts = {"median_s": median(lag.medians), "entries_per_second": median(lag.rates)}
    return [Figure("integration lag, p99", "s", pair, promise=Promise(at_most=2), facts=facts)]
