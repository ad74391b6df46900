"""Policies and marks on the whole product: what the other two services see of them."""

from typing import Any

import pytest
from release_manager.catalog.v1 import catalog_pb2
from release_manager.deployment.v1 import deployment_pb2 as pb

from shared.errors import ResourceArchived, ResourceReferenced
from tests.rpc.catalog.calls import Catalog
from tests.rpc.catalog.conftest import refusal
from tests.rpc.deployment.conftest import call, missing, told
from tests.support.platform import Platform

pytestmark = pytest.mark.asyncio(loop_scope="session")

APPROVALS = {
    catalog_pb2.ENVIRONMENT_TYPE_DEV: 0,
    catalog_pb2.ENVIRONMENT_TYPE_STAGING: 1,
    catalog_pb2.ENVIRONMENT_TYPE_PROD: 2,
}


@pytest.mark.parametrize("kind", APPROVALS, ids=catalog_pb2.EnvironmentType.Name)
async def test_a_new_environment_has_the_policy_of_its_type(
    catalog: Catalog, kind: catalog_pb2.EnvironmentType.ValueType
) -> None:
    made = await catalog.make("environment", type=kind)
    assert made.policy_version == 0
    found = await call(catalog.platform, "GetPolicy", "viewer1", environment=made.name)
    assert (found.policy.version, found.in_force) == (0, True)
    assert found.policy.policy.required_approvals == APPROVALS[kind]
    listed = await call(catalog.platform, "ListPolicyVersions", "viewer1", environment=made.id)
    assert not listed.versions
    by_default = found.policy.policy
    same = await call(
        catalog.platform,
        "PublishPolicy",
        "admin",
        environment=made.id,
        policy=by_default,
        reason="test",
    )
    assert (same.policy.version, list(same.audit.event_ids)) == (0, [])


async def test_the_catalog_shows_which_policy_is_in_force(catalog: Catalog) -> None:
    made = await catalog.make("environment")
    published = await call(
        catalog.platform,
        "PublishPolicy",
        "admin",
        environment=made.name,
        policy=pb.Policy(required_approvals=1),
        reason="four eyes",
    )
    found = await catalog.get("environment", made.id)
    assert (found.policy_version, found.etag) == (1, made.etag)
    changed = await catalog.do("Update", "environment", made.id, description="new", etag=made.etag)
    assert changed.policy_version == 1
    (entry,) = await told(catalog.platform, "policy", made.id, published.audit.event_ids[0])
    assert (entry.action, entry.aggregate_seq) == ("publish", 1)
    details: Any = entry.details
    sides = [details[side]["required_approvals"] for side in ("before", "after")]
    assert sides == [0, 1]
    assert details["reason"] == "four eyes"
    assert await missing(catalog.platform) == 0


async def test_what_the_seed_has_published_is_followed_by_the_next(platform: Platform) -> None:
    seeded = await call(platform, "GetPolicy", "viewer1", environment="prod")
    assert (seeded.policy.version, seeded.policy.published_by) == (1, "admin")
    assert seeded.policy.reason
    policy = pb.Policy()
    policy.CopyFrom(seeded.policy.policy)
    policy.required_approvals = 3
    made = await call(
        platform,
        "PublishPolicy",
        "admin",
        environment="prod",
        policy=policy,
        reason="audit finding",
        expected_version=1,
    )
    assert made.policy.version == 2
    assert made.affected_deployments == 1  # the seeded one, which one person has approved
    (entry,) = await told(platform, "policy", made.policy.environment_id, made.audit.event_ids[0])
    assert entry.aggregate_seq == 1
    assert await missing(platform) == 0
    listed = await call(platform, "ListPolicyVersions", "viewer1", environment="prod")
    assert [version.version for version in listed.versions] == [2, 1]


async def test_an_archived_environment_gets_no_policy(catalog: Catalog) -> None:
    made = await catalog.make("environment")
    await catalog.do("Archive", "environment", made.id)
    policy = pb.Policy(required_approvals=1)
    fields = {"environment": made.id, "policy": policy, "reason": "test"}
    error = await refusal(call(catalog.platform, "PublishPolicy", "admin", **fields))
    assert isinstance(error, ResourceArchived)
    await catalog.do("Unarchive", "environment", made.id)
    published = await call(catalog.platform, "PublishPolicy", "admin", **fields)
    assert published.policy.version == 1
    await catalog.do("Delete", "environment", made.id)
    assert await missing(catalog.platform) == 0


async def test_marks_are_in_the_trail_of_the_release(catalog: Catalog) -> None:
    platform = catalog.platform
    service, place = await catalog.make("service"), await catalog.make("environment")
    release = await catalog.published(service.name, "1.0.0")
    name = f"{service.name}@1.0.0"
    given = {"release": name, "environment": place.name, "reason": "leaks"}
    marked = await call(platform, "MarkReleaseBad", "lead1", **given)
    (entry,) = await told(platform, "release", release.id, marked.audit.event_ids[0])
    assert (entry.action, entry.aggregate) == ("mark_bad", f"release_mark:{marked.mark.id}")
    error = await catalog.refused("DeleteEnvironment", environment=place.id)
    assert isinstance(error, ResourceReferenced)
    assert error.facts["used_by"] == "a mark of a release"
    cleared = await call(platform, "ClearReleaseBad", "lead1", **given)
    (entry,) = await told(platform, "release", release.id, cleared.audit.event_ids[0])
    assert (entry.action, entry.aggregate_seq) == ("clear_bad", 2)
    assert await missing(platform) == 0
