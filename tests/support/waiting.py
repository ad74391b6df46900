"""Requests that wait for something, and what they wait for."""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

from google.protobuf.timestamp_pb2 import Timestamp
from release_manager.deployment.v1 import deployment_pb2 as pb

from tests.support.deployments import World
from tests.support.polling import eventually
from tests.support.publishing import publish

Result = TypeVar("Result")
Other = TypeVar("Other")


async def queueing(world: World, environment: str, mode: str, **policy: Any) -> None:
    """Publish a policy with a mode: `queue`, `supersede` or `reject`."""
    number = pb.QueueMode.Value(f"QUEUE_MODE_{mode.upper()}")
    await publish(world, environment, pb.Policy(queue=number, **policy))


def blocker(deployment: pb.Deployment, gate: str) -> pb.Blocker | None:
    """Return what one gate says against a start, None if it says nothing."""
    return next((one for one in deployment.blockers if one.gate == gate), None)


@dataclass
class Edge:
    """Finds the delay between two calls at which either may come first, however busy a machine is.

    Whoever came first begins later in the next round: by twice as much as the last time if it
    came first then too, and by half as much if it did not.
    """

    ahead: float = 0.0
    step: float = 0.004
    seen: list[bool] = field(default_factory=list)

    def between(
        self, first: Awaitable[Result], second: Awaitable[Other]
    ) -> tuple[Awaitable[Result], Awaitable[Other]]:
        """Return both calls with the delays of the next round."""
        return _later(first, -self.ahead), _later(second, self.ahead)

    def note(self, *, second_won: bool) -> None:
        """Note who came first in this round."""
        again = bool(self.seen) and self.seen[-1] is second_won
        self.step *= 2 if again else 0.5
        self.seen.append(second_won)
        self.ahead += self.step if second_won else -self.step

    @property
    def both(self) -> bool:
        """Whether each has come first in some round."""
        return set(self.seen) == {True, False}


async def _later(call: Awaitable[Result], seconds: float) -> Result:
    await asyncio.sleep(max(0.0, seconds))
    return await call


async def waits_for_a_lock(world: World) -> None:
    """Wait until a change of the service waits for somebody else's."""
    waiting = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name = 'deployment' AND wait_event_type = 'Lock'"
    )
    await eventually(lambda: world.database.fetchval(waiting), 20, 0.02)


async def database_time(world: World) -> datetime:
    """Return the time by the clock that decides."""
    now: datetime = await world.database.fetchval("SELECT clock_timestamp()")
    return now


async def until(world: World, moment: Timestamp) -> None:
    """Wait until the database's clock has passed a moment in the near future."""

    async def has_passed() -> bool:
        return await database_time(world) >= moment.ToDatetime(UTC)

    await eventually(has_passed, 20)


def stamp(moment: datetime) -> Timestamp:
    """Return a time as messages have it."""
    made = Timestamp()
    made.FromDatetime(moment)
    return made
