"""Overrides: what they let through, what they void, and who has to confirm them."""

import asyncio
from typing import Any

import pytest
from release_manager.deployment.v1 import deployment_pb2 as pb

from shared.errors import (
    EtagMismatch,
    GateUnsatisfied,
    IllegalTransition,
    NotEnoughApprovers,
    ResourceNotFound,
    RoleRequired,
    ValidationFailed,
)
from shared.ids import new_id
from tests.integration.deployment.test_races import outcomes
from tests.support.deployments import World
from tests.support.publishing import approved, publish, told
from tests.support.restricting import gate, lock, override, overrides, wanted
from tests.support.waiting import Edge

pytestmark = pytest.mark.asyncio(loop_scope="session")

PENDING = pb.DEPLOYMENT_STATUS_PENDING
RUNNING = pb.DEPLOYMENT_STATUS_IN_PROGRESS
ROUNDS = 10


async def request(world: World, who: str, rpc: str, **fields: Any) -> pb.Deployment:
    """Ask for a deployment."""
    answer = await world.call(who, rpc, getattr(pb, f"{rpc}Request")(**fields))
    found: pb.Deployment = answer.deployment
    return found


async def test_an_overridden_lock_is_passed(world: World, app: str) -> None:
    waiting, other = [
        await world.create(await world.release(f"{name}@1"), "dev") for name in (app, f"{app}-b")
    ]
    for name in (app, f"{app}-b"):
        await lock(world, name)
    made = (await override(world, waiting.id)).override
    assert (made.deployment_id, made.gate, made.author) == (waiting.id, gate("lock"), "lead1")
    assert (made.service, made.release, made.environment) == (app, f"{app}@1", "Dev")
    found = await world.get(waiting.id)
    assert not found.blockers
    assert list(found.overrides) == [made]
    assert int(found.etag) == int(waiting.etag) + 1
    started = await world.start(waiting.id)
    assert (started.status, list(started.overrides)) == (RUNNING, [made])
    with pytest.raises(GateUnsatisfied, match="has locked"):
        await world.start(other.id)
    await world.check_events()


async def test_overriding_again_changes_nothing(world: World, app: str) -> None:
    waiting = await world.create(await world.release(f"{app}@1"), "dev")
    first = await override(world, waiting.id)
    again = await override(world, waiting.id, who="lead2", reason="other words")
    assert again.override == first.override
    assert len(first.audit.event_ids) == 2
    assert not again.audit.event_ids
    many = await asyncio.gather(*(override(world, waiting.id, "freeze") for _ in range(6)))
    assert len({answer.override.id for answer in many}) == 1
    assert [one.gate for one in await overrides(world, deployment=waiting.id)] == [
        gate("freeze"),
        gate("lock"),
    ]
    await world.check_events()


async def test_an_override_voids_the_decisions_so_far(world: World, place: str, app: str) -> None:
    ready = await approved(world, app, place)
    assert (ready.approvals_given, ready.approval_status) == (1, pb.APPROVAL_STATUS_APPROVED)
    answer = await override(world, ready.id)
    found = await world.get(ready.id)
    assert (found.approvals_given, found.approval_status) == (0, pb.APPROVAL_STATUS_PENDING)
    with pytest.raises(GateUnsatisfied, match="0 of 1 approvals"):
        await world.start(ready.id)
    renewed = await world.approve(ready.id, "dev3")
    assert renewed.approvals_given == 1
    assert (await world.start(ready.id)).status == RUNNING
    events = [await told(world, event_id) for event_id in answer.audit.event_ids]
    of_gate, of_deployment = events
    assert of_gate["aggregate"] == f"gate_override:{answer.override.id}"
    assert of_gate["details"]["gate"] == "lock"
    assert of_gate["details"]["before"] == {"overridden": False}
    assert of_deployment["aggregate"] == f"deployment:{ready.id}"
    assert of_deployment["details"]["approvals_voided"] == 1
    assert of_deployment["details"]["after"] == {"status": "pending", "overrides": ["lock"]}
    await world.check_events()


async def test_the_clock_to_decide_starts_anew(world: World, place: str, app: str) -> None:
    policy = pb.Policy(required_approvals=1)
    policy.decide_within.FromSeconds(3_600)
    await publish(world, place, policy)
    made = await world.create(await world.release(f"{app}@1"), place)
    given = (await override(world, made.id)).override
    found = await world.get(made.id)
    assert found.decide_by.ToNanoseconds() - given.created_at.ToNanoseconds() == 3_600 * 10**9
    assert found.decide_by.ToNanoseconds() > made.decide_by.ToNanoseconds()
    reminder = await world.database.fetchval(
        "SELECT decide_by FROM deployments WHERE id = $1", made.id
    )
    assert reminder == found.decide_by.ToDatetime(reminder.tzinfo)


