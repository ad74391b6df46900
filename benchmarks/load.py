"""Load: many calls in flight, and events such as the other services send."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from datetime import UTC, datetime
from itertools import count

from release_manager.audit.v1 import audit_pb2 as pb

from benchmarks.stage import USERS
from shared.ids import new_id

ACTIONS = ("create", "update", "deploy", "approve", "promote", "complete")
KINDS = ("release", "deployment", "service", "team", "runbook")
ENVIRONMENTS = ("development", "staging", "prod")


async def in_flight(most: int, calls: Iterable[Callable[[], Awaitable[object]]]) -> float:
    """Make all calls, so many at a time; return how many seconds it took."""
    waiting = iter(calls)

    async def worker() -> None:
        for call in waiting:
            await call()

    began = time.perf_counter()
    async with asyncio.TaskGroup() as workers:
        for _ in range(most):
            workers.create_task(worker())
    return time.perf_counter() - began


def new_events(seed: int = 0) -> Iterator[pb.AuditEvent]:
    """Make events without end, each with ids of its own and details of about 220 bytes."""
    chance = random.Random(seed)  # noqa: S311  (nothing secret)
    for number in count(1):
        event = pb.AuditEvent(
            event_id=str(new_id()),
            user=chance.choice(USERS),
            action=chance.choice(ACTIONS),
            resource_type=chance.choice(KINDS),
            resource_id=str(new_id()),
            ip_address=f"10.1.{chance.randrange(4)}.{chance.randrange(256)}",
            user_agent="grpc-python/1.85.1 grpc-c/53.0.0 (linux; chttp2)",
            aggregate=f"deployment:{new_id()}",
            aggregate_seq=1,
        )
        event.occurred_at.FromDatetime(datetime.now(UTC))
        event.details.update(
            {
                "service": f"service-{number % 200}",
                "environment": chance.choice(ENVIRONMENTS),
                "version": f"1.{number % 40}.{number % 7}",
                "strategy": "canary",
                "before": {"status": "pending", "stage": None},
                "after": {"status": "in-progress", "stage": 1 + number % 5},
                "approved": True,
                "reason": "Scheduled release of the week, see the plan",
            }
        )
        yield event
