"""Policies published while others publish, start, approve, ask and roll back."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from google.protobuf.duration_pb2 import Duration
from release_manager.deployment.v1 import deployment_pb2 as pb

from services.deployment.operations import decide
from shared.db.engine import Database
from shared.errors import EtagMismatch, GateUnsatisfied, IllegalTransition, NoStableRelease
from shared.identity.actor import Call
from shared.outbox.change import Change
from tests.support.deployments import World
from tests.support.publishing import (
    approved,
    held_up,
    policy_of,
    publish,
    releases_held,
    until_waiting,
)
from tests.support.waiting import Edge

pytestmark = pytest.mark.asyncio(loop_scope="session")

ROUNDS = 8
ONE, TWO = pb.Policy(required_approvals=1), pb.Policy(required_approvals=2)
FREE = pb.Policy()


async def test_publishers_get_one_version_each(world: World, place: str) -> None:
    policies = [pb.Policy(required_approvals=number) for number in range(1, 9)]
    made = await asyncio.gather(*(publish(world, place, policy) for policy in policies))
    assert sorted(answer.policy.version for answer in made) == list(range(1, 9))
    rows = await world.database.fetch(
        "SELECT policy_version, row_version, created_at FROM environment_policies"
        " WHERE environment_id = $1 ORDER BY policy_version",
        world.environments[place],
    )
    assert [(row[0], row[1]) for row in rows] == [(number, number) for number in range(1, 9)]
    moments = [row["created_at"] for row in rows]
    assert sorted(set(moments)) == moments
    last = await policy_of(world, place)
    (winner,) = [answer for answer in made if answer.policy.version == 8]
    assert last.policy == winner.policy
    await world.check_events()


async def test_of_publishers_who_have_read_the_same_version_one_wins(
    world: World, place: str
) -> None:
    policies = [pb.Policy(required_approvals=number) for number in range(1, 9)]
    answers = await asyncio.gather(
        *(publish(world, place, policy, expected_version=0) for policy in policies),
        return_exceptions=True,
    )
    assert sum(isinstance(answer, pb.PublishPolicyResponse) for answer in answers) == 1
    assert sum(isinstance(answer, EtagMismatch) for answer in answers) == 7
    assert (await policy_of(world, place)).policy.version == 1


async def test_a_start_is_measured_by_one_policy_or_the_other(
    world: World, place: str, app: str
) -> None:
    edge = Edge()
    for number in range(ROUNDS):
        ready = await approved(world, f"{app}-{number}", place)
        published, started = await asyncio.gather(
            *edge.between(publish(world, place, TWO), _started(world, ready.id))
        )
        edge.note(second_won=started)
        found = await world.get(ready.id)
        if not started:
            assert found.status == pb.DEPLOYMENT_STATUS_PENDING
            assert (found.approvals_given, found.approvals_required) == (0, 2)
            assert published.affected_deployments == 1
            # So that the next round counts its own alone.
            cancel = pb.CancelDeploymentRequest(deployment=ready.id, reason="it was a race")
            await world.call("dev1", "CancelDeployment", cancel)
            continue
        assert found.status == pb.DEPLOYMENT_STATUS_IN_PROGRESS
        assert (found.approvals_given, found.approvals_required) == (1, 1)
        assert found.started_at.ToNanoseconds() < published.policy.created_at.ToNanoseconds()
        assert published.affected_deployments == 0
    assert edge.both


async def _started(world: World, deployment_id: str) -> bool:
    """Say whether a deployment starts, or waits for a gate."""
    try:
        await world.start(deployment_id)
    except GateUnsatisfied:
        return False
    return True


async def test_nothing_starts_without_the_approvals_of_the_policy_in_force(
    world: World, place: str, app: str
) -> None:
    """Policies, approvals and starts of many deployments at once, held against the tables."""
    await publish(world, place, ONE)
    waiting = [
        (await world.create(await world.release(f"{app}-{number}@1"), place)).id
        for number in range(8)
    ]

    async def driven(deployment_id: str) -> None:
        for _ in range(6):
            try:
                await world.approve(deployment_id, "dev3")
                await world.start(deployment_id)
            except GateUnsatisfied:
                continue
            except IllegalTransition:
                return

    async def publishing() -> None:
        for policy in (TWO, ONE, TWO, ONE):
            await publish(world, place, policy)

    await asyncio.gather(publishing(), *map(driven, waiting))
    started = await world.database.fetch(
        "SELECT (p.policy ->> 'required_approvals')::int AS required, (SELECT count(*)"
        " FROM approvals a WHERE a.deployment_id = d.id AND a.status = 'approved'"
        " AND a.policy_version = p.policy_version AND a.decided_at <= d.started_at) AS given"
        " FROM deployments d CROSS JOIN LATERAL (SELECT * FROM environment_policies p"
        " WHERE p.environment_id = d.environment_id AND p.created_at <= d.started_at"
        " ORDER BY p.policy_version DESC LIMIT 1) p"
        " WHERE d.id = ANY ($1::uuid[]) AND d.started_at IS NOT NULL",
        waiting,
    )
    assert started
    assert [row for row in started if row["given"] < row["required"]] == []
    await world.check_events()


async def test_a_start_that_waits_for_a_stricter_policy_is_refused(
    world: World, place: str, app: str
) -> None:
    ready = await approved(world, app, place)
    async with held_up(world, "admin"):
        publishing = asyncio.create_task(publish(world, place, TWO))
        await until_waiting(world, 1)
        starting = asyncio.create_task(world.start(ready.id))
        await until_waiting(world, 2)
    assert (await publishing).affected_deployments == 1
    with pytest.raises(GateUnsatisfied, match="0 of 2 approvals"):
        await starting


async def test_a_start_that_was_begun_under_an_older_policy_counts_as_under_the_new_one(
    world: World, place: str, app: str
) -> None:
    """It takes its moment first and finds the policy later, which has come between."""
    await publish(world, place, ONE)
    waiting = await world.create(await world.release(f"{app}@1"), place)
    async with releases_held(world, app):
        starting = asyncio.create_task(world.start(waiting.id))
        await until_waiting(world, 1)
        in_force = (await publish(world, place, FREE)).policy
    await starting
    found = await world.get(waiting.id)
    assert found.approvals_required == 0
    assert found.approval_status == pb.APPROVAL_STATUS_NOT_REQUIRED
    assert found.started_at.ToNanoseconds() >= in_force.created_at.ToNanoseconds()


async def test_an_approval_that_waits_for_a_policy_is_given_under_it(
    world: World, place: str, app: str
) -> None:
    await publish(world, place, ONE)
    waiting = await world.create(await world.release(f"{app}@1"), place)
    async with held_up(world, "admin"):
        publishing = asyncio.create_task(publish(world, place, TWO))
        await until_waiting(world, 1)
        approving = asyncio.create_task(world.approve(waiting.id, "dev3"))
        await until_waiting(world, 2)
    assert (await publishing).affected_deployments == 0
    found = await approving
    assert (found.approvals_given, found.approvals_required) == (1, 2)
    await world.check_events()


async def test_a_request_that_waits_for_a_policy_is_made_under_it(
    world: World, place: str, app: str
) -> None:
    """What it has locked is new, and what the same statement has read beside it is not."""
    release = await world.release(f"{app}@1")
    await publish(world, place, FREE)
    async with held_up(world, "admin"):
        publishing = asyncio.create_task(
            publish(
                world, place, pb.Policy(required_approvals=1, decide_within=Duration(seconds=60))
            )
        )
        await until_waiting(world, 1)
        request = pb.CreateDeploymentRequest(release=release, environment=place, approvers=["dev3"])
        asking = asyncio.create_task(world.call("dev1", "CreateDeployment", request))
        await until_waiting(world, 2)
    await publishing
    made = (await asking).deployment
    assert made.approvals_required == 1
    stored = await world.database.fetchval(
        "SELECT decide_by FROM deployments WHERE id = $1", made.id
    )
    assert stored is not None
    assert len((await world.get(made.id)).approvals) == 1


async def test_a_rollback_that_waits_for_a_policy_is_planned_by_it(
    world: World, place: str, app: str
) -> None:
    await publish(world, place, pb.Policy(author_may_approve=True))
    for number in (1, 2):
        latest = await world.deployed(await world.release(f"{app}@{number}"), place)
    async with held_up(world, "admin"):
        slow = pb.Policy(stable_after=Duration(seconds=3_600))
        publishing = asyncio.create_task(publish(world, place, slow))
        await until_waiting(world, 1)
        rolling = asyncio.create_task(world.roll_back(latest.id))
        await until_waiting(world, 2)
    await publishing
    with pytest.raises(NoStableRelease, match="not live long enough"):
        await rolling


async def test_a_look_at_what_expires_does_not_undo_what_a_policy_says_of_it(
    world: World, place: str, app: str
) -> None:
    """Under the policy before, what is approved never expires; under the new one it waits again."""
    ready = await approved(world, app, place)
    db = Database(world.database_url, role="rm_deployment", application_name="test")
    call = Call("/a.B/C", "request-1", None, None, None)

    async def look() -> None:
        async with db.transaction() as tx:
            change = Change(tx, call, datetime.now(UTC))
            await decide.expire_if_overdue(change, UUID(ready.id))

    stricter = pb.Policy(required_approvals=2, decide_within=Duration(seconds=3_600))
    async with world.database.acquire() as connection, connection.transaction():
        await connection.execute("LOCK TABLE outbox IN SHARE MODE")
        publishing = asyncio.create_task(publish(world, place, stricter))
        await until_waiting(world, 1)
        looking = asyncio.create_task(look())
        await until_waiting(world, 2)
    since = (await publishing).policy.created_at.ToDatetime(UTC)
    await looking
    await db.close()
    stored = await world.database.fetchval(
        "SELECT decide_by FROM deployments WHERE id = $1", ready.id
    )
    assert stored == since + timedelta(hours=1)