async def test_an_override_comes_too_late(world: World, place: str, app: str) -> None:
    policy = pb.Policy(required_approvals=1)
    policy.decide_within.FromSeconds(3_600)
    await publish(world, place, policy)
    made = await world.create(await world.release(f"{app}@1"), place)
    for table, column in (("environment_policies", "created_at"), ("deployments", "deployed_at")):
        await world.database.execute(
            f"UPDATE {table} SET {column} = {column} - interval '2 hours'"
            " WHERE environment_id = $1",
            world.environments[place],
        )
    with pytest.raises(IllegalTransition) as refused:
        await override(world, made.id)
    assert refused.value.facts["status"] == "expired"
    found = await world.get(made.id)
    assert (found.status, list(found.overrides)) == (pb.DEPLOYMENT_STATUS_EXPIRED, [])
    await world.check_events()


async def test_a_lead_who_has_not_overridden_confirms(world: World, place: str, app: str) -> None:
    await publish(world, place, pb.Policy(required_approvals=2, lead_required=True))
    made = await world.create(await world.release(f"{app}@1"), place)
    await override(world, made.id, who="lead1")
    found = await world.approve(made.id, "dev3", "lead1")
    (blocker,) = found.blockers
    assert blocker.reason == (
        "2 of 2 approvals, none of them by a lead or admin other than the author of an override"
    )
    assert sorted(blocker.people) == ["admin", "lead2"]
    with pytest.raises(GateUnsatisfied, match="other than the author"):
        await world.start(made.id)
    found = await world.approve(made.id, "lead2")
    assert not found.blockers
    assert (await world.start(made.id)).status == RUNNING


async def test_an_override_that_nobody_could_confirm(own_world: World) -> None:
    world = own_world
    await publish(world, "dev", pb.Policy(required_approvals=1, lead_required=True))
    made = await world.create(await world.release("auth@1"), "dev")
    await world.database.execute(
        "UPDATE users SET active = false WHERE username IN ('admin', 'lead2')"
    )
    with pytest.raises(NotEnoughApprovers, match="not the author of an override"):
        await override(world, made.id)
    found = await world.get(made.id)
    assert (list(found.overrides), found.etag) == ([], made.etag)
    await world.database.execute("UPDATE users SET active = true WHERE username = 'lead2'")
    await override(world, made.id)
    assert not (await world.approve(made.id, "lead2")).blockers


async def test_overrides_from_the_start(world: World, app: str) -> None:
    release = await world.release(f"{app}@1")
    with pytest.raises(GateUnsatisfied, match="Dev"):
        await request(
            world,
            "lead1",
            "PromoteRelease",
            release=release,
            environment="prod",
            overrides=wanted("lock"),
        )
    made = await request(
        world,
        "lead1",
        "PromoteRelease",
        release=release,
        environment="prod",
        overrides=wanted("promotion_order", "lock"),
    )
    assert {one.gate for one in made.overrides} == {gate("promotion_order"), gate("lock")}
    assert [one.reason for one in made.overrides] == ["from the start"] * 2
    assert [blocker.gate for blocker in made.blockers] == ["approval"]
    found = await world.approve(made.id, "dev3", "lead2")
    assert not found.blockers
    await lock(world, app, "prod")
    started = await world.stage(made.id, "build", "in_progress")
    assert started.deployment.status == RUNNING
    await world.check_events()


async def test_developers_do_not_override(world: World, app: str) -> None:
    release = await world.release(f"{app}@1")
    for rpc in ("CreateDeployment", "PromoteRelease"):
        with pytest.raises(RoleRequired) as refused:
            await request(
                world, "dev1", rpc, release=release, environment="dev", overrides=wanted("lock")
            )
        assert refused.value.facts["required"] == "lead"
    waiting = await world.create(release, "dev")
    with pytest.raises(RoleRequired):
        await override(world, waiting.id, who="dev1")
    assert not await overrides(world, deployment=waiting.id)


async def test_a_request_overrides_each_gate_once(world: World, app: str) -> None:
    release = await world.release(f"{app}@1")
    with pytest.raises(ValidationFailed, match="the gate lock is named more than once"):
        await request(
            world,
            "lead1",
            "CreateDeployment",
            release=release,
            environment="dev",
            overrides=wanted("lock", "soak", "lock"),
        )


async def test_what_does_not_wait_is_not_overridden(world: World, app: str) -> None:
    running = await world.create(await world.release(f"{app}@1"), "dev")
    known = (await override(world, running.id)).override
    await world.start(running.id)
    with pytest.raises(IllegalTransition) as refused:
        await override(world, running.id, "freeze")
    assert refused.value.facts["status"] == "in-progress"
    assert (await override(world, running.id)).override == known
    with pytest.raises(ResourceNotFound):
        await override(world, str(new_id()))


