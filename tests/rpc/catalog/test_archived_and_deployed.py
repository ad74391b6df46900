"""Nothing that is archived is deployed, and nothing that is being deployed is archived."""

import asyncio

import grpc
import pytest
import pytest_asyncio
from release_manager.deployment.v1 import deployment_pb2 as pb

from tests.rpc.catalog.calls import Catalog
from tests.support.platform import Platform
from tests.support.raw_calls import Metadata

pytestmark = pytest.mark.asyncio(loop_scope="session")
ROUNDS = 12


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def catalog(platform: Platform) -> Catalog:
    return Catalog(platform)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def admin(platform: Platform) -> Metadata:
    return await platform.person("admin")


async def deploy(catalog: Catalog, admin: Metadata, release: str, place: str) -> str:
    """Ask for a deployment; return its id, or the reason of the refusal."""
    request = pb.CreateDeploymentRequest(release=release, environment=place)
    try:
        made = await catalog.platform.deployment.CreateDeployment(request, metadata=admin)
    except grpc.aio.AioRpcError as refused:
        return refused.details() or ""
    return str(made.deployment.id)


@pytest.mark.parametrize("kind", ["service", "environment", "release"])
async def test_what_is_archived_is_not_deployed(
    catalog: Catalog, admin: Metadata, kind: str
) -> None:
    place = await catalog.make("environment", promotion_order=0)
    service = await catalog.make("service")
    release = await catalog.published(service.name, "1.0.0")
    ids = {"service": service.id, "environment": place.id, "release": release.id}
    await catalog.do("Archive", kind, ids[kind])
    refused = await deploy(catalog, admin, release.name, place.id)
    assert "archived" in refused
    await catalog.do("Unarchive", kind, ids[kind])
    assert "archived" not in await deploy(catalog, admin, release.name, place.id)


@pytest.mark.parametrize("kind", ["service", "environment", "release"])
async def test_of_archiving_and_deploying_at_once_one_wins(
    catalog: Catalog, admin: Metadata, kind: str
) -> None:
    for _ in range(ROUNDS):
        place = await catalog.make("environment", promotion_order=0)
        service = await catalog.make("service")
        release = await catalog.published(service.name, "1.0.0")
        named = {"service": service.id, "environment": place.id, "release": release.id}[kind]
        asked = asyncio.create_task(deploy(catalog, admin, release.name, place.id))
        archiving = asyncio.create_task(catalog.do("Archive", kind, named))
        await asyncio.wait({asked, archiving})
        was_archived = archiving.exception() is None
        was_made = "archived" not in asked.result()
        assert was_archived != was_made, asked.result()
