"""LogActions in batches, against the same rows by bare COPY with the same columns and indexes."""

import time
from collections.abc import Sequence
from functools import partial
from io import BytesIO
from itertools import islice
from typing import Any

from release_manager.audit.v1 import audit_pb2 as pb

from benchmarks.figures import Figure, Promise, in_turns
from benchmarks.load import in_flight, new_events
from benchmarks.stage import Audit, Bench, Owner

BATCH = 1_000
IN_FLIGHT = 4
ENTRIES = 20_000
LOG_ACTIONS = "/release_manager.audit.v1.AuditService/LogActions"

# Plain tables: neither partitions, nor triggers, nor a foreign key, nor a function.
BARE_TABLES = """
CREATE TABLE bare_logs (LIKE audit_logs INCLUDING ALL);
CREATE TABLE bare_keys (LIKE audit_event_keys INCLUDING ALL);
"""
NEWEST_LOGS = "SELECT * FROM audit_logs WHERE leaf_index >= $1 ORDER BY leaf_index"
NEWEST_KEYS = "SELECT * FROM audit_event_keys WHERE leaf_index >= $1 ORDER BY leaf_index"
SIZE = "SELECT next_index FROM audit_log_head"


class Appends:
    """The rounds of one ledger; each side's tables grow by the same rows."""

    def __init__(self, audit: Audit, entries: int) -> None:
        """Take the service, and how many entries a round appends."""
        self._audit = audit
        self._events = new_events()
        self._batches = max(entries // BATCH, 1)
        self._call: Any = audit.channel.unary_unary(
            LOG_ACTIONS, None, pb.LogActionsResponse.FromString
        )
        self._rows: list[tuple[bytes, bytes]] = []

    async def through_the_service(self) -> float:
        """Append new events; return entries per second."""
        first = await self._audit.owner.fetchval(SIZE)
        requests = [self._request() for _ in range(self._batches)]
        appended: list[int] = []

        async def send(request: bytes) -> None:
            answer = await self._call(request, metadata=self._audit.metadata)
            appended.append(_appended(answer.results))

        seconds = await in_flight(IN_FLIGHT, [partial(send, request) for request in requests])
        if appended != [BATCH] * self._batches:
            raise RuntimeError(f"of each {BATCH} events there were appended: {appended}")
        owner = self._audit.owner
        self._rows.append(
            (await _copied(owner, NEWEST_LOGS, first), await _copied(owner, NEWEST_KEYS, first))
        )
        return self._batches * BATCH / seconds

    async def by_copy(self) -> float:
        """Store the rows of a round of the service by COPY; return entries per second."""
        if not self._rows:
            await self.through_the_service()
        logs, keys = self._rows.pop(0)
        owner = self._audit.owner
        began = time.perf_counter()
        async with owner.transaction():
            await owner.copy_to_table("bare_logs", source=BytesIO(logs), format="binary")
            await owner.copy_to_table("bare_keys", source=BytesIO(keys), format="binary")
        return self._batches * BATCH / (time.perf_counter() - began)

    def _request(self) -> bytes:
        return pb.LogActionsRequest(events=islice(self._events, BATCH)).SerializeToString()


def _appended(results: Sequence[pb.AppendResult]) -> int:
    return sum(result.outcome == pb.APPEND_OUTCOME_APPENDED for result in results)


async def _copied(owner: Owner, query: str, first: int) -> bytes:
    rows = BytesIO()
    await owner.copy_from_query(query, first, output=rows, format="binary")
    return rows.getvalue()


async def run(bench: Bench) -> Sequence[Figure]:
    """Measure."""
    async with bench.audit() as audit:
        await audit.owner.execute(BARE_TABLES)
        appends = Appends(audit, bench.size(ENTRIES))
        used = audit.cpu_seconds()
        pair = await in_turns(appends.through_the_service, appends.by_copy, bench.rounds)
        entries = await audit.owner.fetchval(SIZE)
        used = audit.cpu_seconds() - used
    promise = Promise(at_least=8_000, ratio_at_least=0.3)
    facts = {"cpu_microseconds_per_entry": round(used / entries * 1e6, 1), "batch": BATCH}
    return [Figure("appends", "entries/s", pair, "rows/s by COPY", promise, facts)]
