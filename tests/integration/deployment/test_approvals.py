"""Who approves, how often, and what a decision is worth."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from release_manager.deployment.v1 import deployment_pb2 as pb

from shared.errors import (
    DecisionExists,
    EtagMismatch,
    GateUnsatisfied,
    IllegalTransition,
    NotEnoughApprovers,
    NotPermitted,
    ResourceNotFound,
    RoleRequired,
    ValidationFailed,
)
from tests.support.deployments import STAGES, World
from tests.support.executing import LOOKED, becomes, told_of
from tests.support.programs import add_program

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.fixture
def world(own_world: World) -> World:
    """A world of its own for each test: these change who people are and what time it is."""
    return own_world


async def waiting_in_prod(world: World, author: str = "dev2") -> pb.Deployment:
    """Return a deployment that dev1 requested for Prod, of a release by `author`."""
    release = await world.release("auth@1.0.0", author=author)
    await world.deployed(release)
    staged = await world.create(release, "staging")
    await world.approve(staged.id, "dev3")
    await world.start(staged.id)
    await world.finish(staged.id)
    return await world.promote(release, "prod")


async def test_neither_requester_nor_author_approves_in_prod(world: World) -> None:
    made = await waiting_in_prod(world)
    request = pb.ApproveDeploymentRequest(deployment=made.id)
    assert isinstance(await world.refused("dev1", "ApproveDeployment", request), NotPermitted)
    assert isinstance(await world.refused("dev2", "ApproveDeployment", request), NotPermitted)
    assert isinstance(await world.refused("viewer1", "ApproveDeployment", request), RoleRequired)
    assert sorted(made.blockers[0].people) == ["admin", "dev3", "lead1", "lead2"]


async def test_one_of_two_must_be_a_lead(world: World) -> None:
    made = await waiting_in_prod(world)
    await world.database.execute("UPDATE users SET role = 'developer' WHERE username = 'lead2'")
    half = await world.approve(made.id, "dev3", "lead2")
    assert half.approvals_given == 2
    assert half.approval_status == pb.APPROVAL_STATUS_PENDING
    assert sorted(half.blockers[0].people) == ["admin", "lead1"]
    with pytest.raises(GateUnsatisfied) as refused:
        await world.stage(made.id, "build", "in_progress")
    assert [gate.gate for gate in refused.value.gates] == ["approval"]
    assert (await world.approve(made.id, "lead1")).approval_status == pb.APPROVAL_STATUS_APPROVED
    assert (await world.run_stages(made.id, *STAGES)).status == pb.DEPLOYMENT_STATUS_COMPLETED


async def test_the_entry_of_a_start_says_what_let_it(world: World) -> None:
    release = await world.release("auth@1.0.0", author="dev2")
    await world.deployed(release)
    plain = await world.create(release, "staging")
    await world.approve(plain.id, "dev3")
    await world.start(plain.id)
    await world.finish(plain.id)
    piped = await world.promote(release, "prod")
    await world.approve(piped.id, "dev3", "lead1", "lead2")
    request = pb.RevokeApprovalRequest(deployment=piped.id, reason="not after all")
    await world.call("lead2", "RevokeApproval", request)
    await world.run_stages(piped.id, *STAGES)
    # Whoever loses the role afterwards has approved it all the same.
    await world.database.execute("UPDATE users SET role = 'viewer' WHERE username = 'lead1'")
    assert await started_by(world, plain.id) == [
        {"policy_version": 0, "approvals_required": 1, "approved_by": ["dev3"], "overridden": []}
    ]
    [entry] = await started_by(world, piped.id)
    assert (entry["approvals_required"], entry["approved_by"]) == (2, ["dev3", "lead1"])


async def started_by(world: World, deployment: str) -> list[Any]:
    """Return what each entry of a start says about what let it."""
    told = await told_of(world, deployment)
    return [details["admitted_by"] for action, details in told if action == "start"]


async def test_an_approver_who_lost_the_role_counts_no_more(world: World) -> None:
    made = await waiting_in_prod(world)
    await world.approve(made.id, "dev3", "lead1")
    await world.database.execute("UPDATE users SET active = false WHERE username = 'dev3'")
    with pytest.raises(GateUnsatisfied):
        await world.stage(made.id, "build", "in_progress")
    assert (await world.get(made.id)).approvals_given == 1


async def test_approving_twice_changes_nothing(world: World) -> None:
    made = await waiting_in_prod(world)
    once = await world.approve(made.id, "lead1")
    twice = await world.approve(made.id, "lead1")
    assert twice.etag == once.etag
    assert twice.approvals_given == 1
    reject = pb.RejectDeploymentRequest(deployment=made.id, comment="changed my mind")
    assert isinstance(await world.refused("lead1", "RejectDeployment", reject), DecisionExists)


async def test_fifty_voices_are_counted_once_each(world: World) -> None:
    made = await waiting_in_prod(world)
    voters = ("dev3", "lead1", "lead2", "admin", "lead1")
    await asyncio.gather(*(world.approve(made.id, who) for who in voters * 10))
    found = await world.get(made.id)
    assert found.approvals_given == 4
    assert len(found.approvals) == 4
    assert int(found.etag) == 5
    await world.check_events()


async def test_a_rejection_ends_it(world: World) -> None:
    made = await waiting_in_prod(world)
    request = pb.RejectDeploymentRequest(deployment=made.id, comment="not on a Friday")
    ended = (await world.call("dev3", "RejectDeployment", request)).deployment
    assert ended.status == pb.DEPLOYMENT_STATUS_REJECTED
    assert ended.approval_status == pb.APPROVAL_STATUS_REJECTED
    assert ended.status_reason == "not on a Friday"
    approve = pb.ApproveDeploymentRequest(deployment=made.id)
    assert isinstance(await world.refused("lead1", "ApproveDeployment", approve), IllegalTransition)
    await world.check_events()


async def test_an_asked_person_answers_in_the_row_of_the_question(world: World) -> None:
    release = await world.release("auth@1.0.0")
    await world.deployed(release)
    request = pb.PromoteReleaseRequest(
        release=release, environment="Staging", approvers=["Lead1", "dev3"]
    )
    made = (await world.call("dev1", "PromoteRelease", request)).deployment
    await world.approve(made.id, "lead1")
    statuses = {entry.approver: entry.status for entry in (await world.get(made.id)).approvals}
    pending, approved = pb.APPROVAL_DECISION_PENDING, pb.APPROVAL_DECISION_APPROVED
    assert statuses == {"lead1": approved, "dev3": pending}
    await world.stage(made.id, "build", "completed")
    statuses = {entry.approver: entry.status for entry in (await world.get(made.id)).approvals}
    assert statuses == {"lead1": approved, "dev3": pb.APPROVAL_DECISION_EXPIRED}


async def test_only_people_who_may_decide_are_asked(world: World) -> None:
    release = await world.release("auth@1.0.0")
    await world.deployed(release)
    for name, kind in (
        ("dev1", ValidationFailed),
        ("viewer1", ValidationFailed),
        ("nobody", ResourceNotFound),
    ):
        request = pb.CreateDeploymentRequest(
            release=release, environment="staging", approvers=[name]
        )
        assert isinstance(await world.refused("dev1", "CreateDeployment", request), kind)


async def test_a_request_nobody_could_approve_fails_at_once(world: World) -> None:
    release = await world.release("auth@1.0.0")
    await world.deployed(release)
    await world.database.execute("UPDATE users SET active = false WHERE username <> 'dev1'")
    request = pb.CreateDeploymentRequest(release=release, environment="staging")
    assert isinstance(await world.refused("dev1", "CreateDeployment", request), NotEnoughApprovers)


async def test_what_would_wait_can_be_refused_instead(world: World) -> None:
    release = await world.release("auth@1.0.0")
    await world.deployed(release)
    request = pb.CreateDeploymentRequest(
        release=release, environment="staging", fail_if_blocked=True
    )
    error = await world.refused("dev1", "CreateDeployment", request)
    assert isinstance(error, GateUnsatisfied)
    assert [gate.gate for gate in error.gates] == ["approval"]


async def test_where_nothing_is_approved_nobody_is_asked(world: World) -> None:
    request = pb.CreateDeploymentRequest(
        release=await world.release("auth@1.0.0"), environment="dev", approvers=["lead1"]
    )
    made = (await world.call("dev1", "CreateDeployment", request)).deployment
    assert not (await world.get(made.id)).approvals
    told = await world.database.fetchval("SELECT event->'details'->>'asked' FROM outbox")
    assert told == "[]"


async def test_a_deployment_nobody_approves_expires(world: World) -> None:
    made = await waiting_in_prod(world)
    await world.database.execute(
        f"{LOOKED} UPDATE deployments SET deployed_at = deployed_at - $1::interval,"
        " decide_by = decide_by - $1::interval WHERE id = $2",
        timedelta(days=3, hours=1),
        made.id,
    )
    ended = await becomes(world, made.id, "EXPIRED")
    assert ended.approval_status == pb.APPROVAL_STATUS_EXPIRED
    assert all(stage.status == pb.STAGE_STATUS_ABORTED for stage in ended.stages)
    await world.check_events()
    users = await world.database.fetchval(
        "SELECT count(*) FROM outbox WHERE event->>'action' = 'expire' AND event ? 'user'"
    )
    assert users == 0


async def test_deciding_too_late_is_refused_and_ends_it(world: World) -> None:
    made = await waiting_in_prod(world)
    await world.database.execute(
        f"{LOOKED} UPDATE deployments SET deployed_at = deployed_at - $1::interval WHERE id = $2",
        timedelta(days=3, hours=1),
        made.id,
    )
    request = pb.ApproveDeploymentRequest(deployment=made.id)
    error = await world.refused("lead1", "ApproveDeployment", request)
    assert isinstance(error, IllegalTransition)
    assert error.facts["status"] == "expired"
    assert (await world.get(made.id)).status == pb.DEPLOYMENT_STATUS_EXPIRED
    await world.check_events()


async def test_a_void_approval_is_given_again(world: World) -> None:
    made = await waiting_in_prod(world)
    await world.approve(made.id, "dev3", "lead1")
    await world.database.execute(
        "UPDATE approvals SET decided_at = decided_at - interval '25 hours'"
    )
    assert (await world.get(made.id)).approvals_given == 0
    again = await world.approve(made.id, "lead1")
    assert again.approvals_given == 1
    kept = [entry.status for entry in (await world.get(made.id)).approvals]
    approved, expired = pb.APPROVAL_DECISION_APPROVED, pb.APPROVAL_DECISION_EXPIRED
    assert sorted(kept) == [approved, approved, expired]
    await world.check_events()


async def test_a_stale_etag_is_refused(world: World) -> None:
    made = await waiting_in_prod(world)
    await world.approve(made.id, "dev3")
    request = pb.ApproveDeploymentRequest(deployment=made.id, etag=made.etag)
    error = await world.refused("lead1", "ApproveDeployment", request)
    assert isinstance(error, EtagMismatch)
    assert error.facts["current"] == "2"


async def test_nothing_is_decided_where_nothing_is_asked(world: World) -> None:
    made = await world.create(await world.release("auth@1.0.0"), "dev")
    request = pb.ApproveDeploymentRequest(deployment=made.id)
    error = await world.refused("lead1", "ApproveDeployment", request)
    assert isinstance(error, IllegalTransition)
    assert error.facts["status"] == "not_required"


async def test_programs_never_approve(world: World) -> None:
    made = await waiting_in_prod(world)
    program = await add_program(world.database_url, "robot", "admin", ["deploy"])
    world.tokens["robot"] = program.token
    request = pb.ApproveDeploymentRequest(deployment=made.id)
    error = await world.refused("robot", "ApproveDeployment", request)
    assert isinstance(error, NotPermitted)
    assert "service accounts" in error.facts["because"]


async def test_the_owner_of_a_program_does_not_approve_what_it_asked_for(world: World) -> None:
    release = await world.release("auth@1.0.0")
    await world.deployed(release)
    program = await add_program(world.database_url, "robot", "developer", ["deploy"])
    world.tokens["robot"] = program.token
    made = await world.create(release, "staging", "robot")
    request = pb.ApproveDeploymentRequest(deployment=made.id)
    assert isinstance(await world.refused("admin", "ApproveDeployment", request), NotPermitted)
    assert not (await world.approve(made.id, "dev1")).blockers
