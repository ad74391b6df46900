"""Calls of the deployment process on the whole product, and what the ledger has of them."""

from typing import Any

import pytest_asyncio
from release_manager.deployment.v1 import deployment_pb2, restrictions_pb2

from tests.rpc.catalog.calls import Catalog
from tests.rpc.catalog.conftest import entries
from tests.support.platform import Platform
from tests.support.polling import eventually


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def catalog(platform: Platform) -> Catalog:
    return Catalog(platform)


async def call(platform: Platform, rpc: str, by: str, /, **fields: Any) -> Any:
    """Call the service of deployments or that of restrictions."""
    stub: Any = platform.restrictions
    messages: Any = restrictions_pb2
    if not hasattr(stub, rpc):
        stub, messages = platform.deployment, deployment_pb2
    request = getattr(messages, f"{rpc}Request")(**fields)
    return await getattr(stub, rpc)(request, metadata=await platform.person(by))


async def told(platform: Platform, kind: str, resource_id: str, *event_ids: str) -> list[Any]:
    """Return entries of the ledger, once they are there."""

    async def all_of_them() -> list[Any] | None:
        found = {entry.event_id: entry for entry in await entries(platform, kind, resource_id)}
        is_there = set(event_ids) <= found.keys()
        return [found[event_id] for event_id in event_ids] if is_there else None

    return await eventually(all_of_them)


async def missing(platform: Platform) -> int:
    """Return how many versions the ledger lacks that are not on their way."""
    return int((await call(platform, "ReconcileAudit", "admin")).missing)
