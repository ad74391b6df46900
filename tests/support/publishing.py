"""Publishing policies and marking releases in a world, and calls that are made to wait."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from release_manager.deployment.v1 import deployment_pb2 as pb

from tests.support.deployments import World
from tests.support.polling import eventually


async def publish(
    world: World,
    environment: str,
    policy: pb.Policy | None = None,
    *,
    who: str = "admin",
    **more: Any,
) -> pb.PublishPolicyResponse:
    """Publish a policy."""
    request = pb.PublishPolicyRequest(
        environment=environment, policy=policy or pb.Policy(), **({"reason": "a test"} | more)
    )
    answer: pb.PublishPolicyResponse = await world.call(who, "PublishPolicy", request)
    return answer


async def approved(world: World, app: str, place: str) -> pb.Deployment:
    """Publish a policy of one approval, and return a deployment that has it."""
    await publish(world, place, pb.Policy(required_approvals=1))
    made = await world.create(await world.release(f"{app}@1"), place)
    return await world.approve(made.id, "dev3")


async def policy_of(
    world: World, environment: str, version: int | None = None
) -> pb.GetPolicyResponse:
    """Return a policy, the one in force for None."""
    request = pb.GetPolicyRequest(environment=environment, version=version)
    answer: pb.GetPolicyResponse = await world.call("viewer1", "GetPolicy", request)
    return answer


async def mark(
    world: World, release: str, environment: str = "", *, who: str = "lead1", **more: Any
) -> pb.MarkReleaseBadResponse:
    """Mark a release as bad."""
    request = pb.MarkReleaseBadRequest(
        release=release, environment=environment, **({"reason": "it leaks"} | more)
    )
    answer: pb.MarkReleaseBadResponse = await world.call(who, "MarkReleaseBad", request)
    return answer


async def clear(
    world: World, release: str, environment: str = "", *, who: str = "lead1", **more: Any
) -> pb.ClearReleaseBadResponse:
    """Take a mark away."""
    request = pb.ClearReleaseBadRequest(
        release=release, environment=environment, **({"reason": "mended"} | more)
    )
    answer: pb.ClearReleaseBadResponse = await world.call(who, "ClearReleaseBad", request)
    return answer


async def told(world: World, event_id: str) -> Any:
    """Return an event as it goes to the ledger."""
    found = await world.database.fetchval("SELECT event FROM outbox WHERE event_id = $1", event_id)
    return json.loads(found)


@asynccontextmanager
async def releases_held(world: World, service: str) -> AsyncIterator[None]:
    """Keep whatever is about releases of a service waiting, after it has taken its pair."""
    async with world.database.acquire() as connection, connection.transaction():
        service_id = world.services[service]
        await connection.execute(
            "SELECT FROM releases WHERE service_id = $1 FOR UPDATE", service_id
        )
        yield


@asynccontextmanager
async def held_up(world: World, username: str) -> AsyncIterator[None]:
    """Keep changes by somebody from being stored, after they have taken their locks.

    What they write refers to their user, whose row is held until the block ends.
    """
    async with world.database.acquire() as connection, connection.transaction():
        await connection.execute("SELECT FROM users WHERE username = $1 FOR UPDATE", username)
        yield


async def until_waiting(world: World, count: int) -> None:
    """Wait until this many changes wait for a lock."""
    waiting = (
        "SELECT count(*) = $1 FROM pg_stat_activity WHERE datname = current_database()"
        " AND wait_event_type = 'Lock' AND usename = current_user"
    )
    await eventually(lambda: world.database.fetchval(waiting, count), every=0.02)
