"""Denied calls of real processes: an orderly stop loses none, and a kill only the open window."""

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import AsyncExitStack

import asyncpg
import grpc
import pytest
from release_manager.catalog.v1 import catalog_pb2, catalog_pb2_grpc
from release_manager.deployment.v1 import deployment_pb2, deployment_pb2_grpc

from tests.support.machine import Machine, own_environment

pytestmark = pytest.mark.timeout(300)
CALLS = 150


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    with own_environment() as made:
        yield {**made, "BCRYPT_ROUNDS": "4"}


async def knock(environment: dict[str, str]) -> None:
    """Call both services without credentials, often."""
    async with AsyncExitStack() as stack:
        channels = [
            await stack.enter_async_context(
                grpc.aio.insecure_channel(environment[f"{name}_ADDRESS"])
            )
            for name in ("CATALOG", "DEPLOYMENT")
        ]
        catalog = catalog_pb2_grpc.CatalogServiceStub(channels[0])
        deployment = deployment_pb2_grpc.DeploymentServiceStub(channels[1])
        for _ in range(CALLS):
            for call in (
                catalog.ListTeams(catalog_pb2.ListTeamsRequest()),
                deployment.ListDeployments(deployment_pb2.ListDeploymentsRequest()),
            ):
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await call
                assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def counts(machine: Machine) -> dict[str, int]:
    """Return how many denied calls of each service the outboxes tell of, sent or not."""
    connection = await asyncpg.connect(machine.database_url())
    try:
        rows = await connection.fetch(
            "SELECT producer, sum((event->'details'->>'count')::integer)::integer"
            " FROM outbox WHERE event->>'action' = 'call_denied' GROUP BY producer"
        )
    finally:
        await connection.close()
    return {row[0]: row[1] for row in rows}


async def test_an_orderly_stop_writes_what_was_held_back(environment: dict[str, str]) -> None:
    with Machine(environment) as machine:
        machine.wait_for("\nready\n")
        await knock(environment)
        before = await counts(machine)
        assert 2 <= sum(before.values()) < 2 * CALLS
    with Machine(environment) as machine:
        machine.wait_for("\nready\n")
        assert await counts(machine) == {"catalog": CALLS, "deployment": CALLS}


async def test_a_kill_leaves_the_first_of_each_kind(environment: dict[str, str]) -> None:
    with Machine(environment) as machine:
        machine.wait_for("\nready\n")
        await knock(environment)
        await asyncio.sleep(0.5)
        for name in ("catalog", "deployment"):
            os.kill(machine.children()[name], signal.SIGKILL)
        found = await counts(machine)
    assert found.keys() == {"catalog", "deployment"}
    assert all(1 <= count <= CALLS for count in found.values())