async def test_rehearsals_and_repeats_override_once(world: World, app: str) -> None:
    waiting = await world.create(await world.release(f"{app}@1"), "dev")
    await override(world, waiting.id, validate_only=True)
    assert not await overrides(world, deployment=waiting.id)
    request_id = str(new_id())
    first = await override(world, waiting.id, request_id=request_id)
    again = await override(world, waiting.id, request_id=request_id)
    assert again == first
    await world.check_events()


async def test_overrides_are_listed(world: World, app: str) -> None:
    places = {}
    for environment in ("dev", "staging"):
        release = await world.release(f"{app}@{environment}")
        made = await request(
            world,
            "lead1",
            "CreateDeployment",
            release=release,
            environment=environment,
            overrides=wanted("promotion_order"),
        )
        places[environment] = made.id
    await override(world, places["dev"], "lock", who="lead2")

    async def found(**filters: Any) -> list[tuple[str, int]]:
        listed = await overrides(world, service=app, **filters)
        return [(one.environment, one.gate) for one in listed]

    order, locked = gate("promotion_order"), gate("lock")
    assert await found() == [("Dev", locked), ("Staging", order), ("Dev", order)]
    assert await found(environment="staging") == [("Staging", order)]
    assert await found(author="lead2") == [("Dev", locked)]
    assert await found(gate=order) == [("Staging", order), ("Dev", order)]
    assert await found(deployment=places["staging"]) == [("Staging", order)]
    with pytest.raises(ResourceNotFound):
        await found(deployment=str(new_id()))


async def test_who_has_read_a_deployment_before_its_override_does_not_approve_it(
    world: World, place: str, app: str
) -> None:
    ready = await approved(world, app, place)
    await override(world, ready.id)
    stale = pb.ApproveDeploymentRequest(deployment=ready.id, etag=ready.etag)
    assert isinstance(await world.refused("lead2", "ApproveDeployment", stale), EtagMismatch)


@pytest.mark.parametrize("round_", range(8))
async def test_an_approval_given_before_an_override_never_counts(
    world: World, place: str, app: str, round_: int
) -> None:
    await publish(world, place, pb.Policy(required_approvals=1))
    made = await world.create(await world.release(f"{app}@1"), place)

    edge = Edge(ahead=0.002 * (3 - round_ % 4))
    await asyncio.gather(*edge.between(world.approve(made.id, "dev3"), override(world, made.id)))
    events = [
        await told(world, row["event_id"])
        for row in await world.database.fetch(
            "SELECT event_id FROM outbox WHERE aggregate = $1 ORDER BY aggregate_seq",
            f"deployment:{made.id}",
        )
    ]
    actions = [event["action"] for event in events][1:]
    assert sorted(actions) == ["approve", "override"]
    found = await world.get(made.id)
    counted = 1 if actions == ["override", "approve"] else 0
    assert found.approvals_given == counted
    started, refused = await outcomes([world.start(made.id)])
    assert len(started) == counted
    assert all(isinstance(error, GateUnsatisfied) for error in refused)


async def test_nothing_starts_on_approvals_that_did_not_see_its_overrides(
    world: World, place: str, app: str
) -> None:
    """Approvals, an override and starts at once, in many rounds held against the tables."""
    await publish(world, place, pb.Policy(required_approvals=1))

    async def approved_and_started(deployment_id: str, who: str) -> object:
        await world.approve(deployment_id, who)
        return await world.start(deployment_id)

    edge = Edge()
    for number in range(ROUNDS):
        waiting = await world.create(await world.release(f"{app}-{number}@1"), place)
        first, second = edge.between(
            override(world, waiting.id), approved_and_started(waiting.id, "dev3")
        )
        others = (approved_and_started(waiting.id, "lead2"), world.start(waiting.id))
        _, refused = await outcomes([first, second, *others])
        assert all(isinstance(error, GateUnsatisfied | IllegalTransition) for error in refused)
        # An override that comes after the start is refused, and then the approvals were first.
        found = await world.get(waiting.id)
        edge.note(second_won=not found.overrides)
    rows = await world.database.fetch(
        "SELECT d.id, d.status, (SELECT count(*) FROM gate_overrides o"
        " WHERE o.deployment_id = d.id) AS overrides,"
        " coalesce((SELECT max(a.overrides_version) FROM approvals a"
        " WHERE a.deployment_id = d.id AND a.decided_at <= d.started_at), -1) AS seen"
        " FROM deployments d WHERE d.environment_id = $1",
        world.environments[place],
    )
    assert len(rows) == ROUNDS
    for row in rows:
        assert row["status"] == "pending" or row["seen"] == row["overrides"], row
    assert edge.both
    await world.check_events()
