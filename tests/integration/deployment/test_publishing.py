"""Publishing policies: one version after the other, each as a whole, and what each changes."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from release_manager.common.v1 import access_pb2
from release_manager.deployment.v1 import deployment_pb2 as pb

from shared.domain_error import DomainError
from shared.errors import (
    EtagMismatch,
    GateUnsatisfied,
    ResourceArchived,
    ResourceNotFound,
    ValidationFailed,
)
from shared.ids import new_id
from tests.support.deployments import World
from tests.support.publishing import approved, policy_of, publish, told

pytestmark = pytest.mark.asyncio(loop_scope="session")

ONE, TWO = pb.Policy(required_approvals=1), pb.Policy(required_approvals=2)
FREE = pb.Policy()


async def test_version_0_is_the_default_of_the_type(world: World) -> None:
    for environment, expected in (("Dev", 0), ("Staging", 1), ("Prod", 2)):
        found = await policy_of(world, environment.lower(), 0)
        assert (found.policy.version, found.in_force) == (0, environment != "Prod")
        assert found.policy.environment == environment
        assert found.policy.environment_id == str(world.environments[environment])
        assert found.policy.policy.required_approvals == expected
        assert not found.policy.HasField("created_at")
        assert (found.policy.published_by, found.policy.reason) == ("", "")
    prod = (await policy_of(world, "prod", 0)).policy.policy
    assert prod == pb.Policy(
        required_approvals=2,
        minimum_role=access_pb2.ROLE_DEVELOPER,
        lead_required=True,
        decide_within=Duration(seconds=3 * 86_400),
        valid_for=Duration(seconds=86_400),
        on_failure=pb.ON_FAILURE_FAIL,
        soak=Duration(seconds=1_800),
        stable_after=Duration(seconds=600),
        strict_stages=["security_scan", "smoke_test"],
        explicit_target_role=access_pb2.ROLE_LEAD,
        in_progress_limit=Duration(seconds=86_400),
        paused_limit=Duration(seconds=3 * 86_400),
        cancel_timeout=Duration(seconds=300),
        queue=pb.QUEUE_MODE_QUEUE,
    )


async def test_what_is_published_is_in_force_as_a_whole(world: World, place: str) -> None:
    given = pb.Policy(
        required_approvals=3,
        minimum_role=access_pb2.ROLE_LEAD,
        lead_required=True,
        requester_may_approve=True,
        author_may_approve=True,
        decide_within=Duration(seconds=90, nanos=500_000_000),
        on_failure=pb.ON_FAILURE_PAUSE,
        strict_stages=["test", "build"],
        cancel_timeout=Duration(),
    )
    made = await publish(world, place, given, reason="from now on")
    assert made.policy.version == 1
    assert (made.policy.published_by, made.policy.reason) == ("admin", "from now on")
    assert made.policy.published_by_id == str(world.people["admin"])
    assert made.policy.HasField("created_at")
    stored = made.policy.policy
    assert stored.decide_within == given.decide_within
    assert not stored.HasField("valid_for")
    assert list(stored.strict_stages) == ["build", "test"]
    assert stored.soak == Duration()
    assert stored.queue == pb.QUEUE_MODE_SUPERSEDE  # as is usual for the type of the place
    assert stored.in_progress_limit.seconds == 86_400
    assert (await policy_of(world, place)).policy == made.policy
    second = await publish(world, place, stored, reason="the same", expected_version=1)
    assert second.policy == made.policy
    assert not second.audit.event_ids
    rejecting = pb.Policy(queue=pb.QUEUE_MODE_REJECT)
    third = await publish(world, place, rejecting, expected_version=1)
    assert (third.policy.version, third.policy.policy.queue) == (2, pb.QUEUE_MODE_REJECT)
    old = await policy_of(world, place, 1)
    assert (old.policy, old.in_force) == (made.policy, False)
    await world.check_events()


async def test_publishing_the_default_again_is_no_version(world: World, place: str) -> None:
    default = (await policy_of(world, place)).policy.policy
    same = await publish(world, place, default)
    assert (same.policy.version, list(same.audit.event_ids)) == (0, [])


async def test_both_versions_are_in_the_entry(world: World, place: str) -> None:
    await publish(world, place, ONE)
    made = await publish(world, place, TWO, reason="four eyes")
    event = await told(world, made.audit.event_ids[0])
    assert (event["action"], event["resourceType"]) == ("publish", "policy")
    assert (event["resourceId"], event["aggregateSeq"]) == (made.policy.environment_id, 2)
    details = event["details"]
    assert (details["reason"], details["environment"]) == ("four eyes", place)
    before, after = details["before"], details["after"]
    assert (before["policy_version"], after["policy_version"]) == (1, 2)
    assert (before["required_approvals"], after["required_approvals"]) == (1, 2)
    assert set(before) == set(after)


async def test_versions_are_listed_page_by_page(world: World, place: str) -> None:
    for number in range(1, 6):
        policy = pb.Policy(required_approvals=number)
        await publish(world, place, policy, reason=f"number {number}")
    request, seen = pb.ListPolicyVersionsRequest(environment=place, page_size=2), []
    while True:
        answer = await world.call("viewer1", "ListPolicyVersions", request)
        seen += [(entry.version, entry.reason) for entry in answer.versions]
        request.page_token = answer.next_page_token
        if not request.page_token:
            break
    assert seen == [(number, f"number {number}") for number in range(5, 0, -1)]


async def test_what_cannot_be_published_is_refused(world: World, place: str) -> None:
    async def refused(**request: Any) -> DomainError:
        usual: dict[str, Any] = {"environment": place, "policy": FREE, "reason": "test"}
        given = usual | request
        return await world.refused("admin", "PublishPolicy", pb.PublishPolicyRequest(**given))

    lead = access_pb2.ROLE_LEAD
    error = await refused(policy=pb.Policy(lead_required=True, minimum_role=lead))
    assert isinstance(error, ValidationFailed)
    fields = [violation.field for violation in error.fields]
    assert fields == ["policy.lead_required", "policy.minimum_role"]
    for policy in (
        pb.Policy(required_approvals=1, minimum_role=access_pb2.ROLE_VIEWER),
        pb.Policy(explicit_target_role=access_pb2.ROLE_VIEWER),
        pb.Policy(required_approvals=11),
        pb.Policy(required_approvals=1, valid_for=Duration()),
        pb.Policy(decide_within=Duration(seconds=-1)),
        pb.Policy(in_progress_limit=Duration()),
        pb.Policy(soak=Duration(seconds=31_536_001)),
        pb.Policy(strict_stages=["Smoke Test"]),
        pb.Policy(strict_stages=["build", "build"]),
    ):
        assert isinstance(await refused(policy=policy), ValidationFailed), policy
    assert isinstance(await refused(reason="  "), ValidationFailed)
    error = await refused(expected_version=4)
    assert isinstance(error, EtagMismatch)
    assert error.facts == {"resource_type": "policy", "current": "0"}
    assert isinstance(await refused(environment="nowhere"), ResourceNotFound)
    missing = pb.GetPolicyRequest(environment=place, version=9)
    assert isinstance(await world.refused("viewer1", "GetPolicy", missing), ResourceNotFound)
    await world.database.execute(
        "UPDATE environments SET archived_at = now() WHERE name = $1", place
    )
    assert isinstance(await refused(), ResourceArchived)
    assert (await policy_of(world, place)).policy.version == 0


async def test_rehearsals_and_repeats_publish_once(world: World, place: str) -> None:
    rehearsed = await publish(world, place, ONE, validate_only=True)
    assert rehearsed.policy.version == 1
    assert (await policy_of(world, place)).policy.version == 0
    request_id = str(new_id())
    first = await publish(world, place, ONE, request_id=request_id)
    await publish(world, place, TWO)
    again = await publish(world, place, ONE, request_id=request_id)
    assert again.policy == first.policy
    assert (await policy_of(world, place)).policy.version == 2


async def test_approvals_of_what_waits_become_void(world: World, place: str, app: str) -> None:
    ready = await approved(world, app, place)
    waiting = await world.create(await world.release(f"{app}-too@1"), place)
    made = await publish(
        world, place, pb.Policy(required_approvals=1, decide_within=Duration(seconds=3_600))
    )
    assert made.affected_deployments == 1
    for deployment in (ready, waiting):
        found = await world.get(deployment.id)
        assert (found.approvals_given, found.approvals_required) == (0, 1)
        assert [blocker.gate for blocker in found.blockers] == ["approval"]
        left = found.decide_by.ToDatetime(UTC) - datetime.now(UTC)
        assert timedelta(minutes=50) < left <= timedelta(hours=1)
    reminders = await world.database.fetch(
        "SELECT decide_by - p.created_at AS left FROM deployments d"
        " JOIN environment_policies p USING (environment_id)"
        " WHERE environment_id = $1 AND policy_version = 2",
        world.environments[place],
    )
    assert [row["left"] for row in reminders] == [timedelta(hours=1)] * 2
    with pytest.raises(GateUnsatisfied):
        await world.start(ready.id)
    await world.approve(ready.id, "dev3")
    assert (await publish(world, place, FREE)).affected_deployments == 1
    assert (await world.start(ready.id)).approvals_required == 0
    await world.check_events()


async def test_a_policy_is_never_rewritten_by_the_service(world: World, place: str) -> None:
    await publish(world, place, ONE)
    async with world.database.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL ROLE rm_deployment")
        for statement in (
            "UPDATE environment_policies SET policy = '{}'",
            "DELETE FROM environment_policies",
            "DELETE FROM release_marks",
        ):
            with pytest.raises(Exception, match="permission denied"):
                async with connection.transaction():
                    await connection.execute(statement)
    assert (await policy_of(world, place)).policy.version == 1
