"""Requests that wait for something, and what they wait for."""

import asyncio
from datetime import UTC, datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from release_manager.deployment.v1 import deployment_pb2 as pb

from tests.support.deployments import World
from tests.support.publishing import publish


async def requested(world: World, release: str, environment: str, **more: Any) -> pb.Deployment:
    """Request a deployment without stages."""
    request = pb.CreateDeploymentRequest(release=release, environment=environment, **more)
    answer: pb.CreateDeploymentResponse = await world.call("dev1", "CreateDeployment", request)
    return answer.deployment


async def queueing(world: World, environment: str, mode: str, **policy: Any) -> None:
    """Publish a policy with a mode: `queue`, `supersede` or `reject`."""
    number = pb.QueueMode.Value(f"QUEUE_MODE_{mode.upper()}")
    await publish(world, environment, pb.Policy(queue=number, **policy))


def blocker(deployment: pb.Deployment, gate: str) -> pb.Blocker | None:
    """Return what one gate says against a start, None if it says nothing."""
    return next((one for one in deployment.blockers if one.gate == gate), None)


async def database_time(world: World) -> datetime:
    """Return the time by the clock that decides."""
    now: datetime = await world.database.fetchval("SELECT clock_timestamp()")
    return now


async def until(world: World, moment: Timestamp) -> None:
    """Wait until the database's clock has passed a moment in the near future."""
    async with asyncio.timeout(20):
        while await database_time(world) < moment.ToDatetime(UTC):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


def stamp(moment: datetime) -> Timestamp:
    """Return a time as messages have it."""
    made = Timestamp()
    made.FromDatetime(moment)
    return made
