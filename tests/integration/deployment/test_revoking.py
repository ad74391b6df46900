"""Approvals that are taken back: what counts afterwards, what stays, and when it is too late."""

import asyncio
import json
from datetime import timedelta
from typing import Any

import pytest
from release_manager.deployment.v1 import deployment_pb2 as pb

from shared.domain_error import DomainError
from shared.errors import EtagMismatch, GateUnsatisfied, IllegalTransition, ResourceNotFound
from tests.support.deployments import World
from tests.support.executing import LOOKED
from tests.support.publishing import publish

pytestmark = pytest.mark.asyncio(loop_scope="session")

WHY = "the error rate in Staging went up"


async def waiting(world: World, app: str, place: str, **policy: Any) -> pb.Deployment:
    """Ask for a deployment that two people have to approve."""
    await publish(world, place, pb.Policy(**({"required_approvals": 2} | policy)))
    return await world.create(await world.release(f"{app}@1"), place)


def request(deployment_id: str, **more: Any) -> pb.RevokeApprovalRequest:
    return pb.RevokeApprovalRequest(deployment=deployment_id, reason=WHY, **more)


async def revoke(world: World, who: str, deployment_id: str, **more: Any) -> pb.Deployment:
    answer = await world.call(who, "RevokeApproval", request(deployment_id, **more))
    found: pb.Deployment = answer.deployment
    return found


async def decisions(world: World, deployment_id: str) -> list[tuple[str, str]]:
    """Return who decided what, the oldest first."""
    prefix = "APPROVAL_DECISION_"
    found = sorted((await world.get(deployment_id)).approvals, key=lambda row: row.id)
    return [
        (row.approver, pb.ApprovalDecision.Name(row.status).removeprefix(prefix)) for row in found
    ]


async def test_what_is_taken_back_counts_no_longer(world: World, app: str, place: str) -> None:
    made = await waiting(world, app, place)
    approved = await world.approve(made.id, "dev3", "lead1")
    assert approved.approval_status == pb.APPROVAL_STATUS_APPROVED
    after = await revoke(world, "dev3", made.id)
    assert (after.approvals_given, after.approval_status) == (1, pb.APPROVAL_STATUS_PENDING)
    (blocker,) = after.blockers
    assert blocker.gate == "approval"
    assert "dev3" in blocker.people
    with pytest.raises(GateUnsatisfied):
        await world.start(made.id)


async def test_it_stays_as_history_and_may_be_given_again(
    world: World, app: str, place: str
) -> None:
    made = await waiting(world, app, place)
    await world.approve(made.id, "dev3", "lead1")
    await revoke(world, "dev3", made.id)
    await world.approve(made.id, "dev3")
    kept = await decisions(world, made.id)
    assert kept == [("dev3", "REVOKED"), ("lead1", "APPROVED"), ("dev3", "APPROVED")]
    assert (await world.start(made.id)).status == pb.DEPLOYMENT_STATUS_IN_PROGRESS


async def test_it_is_one_version_with_one_entry(world: World, app: str, place: str) -> None:
    made = await waiting(world, app, place)
    approved = await world.approve(made.id, "dev3", "lead1")
    answer = await world.call("dev3", "RevokeApproval", request(made.id, etag=approved.etag))
    assert int(answer.deployment.etag) == int(approved.etag) + 1
    (event_id,) = answer.audit.event_ids
    row = await world.database.fetchval("SELECT event FROM outbox WHERE event_id = $1", event_id)
    event = json.loads(row)
    assert event["action"] == "revoke_approval"
    told = event["details"]
    assert (told["before"], told["after"]) == ({"status": "pending"},) * 2
    assert (told["reason"], told["approvals_given"], told["approvals_required"]) == (WHY, 1, 2)
    assert told["approved_at"]
    await world.check_events()


async def test_only_what_one_has_given_oneself_is_taken_back(
    world: World, app: str, place: str
) -> None:
    made = await waiting(world, app, place)
    await world.approve(made.id, "dev3")
    for who in ("lead1", "admin"):
        error = await world.refused(who, "RevokeApproval", request(made.id))
        assert isinstance(error, ResourceNotFound)
        assert error.facts["resource"] == f"of {who} for deployment {made.id}"
    await revoke(world, "dev3", made.id)
    again = await world.refused("dev3", "RevokeApproval", request(made.id))
    assert isinstance(again, ResourceNotFound)
    assert await decisions(world, made.id) == [("dev3", "REVOKED")]


