"""Deployments of one service that come one after the other, in each mode of the queue."""

import asyncio

import pytest
from release_manager.deployment.v1 import deployment_pb2 as pb

from services.deployment.operations import examine
from services.deployment.store import dossiers
from shared.db.engine import Database
from shared.db.keyset import PageRequest
from shared.domain_error import DomainError
from shared.errors import GateUnsatisfied, IllegalTransition, SlotTaken
from tests.integration.deployment.test_races import outcomes
from tests.support.deployments import World
from tests.support.plans import statements_sent
from tests.support.publishing import told
from tests.support.waiting import Edge, blocker, queueing

pytestmark = pytest.mark.asyncio(loop_scope="session")

ROUNDS = 8
PENDING = pb.DEPLOYMENT_STATUS_PENDING
IN_PROGRESS = pb.DEPLOYMENT_STATUS_IN_PROGRESS
SUPERSEDED = pb.DEPLOYMENT_STATUS_SUPERSEDED


async def in_line(world: World, app: str, place: str, count: int) -> list[pb.Deployment]:
    """Request deployments of this many releases, one after the other."""
    return [
        await world.create(await world.release(f"{app}@{number}"), place)
        for number in range(1, count + 1)
    ]


async def test_only_the_older_of_two_starts(world: World, app: str, place: str) -> None:
    await queueing(world, place, "queue")
    for number in range(ROUNDS):
        older, newer = await in_line(world, f"{app}-{number}", place, 2)
        calls = [world.start(newer.id), world.start(older.id)]
        started, refused = await outcomes(calls if number % 2 else calls[::-1])
        assert [one.id for one in started] == [older.id]  # type: ignore[attr-defined]
        # Refused for the older one that waits, or for the older one that runs by then.
        assert isinstance(refused[0], GateUnsatisfied | SlotTaken)
        assert (await world.get(newer.id)).status == PENDING
    await world.check_events()


async def test_following_the_advice_leads_to_the_front(world: World, app: str, place: str) -> None:
    await queueing(world, place, "queue")
    first, second, third = await in_line(world, app, place, 3)
    assert blocker(first, "queue") is None
    said = blocker(third, "queue")
    assert said is not None
    assert said.position == 3
    assert said.remedy == f"Start deployment {first.id} first, or stop it with CancelDeployment."
    cancel = pb.CancelDeploymentRequest(deployment=first.id, reason="another way")
    await world.call("dev1", "CancelDeployment", cancel)
    said = blocker(await world.get(third.id), "queue")
    assert said is not None
    assert said.position == 2
    assert said.remedy == f"Start deployment {second.id} first, or stop it with CancelDeployment."
    await world.start(second.id)
    await world.finish(second.id)
    assert not (await world.get(third.id)).blockers
    await world.start(third.id)
    await world.check_events()


async def test_who_is_not_approved_blocks_nobody(world: World, app: str, place: str) -> None:
    await queueing(world, place, "queue", required_approvals=1)
    first, second, third = await in_line(world, app, place, 3)
    await world.approve(second.id, "dev3")
    await world.start(second.id)
    await world.approve(first.id, "dev3")
    await world.approve(third.id, "dev3")
    waits = await world.get(third.id)
    assert [one.gate for one in waits.blockers] == ["queue", "slot"]
    await world.finish(second.id)
    # What was passed is outdated now, and holds nobody up.
    assert not (await world.get(third.id)).blockers
    await world.start(third.id)
    assert isinstance(
        await world.refused(
            "dev1", "StartDeployment", pb.StartDeploymentRequest(deployment=first.id)
        ),
        IllegalTransition,
    )
    assert (await world.get(first.id)).superseded_by == second.id
    await world.check_events()


async def test_what_was_rolled_back_and_a_rollback_make_nothing_outdated(
    world: World, app: str, place: str
) -> None:
    await queueing(world, place, "queue")
    await world.deployed(await world.release(f"{app}@0"), place)
    await queueing(world, place, "queue", required_approvals=1)
    first, second = await in_line(world, app, place, 2)
    explain = pb.ExplainDeploymentRequest(deployment=first.id)
    await world.approve(second.id, "dev3")
    await world.start(second.id)
    assert not (await world.call("viewer1", "ExplainDeployment", explain)).refusals
    await world.finish(second.id)
    told_of = (await world.call("viewer1", "ExplainDeployment", explain)).refusals
    assert list(told_of) == ["2 has completed there meanwhile."]
    carrier = (await world.roll_back(second.id)).deployment
    await world.run_stages(carrier.id, "deploy", "smoke_test")
    await world.approve(first.id, "dev3")
    assert (await world.start(first.id)).status == IN_PROGRESS
    await world.check_events()


async def test_a_rollback_waits_for_nobody(world: World, app: str, place: str) -> None:
    await queueing(world, place, "queue")
    for version in ("1", "2"):
        await world.deployed(await world.release(f"{app}@{version}"), place)
    live = await world.call("dev1", "ListDeployments", pb.ListDeploymentsRequest(service=app))
    fix = await world.create(await world.release(f"{app}@3"), place)
    carrier = (await world.roll_back(live.deployments[0].id)).deployment
    assert not carrier.blockers
    await world.run_stages(carrier.id, "deploy", "smoke_test")
    assert not (await world.get(fix.id)).blockers
    await world.start(fix.id)


