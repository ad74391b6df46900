"""Lists and point reads of a ledger of five million entries, against one of ten thousand.

Both lie in one PostgreSQL, over the same months; each page is asked of both in turns. What counts
is how much slower the 95th percentile is with five hundred times the entries.
"""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from release_manager.audit.v1 import audit_pb2 as pb

from benchmarks import past
from benchmarks.figures import Figure, Pair, Promise, percentile
from benchmarks.past import Past
from benchmarks.stage import Audit, Bench

SMALL = 10_000
LARGE = 5_000_000
MONTHS = 13
# Calls of each kind in a round; the percentile needs some.
CALLS = 30
WARMING = 4
WORST = 1.5

Call = Callable[[], Awaitable[Any]]


@dataclass(frozen=True)
class Side:
    """One ledger, its service, and what is in it."""

    audit: Audit
    past: Past

    def listing(self, token: str = "", **asked: Any) -> Call:  # noqa: ANN401
        """Return the call of a page."""
        request = pb.ListAuditLogsRequest(page_token=token, **asked)
        return lambda: self.audit.stub.ListAuditLogs(request, metadata=self.audit.metadata)

    def reading(self, **key: Any) -> Call:  # noqa: ANN401
        """Return the call of a point read."""
        request = pb.GetAuditLogRequest(**key)
        return lambda: self.audit.stub.GetAuditLog(request, metadata=self.audit.metadata)


async def run(bench: Bench) -> Sequence[Figure]:
    """Measure each kind of page; the worst ratio comes last."""
    until = datetime.now(UTC)
    async with AsyncExitStack() as stack:
        sides = []
        for entries in (SMALL, bench.size(LARGE)):
            audit = await stack.enter_async_context(bench.audit({"LEDGER_VERIFY_DAYS": "0"}))
            sides.append(Side(audit, await past.fill(audit.owner, entries, MONTHS, until)))
        calls = [await _calls(side) for side in sides]
        figures = [await _figure(name, calls[1][name], calls[0][name]) for name in calls[0]]
    return sorted(figures, key=lambda figure: figure.pair.ratio or 0)


async def _figure(name: str, large: Call, small: Call) -> Figure:
    spent: tuple[list[float], list[float]] = ([], [])
    for number in range(WARMING + CALLS):
        both = ((large, spent[0]), (small, spent[1]))
        for call, milliseconds in both if number % 2 else reversed(both):
            began = time.perf_counter()
            await call()
            if number >= WARMING:
                milliseconds.append((time.perf_counter() - began) * 1_000)
    pair = Pair([percentile(spent[0], 0.95)], [percentile(spent[1], 0.95)])
    facts = {"median": percentile(spent[0], 0.5), "median of the small": percentile(spent[1], 0.5)}
    return Figure(f"page: {name}", "ms", pair, "10 k", Promise(ratio_at_most=WORST), facts)


async def _calls(side: Side) -> Mapping[str, Call]:
    """Return every kind of call, by name."""
    calls: dict[str, Call] = {}
    for name, wanted in _filters(side.past).items():
        for oldest_first in (False, True):
            order = "oldest first" if oldest_first else "newest first"
            filter_ = pb.AuditLogFilter(**wanted)
            calls[f"{name}, {order}"] = side.listing(filter=filter_, oldest_first=oldest_first)
    calls["the last one, by token"] = await _last_page(side)
    calls["with a total"] = side.listing(
        include_total=True, filter=pb.AuditLogFilter(action="deploy")
    )
    calls["one entry by position"] = side.reading(leaf_index=side.past.entries // 2)
    middle = await calls["one entry by position"]()
    calls["one entry by id"] = side.reading(id=middle.audit_log.id)
    return calls


def _filters(made: Past) -> Mapping[str, Mapping[str, Any]]:
    middle = made.months[len(made.months) // 2]
    resource = past.resource_id(made.entries // 2)
    rare: dict[str, Any] = {"incident": "INC-1"}
    return {
        "no filter": {},
        "all categories": {"category": pb.AUDIT_CATEGORY_ALL},
        "category change": {"category": pb.AUDIT_CATEGORY_CHANGE},
        "category access": {"category": pb.AUDIT_CATEGORY_ACCESS},
        "category security": {"category": pb.AUDIT_CATEGORY_SECURITY},
        "user, busy": {"user": "user0"},
        "user, rare": {"user": past.RARE_USER},
        "user, none": {"user": past.IDLE_USER},
        "action, frequent": {"action": "deploy"},
        "action, rare": {"action": past.RARE_ACTION},
        "action, none": {"action": "nothing"},
        "type, frequent": {"resource_type": "deployment"},
        "type, rare": {"resource_type": past.RARE_TYPE},
        "resource": {"resource_id": resource},
        "resource, none": {"resource_id": "nothing"},
        "producer, frequent": {"producer": "deployment"},
        "producer, rare": {"producer": past.RARE_PRODUCER},
        "from a date": {"start_date": middle},
        "to a date": {"end_date": middle},
        "one week": {"start_date": middle, "end_date": middle + timedelta(days=7)},
        "details, frequent": {"details": {"environment": "Prod"}},
        "details, one in 24": {"details": {"environment": "Prod", "service": "auth"}},
        "details, rare": {"details": rare},
        "details, none": {"details": {"incident": "INC-2"}},
        "details, nested": {"details": {"gates": [{"name": "approval"}]}},
        "user and action": {"user": "user0", "action": "deploy"},
        "user and a rare action": {"user": "user0", "action": past.RARE_ACTION},
        "type and resource": {"resource_type": "deployment", "resource_id": resource},
        "producer and type": {"producer": "deployment", "resource_type": "release"},
        "action and details": {"action": "deploy", "details": {"environment": "Prod"}},
        "action and rare details": {"action": "deploy", "details": rare},
        "user to a date": {"user": "user0", "end_date": middle},
        "rare details to a date": {"details": rare, "end_date": middle},
    }


async def _last_page(side: Side) -> Call:
    """Return the call of the page that holds the oldest entries, by a token."""
    request = pb.ListAuditLogsRequest(page_size=150, oldest_first=True)
    oldest = await side.audit.stub.ListAuditLogs(request, metadata=side.audit.metadata)
    wanted = pb.AuditLogFilter(end_date=oldest.audit_logs[-1].created_at)
    page = await side.listing(filter=wanted)()
    return side.listing(page.next_page_token, filter=wanted)