async def test_a_rejection_is_final(world: World, app: str, place: str) -> None:
    made = await waiting(world, app, place)
    await world.approve(made.id, "dev3")
    reject = pb.RejectDeploymentRequest(deployment=made.id, comment="not like this")
    await world.call("lead1", "RejectDeployment", reject)
    for who in ("lead1", "dev3"):
        error = await world.refused(who, "RevokeApproval", request(made.id))
        assert isinstance(error, IllegalTransition)
        assert (error.facts["status"], error.facts["allowed"]) == ("rejected", "nothing")
    assert await decisions(world, made.id) == [("dev3", "APPROVED"), ("lead1", "REJECTED")]


async def test_what_has_started_is_not_stopped_by_it(world: World, app: str, place: str) -> None:
    made = await waiting(world, app, place)
    await world.approve(made.id, "dev3", "lead1")
    await world.start(made.id)
    error = await world.refused("lead1", "RevokeApproval", request(made.id))
    assert isinstance(error, IllegalTransition)
    assert "cancel" in error.facts["allowed"]
    assert (await world.get(made.id)).approvals_given == 2


async def test_the_time_to_decide_begins_anew(world: World, app: str, place: str) -> None:
    """An approval without an end leaves no moment to look again; taking it back brings one."""
    within = timedelta(days=3)
    made = await waiting(world, app, place, required_approvals=1, decide_within=within)
    await world.approve(made.id, "dev3")
    await world.database.execute(
        "UPDATE deployments SET decide_by = NULL, deployed_at = deployed_at - interval '9 days'"
        " WHERE id = $1",
        made.id,
    )
    after = await revoke(world, "dev3", made.id)
    row = await world.database.fetchrow(
        "SELECT decide_by, clock_timestamp() FROM deployments WHERE id = $1", made.id
    )
    assert row is not None
    stored, moment = row
    assert after.status == pb.DEPLOYMENT_STATUS_PENDING
    assert moment + within - timedelta(minutes=1) < stored <= moment + within


async def test_too_late_is_refused_and_ends_it(world: World, app: str, place: str) -> None:
    made = await waiting(world, app, place, decide_within=timedelta(days=3))
    await world.approve(made.id, "dev3")
    await world.database.execute(
        "UPDATE environment_policies SET created_at = created_at - interval '9 days'"
        " WHERE environment_id = $1",
        world.environments[place],
    )
    await world.database.execute(
        f"{LOOKED} UPDATE deployments SET deployed_at = deployed_at - interval '9 days'"
        " WHERE id = $1",
        made.id,
    )
    error = await world.refused("dev3", "RevokeApproval", request(made.id))
    assert isinstance(error, IllegalTransition)
    assert error.facts["status"] == "expired"
    assert (await world.get(made.id)).status == pb.DEPLOYMENT_STATUS_EXPIRED
    await world.check_events()


async def test_a_stale_etag_is_refused(world: World, app: str, place: str) -> None:
    made = await waiting(world, app, place)
    await world.approve(made.id, "dev3")
    error = await world.refused("dev3", "RevokeApproval", request(made.id, etag=made.etag))
    assert isinstance(error, EtagMismatch)


async def test_an_approval_that_does_not_count_now_is_taken_back_too(
    world: World, app: str, place: str
) -> None:
    """Its author is no lead now; without this it would count again as soon as they are one."""
    made = await waiting(world, app, place, minimum_role=3)
    await world.approve(made.id, "lead2")
    person = world.people["lead2"]
    change = "UPDATE users SET role = $1 WHERE id = $2"
    await world.database.execute(change, "developer", person)
    try:
        assert (await world.get(made.id)).approvals_given == 0
        await revoke(world, "lead2", made.id)
    finally:
        await world.database.execute(change, "lead", person)
    assert (await world.get(made.id)).approvals_given == 0


@pytest.mark.parametrize("round_", range(5))
async def test_a_start_at_the_same_moment_counts_it_or_keeps_it_from_being_taken_back(
    world: World, app: str, place: str, round_: int
) -> None:
    made = await waiting(world, app, place, required_approvals=1)
    await world.approve(made.id, "dev3")
    start = pb.StartDeploymentRequest(deployment=made.id)
    calls = [("dev1", "StartDeployment", start), ("dev3", "RevokeApproval", request(made.id))]
    ordered = calls if round_ % 2 else calls[::-1]
    results = await asyncio.gather(*(world.call(*call) for call in ordered), return_exceptions=True)
    refused = [result for result in results if isinstance(result, DomainError)]
    assert len(refused) == 1
    started = (await world.get(made.id)).status == pb.DEPLOYMENT_STATUS_IN_PROGRESS
    assert isinstance(refused[0], IllegalTransition if started else GateUnsatisfied)
    assert await decisions(world, made.id) == [("dev3", "APPROVED" if started else "REVOKED")]
