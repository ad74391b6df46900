"""Whoever has approved what is not so any more: a clock that goes back makes no approval count.

As after the failover to a machine whose clock is behind: what was recorded before then lies ahead.
"""

from datetime import UTC, datetime
from uuid import UUID

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from release_manager.deployment.v1 import deployment_pb2 as pb

from shared.errors import GateUnsatisfied
from tests.support.deployments import World
from tests.support.publishing import approved, publish
from tests.support.restricting import gate, override

pytestmark = pytest.mark.asyncio(loop_scope="session")

APPROVED = pb.APPROVAL_STATUS_APPROVED
RUNNING = pb.DEPLOYMENT_STATUS_IN_PROGRESS
# As a clock that was an hour ahead has written it: walls of the tables are for those who call.
AHEAD = "SET session_replication_role = replica; {} ; RESET session_replication_role"


async def hour_ahead(world: World, statement: str) -> None:
    """Move recorded times an hour on."""
    async with world.database.acquire() as connection:
        await connection.execute(AHEAD.format(statement))


async def approvals_ahead(world: World, deployment_id: str, column: str) -> None:
    """Move a time of the approvals of a deployment an hour on."""
    await hour_ahead(
        world,
        f"UPDATE approvals SET {column} = {column} + interval '1 hour'"
        f" WHERE deployment_id = '{UUID(deployment_id)}'",
    )


async def demoted_ahead(world: World, lost: str, who: str = "dev3") -> None:
    """Take something from a person, an hour ahead."""
    await world.database.execute(f"UPDATE users SET {lost} WHERE username = $1", who)
    await hour_ahead(
        world,
        "UPDATE users SET demoted_at = clock_timestamp() + interval '1 hour'"
        f" WHERE username = '{who}'",
    )


def moment(stamp: Timestamp) -> datetime:
    return stamp.ToDatetime(tzinfo=UTC)


async def check_waits(world: World, deployment_id: str) -> None:
    """Check that neither the answers nor a start let approvals count."""
    found = await world.get(deployment_id)
    assert (found.approvals_given, found.approval_status) == (0, pb.APPROVAL_STATUS_PENDING)
    with pytest.raises(GateUnsatisfied, match="0 of 1 approvals"):
        await world.start(deployment_id)


async def check_starts(world: World, deployment_id: str) -> None:
    """Check that a deployment starts, and counts as approved from then on."""
    await world.start(deployment_id)
    started = await world.get(deployment_id)
    assert (started.status, started.approvals_given) == (RUNNING, 1)
    assert started.approval_status == APPROVED


async def check_renewed(world: World, deployment_id: str) -> None:
    """Check that a deployment waits for the approval of before, given anew, and starts by it."""
    await check_waits(world, deployment_id)
    await world.approve(deployment_id, "dev3")
    await check_starts(world, deployment_id)


async def test_an_override_that_lies_ahead_is_one(world: World, place: str, app: str) -> None:
    await world.deployed(await world.release(f"{app}@0"), place)
    await hour_ahead(
        world,
        "UPDATE deployments SET touched_at = touched_at + interval '1 hour', deployed_at ="
        f" deployed_at + interval '1 hour' WHERE service_id = '{world.services[app]}'",
    )
    ready = await approved(world, app, place)
    given = [(await override(world, ready.id, name)).override for name in ("lock", "freeze")]
    assert datetime.now(UTC) < moment(given[0].created_at) < moment(given[1].created_at)
    await check_waits(world, ready.id)
    found = await world.get(ready.id)
    assert [one.gate for one in found.overrides] == [gate("lock"), gate("freeze")]
    await world.approve(ready.id, "dev3")
    await check_starts(world, ready.id)


async def test_a_policy_that_lies_ahead_is_in_force(world: World, place: str, app: str) -> None:
    ready = await approved(world, app, place)
    await hour_ahead(
        world,
        "UPDATE environment_policies SET created_at = created_at + interval '1 hour'"
        f" WHERE environment_id = '{world.environments[place]}'",
    )
    published = await publish(
        world, place, pb.Policy(required_approvals=1, author_may_approve=True)
    )
    assert moment(published.policy.created_at) > datetime.now(UTC)
    assert published.affected_deployments == 1
    await check_renewed(world, ready.id)


@pytest.mark.parametrize("lost", ["role = 'viewer'", "active = false"])
async def test_who_loses_a_role_ahead_has_lost_it(own_world: World, lost: str) -> None:
    ready = await approved(own_world, "auth", "Dev")
    await demoted_ahead(own_world, lost)
    await check_waits(own_world, ready.id)
    await own_world.approve(ready.id, "lead1")
    assert (await own_world.start(ready.id)).status == RUNNING


async def test_a_lead_who_is_none_any_more_ahead_is_missing(own_world: World) -> None:
    await publish(own_world, "Dev", pb.Policy(required_approvals=1, lead_required=True))
    made = await own_world.create(await own_world.release("auth@1"), "Dev")
    await own_world.approve(made.id, "lead1")
    await demoted_ahead(own_world, "role = 'developer'", "lead1")
    with pytest.raises(GateUnsatisfied, match="none of them by a lead"):
        await own_world.start(made.id)


async def test_a_role_lost_ahead_takes_nothing_from_what_has_started(own_world: World) -> None:
    ready = await approved(own_world, "auth", "Dev")
    await check_starts(own_world, ready.id)
    await demoted_ahead(own_world, "role = 'viewer'")
    found = await own_world.get(ready.id)
    assert (found.approvals_given, found.approval_status) == (1, APPROVED)


async def test_an_approval_that_is_taken_back_ahead_is(world: World, place: str, app: str) -> None:
    ready = await approved(world, app, place)
    request = pb.RevokeApprovalRequest(deployment=ready.id, reason="on second thoughts")
    await world.call("dev3", "RevokeApproval", request)
    await approvals_ahead(world, ready.id, "updated_at")
    await check_renewed(world, ready.id)


async def test_an_approval_that_lies_ahead_is_given_anew(
    world: World, place: str, app: str
) -> None:
    """Else it would be good for an hour longer than the policy says."""
    ready = await approved(world, app, place)
    await approvals_ahead(world, ready.id, "decided_at")
    await check_renewed(world, ready.id)
