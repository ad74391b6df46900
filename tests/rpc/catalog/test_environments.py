"""Environments: what they are for is for ever, and what refers to one keeps it."""

import pytest
import pytest_asyncio
from release_manager.catalog.v1 import catalog_pb2 as pb
from release_manager.deployment.v1 import deployment_pb2

from shared.errors import ResourceArchived, ResourceReferenced, ValidationFailed
from tests.rpc.catalog.calls import Catalog
from tests.support.platform import Platform

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def catalog(platform: Platform) -> Catalog:
    return Catalog(platform)


async def test_the_place_in_the_order_can_be_changed_also_to_the_first(catalog: Catalog) -> None:
    made = await catalog.make("environment", promotion_order=700)
    changed = await catalog.do("Update", "environment", made.id, promotion_order=800)
    assert (changed.promotion_order, changed.etag) == (800, "2")
    first = await catalog.do("Update", "environment", made.id, mask=["promotion_order"])
    assert (first.promotion_order, first.etag) == (0, "3")
    for wrong in (-1, 1001):
        error = await catalog.refused(
            "UpdateEnvironment", environment=made.id, promotion_order=wrong
        )
        assert isinstance(error, ValidationFailed)
    await catalog.do("Delete", "environment", made.id)


async def test_the_type_is_for_ever(catalog: Catalog) -> None:
    made = await catalog.make("environment", type=pb.ENVIRONMENT_TYPE_STAGING)
    error = await catalog.refused("UpdateEnvironment", environment=made.id, mask=["type"])
    assert isinstance(error, ValidationFailed)
    assert "description, name, promotion_order" in error.facts["first"]
    assert "type" not in pb.UpdateEnvironmentRequest.DESCRIPTOR.fields_by_name


async def test_an_environment_is_not_archived_while_something_is_deployed_there(
    catalog: Catalog,
) -> None:
    place = await catalog.make("environment", promotion_order=0)
    service = await catalog.make("service")
    release = await catalog.published(service.name, "1.0.0")
    how = {"metadata": await catalog.platform.person("admin")}
    made = await catalog.platform.deployment.CreateDeployment(
        deployment_pb2.CreateDeploymentRequest(release=release.name, environment=place.id), **how
    )
    error = await catalog.refused("ArchiveEnvironment", environment=place.id)
    assert isinstance(error, ResourceReferenced)
    assert error.facts["used_by"] == "a deployment that is not finished"
    await catalog.platform.deployment.CancelDeployment(
        deployment_pb2.CancelDeploymentRequest(deployment=made.deployment.id, reason="test"), **how
    )
    error = await catalog.refused("DeleteEnvironment", environment=place.id)
    assert isinstance(error, ResourceReferenced)
    assert error.facts["used_by"] == "a deployment"
    assert (await catalog.do("Archive", "environment", place.id)).HasField("archived_at")


async def test_everything_about_runbooks_keeps_an_environment(catalog: Catalog) -> None:
    place, other = await catalog.make("environment"), await catalog.make("environment")
    runbook = await catalog.make("runbook", environment=place.name)

    async def keeps() -> str:
        error = await catalog.refused("DeleteEnvironment", environment=place.id)
        assert isinstance(error, ResourceReferenced)
        return error.facts["used_by"]

    assert await keeps() in {"a runbook", "a version of a runbook"}
    await catalog.do("Publish", "runbook", runbook.id)
    await catalog.do("Update", "runbook", runbook.id, environment=other.id)
    await catalog.do("Publish", "runbook", runbook.id)
    assert await keeps() == "a version of a runbook"
    alone = await catalog.make("environment")
    await catalog.call(
        "RecordRunbookExecution",
        runbook=runbook.id,
        outcome=pb.RUNBOOK_OUTCOME_FAILED,
        environment=alone.name,
    )
    error = await catalog.refused("DeleteEnvironment", environment=alone.id)
    assert isinstance(error, ResourceReferenced)
    assert error.facts["used_by"] == "an execution of a runbook"


async def test_nothing_new_refers_to_an_archived_environment(catalog: Catalog) -> None:
    place = await catalog.make("environment")
    runbook = await catalog.make("runbook")
    await catalog.do("Publish", "runbook", runbook.id)
    await catalog.do("Archive", "environment", place.id)
    outcome = pb.RUNBOOK_OUTCOME_FAILED
    for rpc, fields in (
        ("CreateRunbook", {"service": "auth", "title": "T", "content": "C"}),
        ("UpdateRunbook", {"runbook": runbook.id}),
        ("RecordRunbookExecution", {"runbook": runbook.id, "outcome": outcome}),
    ):
        error = await catalog.refused(rpc, **fields, environment=place.id)
        assert isinstance(error, ResourceArchived), rpc
        assert error.facts == {"resource_type": "environment", "resource": place.name}
