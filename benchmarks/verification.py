"""VerifyLedger over a whole ledger, against the same rows merely fetched; and calls meanwhile."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from google.protobuf.empty_pb2 import Empty
from release_manager.audit.v1 import audit_pb2 as pb

from benchmarks.figures import Figure, Pair, Promise, in_turns, percentile
from benchmarks.genuine import fill
from benchmarks.nothing import DO_NOTHING
from benchmarks.stage import Audit, Bench

ENTRIES = 200_000
ROWS_AT_ONCE = 2_000
ROWS = "SELECT * FROM audit_logs WHERE leaf_index >= $1 AND leaf_index < $2 ORDER BY leaf_index"
SIZE = "SELECT next_index FROM audit_log_head"
BETWEEN_CALLS_S = 0.005
SLOWEST = 0.99


class Verifications:
    """The rounds of one ledger."""

    def __init__(self, audit: Audit) -> None:
        """Take the service."""
        self._audit = audit
        self._nothing: Any = audit.channel.unary_unary(DO_NOTHING)

    async def verify(self) -> float:
        """Verify the ledger; return entries per second."""
        began = time.perf_counter()
        answers = self._audit.stub.VerifyLedger(
            pb.VerifyLedgerRequest(), metadata=self._audit.metadata
        )
        last = pb.VerifyLedgerResponse()
        async for last in answers:  # noqa: B007  (the last one has the verdict)
            pass
        if last.verdict != pb.LEDGER_VERDICT_INTACT:
            raise RuntimeError(f"the ledger was found to be changed: {last}")
        return last.verified / (time.perf_counter() - began)

    async def fetch(self) -> float:
        """Fetch all rows and do nothing with them; return rows per second."""
        owner = self._audit.owner
        entries = await owner.fetchval(SIZE)
        began = time.perf_counter()
        for first in range(0, entries, ROWS_AT_ONCE):
            await owner.fetch(ROWS, first, first + ROWS_AT_ONCE)
        return float(entries / (time.perf_counter() - began))

    async def calls_meanwhile(self) -> float:
        """Verify, and return the 99th percentile of calls that do nothing meanwhile, in ms."""
        verifying = asyncio.create_task(self.verify())
        slowest = await self._calls(verifying)
        await verifying
        return slowest

    async def calls_alone(self) -> float:
        """Return the 99th percentile of calls that do nothing, in milliseconds."""
        return await self._calls(asyncio.create_task(asyncio.sleep(2)))

    async def _calls(self, until: "asyncio.Task[Any]") -> float:
        took = []
        request = Empty().SerializeToString()
        while not until.done():
            began = time.perf_counter()
            await self._nothing(request, metadata=self._audit.metadata)
            took.append((time.perf_counter() - began) * 1_000)
            await asyncio.sleep(BETWEEN_CALLS_S)
        return percentile(took, SLOWEST)


async def run(bench: Bench) -> Sequence[Figure]:
    """Measure."""
    async with bench.audit() as audit:
        await fill(audit, bench.size(ENTRIES))
        rounds = Verifications(audit)
        pair = await in_turns(rounds.verify, rounds.fetch, bench.rounds)
        calls: Pair = await in_turns(
            rounds.calls_meanwhile, rounds.calls_alone, min(bench.rounds, 3)
        )
    promise = Promise(at_least=20_000)
    return [
        Figure("verification", "entries/s", pair, "rows/s fetched", promise),
        Figure("calls during a verification, p99", "ms", calls, "ms without"),
    ]
