"""Policies that are not the default: stored as JSON, bound to decisions by their version."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from release_manager.deployment.v1 import deployment_pb2 as pb

from shared.errors import GateUnsatisfied, RollbackBlocked
from shared.ids import new_id
from tests.support.deployments import World
from tests.support.executing import LOOKED
from tests.support.polling import eventually

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def publish(world: World, environment: str, version: int, **policy: Any) -> None:
    """Make a policy the current one of an environment."""
    await world.database.execute(
        "INSERT INTO environment_policies (id, environment_id, policy_version, policy, created_at)"
        " VALUES ($1, $2, $3, $5::text::jsonb, $4)",
        new_id(),
        world.environments[environment],
        version,
        datetime.now(UTC),
        json.dumps(policy),
    )
    await world.database.execute(
        "UPDATE environments SET policy_version = $1 WHERE id = $2",
        version,
        world.environments[environment],
    )


async def test_a_failed_stage_can_pause_and_be_tried_again(own_world: World) -> None:
    world = own_world
    await publish(world, "Dev", 1, on_failure="pause")
    made = await world.promote(await world.release("auth@1"), "dev")
    paused = await world.run_stages(made.id, "build", "test", last="failed")
    assert paused.status == pb.DEPLOYMENT_STATUS_PAUSED
    again = await world.stage(made.id, "test", "in_progress")
    assert again.deployment.status == pb.DEPLOYMENT_STATUS_IN_PROGRESS
    assert not again.stage.HasField("completed_at")
    done = await world.run_stages(made.id, "test", "security_scan", "deploy", "smoke_test")
    assert done.status == pb.DEPLOYMENT_STATUS_COMPLETED
    await world.check_events()


async def test_a_new_policy_voids_what_was_approved(own_world: World) -> None:
    world = own_world
    release = await world.release("auth@1")
    await world.deployed(release)
    made = await world.create(release, "staging")
    ready = await world.approve(made.id, "dev2")
    assert ready.approvals_given == 1
    await publish(world, "Staging", 1, required_approvals=2)
    after = await world.get(made.id)
    assert (after.approvals_given, after.approvals_required) == (0, 2)
    with pytest.raises(GateUnsatisfied):
        await world.start(made.id)
    await world.approve(made.id, "dev2", "dev3")
    assert (await world.start(made.id)).status == pb.DEPLOYMENT_STATUS_IN_PROGRESS
    await world.check_events()


async def test_what_has_started_keeps_the_policy_of_that_moment(own_world: World) -> None:
    world = own_world
    release = await world.release("auth@1.0.0")
    in_dev = await world.deployed(release)
    staged = await world.create(release, "staging")
    await world.approve(staged.id, "dev3")
    await world.start(staged.id)
    await world.finish(staged.id)
    before = [await world.get(deployment.id) for deployment in (in_dev, staged)]
    assert [found.approval_status for found in before] == [
        pb.APPROVAL_STATUS_NOT_REQUIRED,
        pb.APPROVAL_STATUS_APPROVED,
    ]
    for place in ("Dev", "Staging"):
        await publish(world, place, 1, required_approvals=2, minimum_role="lead")
    after = [await world.get(deployment.id) for deployment in (in_dev, staged)]
    assert after == before
    listed = await world.call("viewer1", "ListDeployments", pb.ListDeploymentsRequest())
    assert [found.approvals_given for found in listed.deployments] == [1, 0]
    waits = await world.create(await world.release("auth@2.0.0"), "dev")
    assert waits.approvals_required == 2


async def test_what_is_approved_in_time_does_not_expire(own_world: World) -> None:
    world = own_world
    release = await world.release("auth@1")
    await world.deployed(release)
    made = await world.create(release, "staging")
    await world.approve(made.id, "dev2")
    # At once: approved later than it had to be, it would expire as soon as somebody looked.
    await world.database.execute(
        f"{LOOKED}, given AS (UPDATE approvals SET decided_at = decided_at - interval '2 days')"
        " UPDATE deployments SET deployed_at = deployed_at - interval '8 days',"
        " decide_by = decide_by - interval '8 days' WHERE id = $1",
        made.id,
    )
    moved = "SELECT decide_by > now() FROM deployments WHERE id = $1"
    await eventually(lambda: world.database.fetchval(moved, made.id), 60)
    kept = await world.get(made.id)
    assert kept.status == pb.DEPLOYMENT_STATUS_PENDING
    assert kept.etag == "2"


async def test_nobody_goes_back_across_an_irreversible_release(own_world: World) -> None:
    world = own_world
    await world.deployed(await world.release("auth@1"))
    subject = await world.deployed(await world.release("auth@2", irreversible=True))
    with pytest.raises(RollbackBlocked):
        await world.roll_back(subject.id)


async def test_an_archived_environment_is_left_out_of_the_promotion_order(
    own_world: World, app: str
) -> None:
    release = await own_world.release(f"{app}@1.0.0")
    with pytest.raises(GateUnsatisfied, match="it has not completed in Dev"):
        await own_world.create(release, "Staging")
    archive = "UPDATE environments SET archived_at = now() WHERE name = 'Dev'"
    await own_world.database.execute(archive)
    made = await own_world.create(release, "Staging")
    assert [blocker.gate for blocker in made.blockers] == ["approval"]