async def test_a_newer_one_supersedes_those_that_wait(world: World, app: str, place: str) -> None:
    await queueing(world, place, "queue")
    waiting = await in_line(world, app, place, 3)
    await queueing(world, place, "supersede")
    release = await world.release(f"{app}@9")
    request = pb.PromoteReleaseRequest(release=release, environment=place, validate_only=True)
    await world.call("dev1", "PromoteRelease", request)
    assert [(await world.get(one.id)).status for one in waiting] == [PENDING] * 3
    request.validate_only = False
    answer = await world.call("dev1", "PromoteRelease", request)
    newer = answer.deployment
    assert not newer.blockers
    for one in waiting:
        ended = await world.get(one.id)
        assert (ended.status, ended.superseded_by) == (SUPERSEDED, newer.id)
        assert ended.completed_at == newer.deployed_at
        assert ended.status_reason == "9 was requested there later."
    events = [await told(world, event_id) for event_id in answer.audit.event_ids]
    by_action = sorted((one["action"], one["resourceId"]) for one in events)
    superseded = sorted(one.id for one in waiting)
    assert by_action == [("promote", newer.id), *(("supersede", one) for one in superseded)]
    promoted = next(one for one in events if one["action"] == "promote")
    assert promoted["details"]["supersedes"] == [one.id for one in waiting]
    for one in events:
        if one["action"] == "supersede":
            assert one["details"]["superseded_by"] == newer.id
    await world.check_events()


async def test_a_start_and_a_newer_request_exclude_each_other(
    world: World, app: str, place: str
) -> None:
    await queueing(world, place, "supersede")
    edge = Edge()
    for number in range(ROUNDS):
        name = f"{app}-{number}"
        older = await world.create(await world.release(f"{name}@1"), place)
        release = await world.release(f"{name}@2")

        calls = edge.between(world.create(release, place), world.start(older.id))
        done, refused = await outcomes(calls)
        edge.note(second_won=not refused)
        newer = done[0]
        assert isinstance(newer, pb.Deployment)
        after = await world.get(older.id)
        if refused:
            assert isinstance(refused[0], IllegalTransition)
            assert (after.status, after.superseded_by) == (SUPERSEDED, newer.id)
            await world.start(newer.id)
        else:
            assert after.status == IN_PROGRESS
            assert not after.superseded_by
            assert [one.gate for one in (await world.get(newer.id)).blockers] == ["slot"]
    assert edge.both
    await world.check_events()


async def test_one_at_a_time_refuses_the_second(world: World, app: str, place: str) -> None:
    await queueing(world, place, "reject")
    releases = [await world.release(f"{app}@{number}") for number in range(1, 4)]

    async def ask(release: str) -> DomainError:
        request = pb.CreateDeploymentRequest(release=release, environment=place)
        return await world.refused("dev1", "CreateDeployment", request)

    made, refused = await outcomes([world.create(name, place) for name in releases])
    assert len(made) == 1
    first = made[0]
    assert isinstance(first, pb.Deployment)
    for error in refused:
        assert isinstance(error, GateUnsatisfied)
        assert [violation.gate for violation in error.gates] == ["queue"]
        assert first.id in error.gates[0].subject
    await world.start(first.id)
    others = [name for name in releases if name != first.release]
    assert "in-progress" in str(await ask(others[0]))
    await world.finish(first.id)
    # The advice was to wait until it has ended. A release that is older now needs leave.
    await world.create(others[0], place, allow_downgrade=True)
    await world.check_events()


async def test_policies_requests_and_starts_never_wait_for_one_another_in_a_circle(
    world: World, app: str, place: str
) -> None:
    for number in range(ROUNDS):
        name = f"{app}-{number}"
        older = await world.create(await world.release(f"{name}@1"), place)
        newer = [await world.release(f"{name}@{version}") for version in (2, 3)]
        mode = "queue" if number % 2 else "supersede"
        done, refused = await outcomes(
            [
                queueing(world, place, mode),
                *(world.create(release, place) for release in newer),
                world.start(older.id),
            ]
        )
        assert len(done) + len(refused) == 4
        assert all(isinstance(error, IllegalTransition) for error in refused)
    # A transaction that was chosen to end a circle is tried again, and leaves this behind.
    await asyncio.sleep(1.5)
    deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    assert await world.database.fetchval(deadlocks) == 0
    await world.check_events()


async def test_a_longer_line_takes_no_more_queries(world: World, app: str, place: str) -> None:
    await queueing(world, place, "queue", required_approvals=1)
    database = Database(world.database_url, role="rm_deployment", application_name="test")
    counts = set()
    for length in (2, 12):
        name = f"{app}-{length}"
        await in_line(world, name, place, length)
        chosen = dossiers.DeploymentFilter(service_id=world.services[name])
        async with database.snapshot() as tx:
            with statements_sent(database) as statements:
                found = await dossiers.listed(tx, PageRequest(size=length), chosen)
                cases = await examine.several(tx, found.entries)
            counts.add(len(statements))
        assert [case.line.waiting for case in cases] == list(range(length - 1, -1, -1))
        assert {case.line.ready for case in cases} == {0}
    await database.close()
    assert len(counts) == 1
