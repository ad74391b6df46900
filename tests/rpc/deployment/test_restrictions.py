"""Locks and overrides on the whole product: what the other two services see of them."""

from typing import Any

import pytest
from release_manager.deployment.v1 import deployment_pb2, restrictions_pb2

from shared.errors import GateUnsatisfied, ResourceReferenced
from tests.rpc.catalog.calls import Catalog
from tests.rpc.catalog.conftest import refusal
from tests.rpc.deployment.conftest import call, missing, told

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def waiting(catalog: Catalog) -> tuple[Any, Any, Any]:
    """Return a service, an environment before all others, and a deployment that waits there."""
    service = await catalog.make("service")
    place = await catalog.make("environment", promotion_order=0)
    await catalog.published(service.name, "1.0.0")
    made = await call(
        catalog.platform,
        "CreateDeployment",
        "dev1",
        release=f"{service.name}@1.0.0",
        environment=place.name,
    )
    return service, place, made.deployment


async def test_a_lock_is_in_the_trail_and_keeps_what_it_is_about(catalog: Catalog) -> None:
    platform = catalog.platform
    service, place = await catalog.make("service"), await catalog.make("environment")
    made = await call(
        platform,
        "CreateLock",
        "lead1",
        service=service.name,
        environment=place.name,
        reason="incident",
    )
    lock = made.lock
    assert (lock.service_id, lock.environment_id) == (service.id, place.id)
    for rpc, kind, resource in (
        ("DeleteService", "service", service),
        ("DeleteEnvironment", "environment", place),
    ):
        error = await catalog.refused(rpc, **{kind: resource.id})
        assert isinstance(error, ResourceReferenced)
        assert error.facts["used_by"] == "a lock"
    gone = await call(platform, "ReleaseLock", "lead2", lock=lock.id, reason="over")
    ids = (made.audit.event_ids[0], gone.audit.event_ids[0])
    trail = await told(platform, "lock", lock.id, *ids)
    assert [(entry.action, entry.aggregate_seq) for entry in trail] == [("lock", 1), ("unlock", 2)]
    assert trail[0].user_id == lock.locked_by_id != trail[1].user_id
    read = await call(platform, "GetLock", "viewer1", lock=lock.id)
    assert read.lock == gone.lock
    assert await missing(platform) == 0


async def test_an_override_is_in_the_trail_of_its_deployment(catalog: Catalog) -> None:
    platform = catalog.platform
    service, _, deployment = await waiting(catalog)
    await call(platform, "CreateLock", "lead1", service=service.name, reason="incident")
    error = await refusal(call(platform, "StartDeployment", "dev1", deployment=deployment.id))
    assert isinstance(error, GateUnsatisfied)
    made = await call(
        platform,
        "OverrideGate",
        "lead1",
        deployment=deployment.id,
        gate=restrictions_pb2.OVERRIDABLE_GATE_LOCK,
        reason="the fix itself",
    )
    of_gate, of_deployment = made.audit.event_ids
    (entry,) = await told(platform, "gate_override", made.override.id, of_gate)
    assert (entry.action, entry.user_id) == ("override", made.override.author_id)
    assert entry.details["reason"] == "the fix itself"
    (entry,) = await told(platform, "deployment", deployment.id, of_deployment)
    assert (entry.action, entry.aggregate_seq) == ("override", 2)
    listed = await call(platform, "ListOverrides", "viewer1", service=service.name)
    assert list(listed.overrides) == [made.override]
    started = await call(platform, "StartDeployment", "dev1", deployment=deployment.id)
    assert list(started.deployment.overrides) == [made.override]
    assert await missing(platform) == 0


async def test_the_owner_of_a_program_does_not_confirm_its_override(catalog: Catalog) -> None:
    platform = catalog.platform
    _, place, deployment = await waiting(catalog)
    policy = deployment_pb2.Policy(
        required_approvals=1, lead_required=True, author_may_approve=True
    )
    await call(
        platform, "PublishPolicy", "admin", environment=place.id, policy=policy, reason="test"
    )

    async def who_can() -> set[str]:
        found = await call(platform, "GetDeployment", "dev1", deployment=deployment.id)
        (blocker,) = found.deployment.blockers
        return set(blocker.people)

    before = await who_can()
    assert {"admin", "lead1"} <= before
    await platform.restrictions.OverrideGate(
        restrictions_pb2.OverrideGateRequest(
            deployment=deployment.id,
            gate=restrictions_pb2.OVERRIDABLE_GATE_FREEZE,
            reason="the program knows",
        ),
        metadata=await platform.program("lead"),  # it belongs to admin
    )
    assert await who_can() == before - {"admin"}
