"""What explanations say: gates, refusals, times and plans; that they agree is proved next door."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from release_manager.deployment.v1 import deployment_pb2 as pb

from shared.errors import LeaseHeld, NothingDeployed, ResourceNotFound, StaleRollback
from shared.ids import new_id
from tests.support.deployments import World
from tests.support.executing import (
    Executor,
    lease_is_over,
    nobody_looks,
    overdue_since_all_were_away,
)
from tests.support.publishing import publish

pytestmark = pytest.mark.asyncio(loop_scope="session")

WAITS = {pb.GATE_STATUS_UNSATISFIED}


async def explained(
    world: World, deployment: str, who: str = "viewer1"
) -> pb.ExplainDeploymentResponse:
    request = pb.ExplainDeploymentRequest(deployment=deployment)
    answer: pb.ExplainDeploymentResponse = await world.call(who, "ExplainDeployment", request)
    return answer


async def asked(
    world: World, release: str, environment: str, who: str = "dev1", **more: Any
) -> pb.ExplainPromotionResponse:
    request = pb.ExplainPromotionRequest(release=release, environment=environment, **more)
    answer: pb.ExplainPromotionResponse = await world.call(who, "ExplainPromotion", request)
    return answer


async def planned(world: World, deployment: str, **more: Any) -> pb.PlanRollbackResponse:
    request = pb.PlanRollbackRequest(deployment=deployment, **more)
    answer: pb.PlanRollbackResponse = await world.call("dev1", "PlanRollback", request)
    return answer


def unsatisfied(explanation: pb.Explanation) -> list[str]:
    return [gate.gate for gate in explanation.gates if gate.status in WAITS]


async def test_every_gate_answers_and_says_who_can_help(world: World, app: str) -> None:
    await world.deployed(await world.release(f"{app}@1"))
    waiting = await world.create(f"{app}@1", "staging")
    answer = await explained(world, waiting.id)
    explanation = answer.explanation
    assert answer.status == pb.DEPLOYMENT_STATUS_PENDING
    assert not explanation.may_start
    assert not explanation.refused
    assert len({gate.gate for gate in explanation.gates}) == len(explanation.gates) >= 4
    assert unsatisfied(explanation) == ["approval"]
    approval = explanation.gates[-1]
    assert "dev2" in approval.people
    assert "dev1" not in approval.people  # nobody approves their own request
    assert not explanation.HasField("earliest_start")  # people, not time, decide
    await world.approve(waiting.id, "dev2")
    after = (await explained(world, waiting.id)).explanation
    assert after.may_start
    assert not unsatisfied(after)
    assert after.as_of.ToDatetime() > explanation.as_of.ToDatetime()


async def test_what_has_started_has_no_gates_left(world: World, app: str) -> None:
    done = await world.deployed(await world.release(f"{app}@1"))
    answer = await explained(world, done.id)
    assert answer.status == pb.DEPLOYMENT_STATUS_COMPLETED
    assert not answer.explanation.gates
    assert not answer.explanation.may_start
    assert not answer.refusals


async def test_what_is_outdated_is_told_before_it_is_tried(world: World, app: str) -> None:
    await world.deployed(await world.release(f"{app}@1"))
    await world.deployed(await world.release(f"{app}@2"))
    old = await world.create(f"{app}@1", "staging")
    await world.approve(old.id, "dev2")
    assert (await explained(world, old.id)).explanation.may_start
    place = world.environments["Staging"]
    await world.database.execute(
        "UPDATE deployments SET deployed_at = deployed_at - interval '1 hour' WHERE id = $1",
        old.id,
    )
    newer = await world.create(f"{app}@2", "staging")
    await world.database.execute(
        "UPDATE deployments SET status = 'pending', superseded_by = NULL, status_reason = ''"
        " WHERE id = $1 AND environment_id = $2",
        *(old.id, place),
    )
    await world.approve(newer.id, "dev2")
    await world.start(newer.id)
    await world.finish(newer.id)
    answer = await explained(world, old.id)
    assert list(answer.refusals) == ["2 has completed there meanwhile."]
    assert (answer.explanation.may_start, answer.explanation.refused) == (False, True)


async def test_what_another_account_has_claimed_may_start_only_for_that_one(
    world: World, app: str
) -> None:
    made = await world.create(await world.release(f"{app}@1"), "dev")
    token = (await Executor(world, "dev2").claim(made.id)).lease_token
    told = await explained(world, made.id, "dev1")
    start = pb.StartDeploymentRequest(deployment=made.id)
    refused = await world.refused("dev1", "StartDeployment", start)
    assert isinstance(refused, LeaseHeld)
    assert list(told.refusals) == [str(refused)]
    # Whoever waits for the end of the lease can start it.
    assert (told.explanation.may_start, told.explanation.refused) == (False, False)
    own = await explained(world, made.id, "dev2")
    assert (own.explanation.may_start, list(own.refusals)) == (True, [])
    async with nobody_looks(world):
        await lease_is_over(world, made.id)
        assert (await explained(world, made.id, "dev1")).explanation.may_start
        await overdue_since_all_were_away(world, made.id)
        still = await explained(world, made.id, "dev1")
        assert (still.explanation.may_start, len(still.refusals)) == (False, 1)
        start.lease_token = token
        started = await world.call("dev2", "StartDeployment", start)
    assert started.deployment.status == pb.DEPLOYMENT_STATUS_IN_PROGRESS
    running = await explained(world, made.id, "dev1")
    assert (running.explanation.may_start, list(running.refusals)) == (False, [])


async def test_a_request_is_explained_without_being_made(world: World, app: str) -> None:
    release = await world.release(f"{app}@1")
    before = await world.database.fetchval("SELECT count(*) FROM deployments")
    early = await asked(world, release, "prod")
    assert early.explanation.refused
    assert "promotion_order" in unsatisfied(early.explanation)
    fine = await asked(world, release, "dev")
    assert fine.explanation.may_start
    assert not fine.refusals
    assert await world.database.fetchval("SELECT count(*) FROM deployments") == before


async def test_a_viewer_may_ask_and_reads_that_they_may_not_request(world: World, app: str) -> None:
    answer = await asked(world, await world.release(f"{app}@1"), "dev", "viewer1")
    assert not unsatisfied(answer.explanation)
    assert (answer.explanation.may_start, answer.explanation.refused) == (False, True)
    (why,) = answer.refusals
    assert "developer" in why


async def test_what_is_there_already_is_named(world: World, app: str) -> None:
    release = await world.release(f"{app}@1")
    waiting = await world.create(release, "dev")
    answer = await asked(world, release, "dev")
    (why,) = answer.refusals
    assert waiting.id in why
    assert answer.explanation.refused


async def test_what_would_be_superseded_is_named(world: World, app: str) -> None:
    waiting = await world.create(await world.release(f"{app}@1"), "dev")
    answer = await asked(world, await world.release(f"{app}@2"), "dev")
    assert list(answer.supersedes) == [waiting.id]
    await world.create(f"{app}@2", "dev")
    assert (await world.get(waiting.id)).status == pb.DEPLOYMENT_STATUS_SUPERSEDED


async def test_a_request_is_told_its_place_in_the_queue(world: World, place: str, app: str) -> None:
    await publish(world, place, pb.Policy(queue=pb.QUEUE_MODE_QUEUE))
    first = await world.create(await world.release(f"{app}@1"), place)
    answer = await asked(world, await world.release(f"{app}@2"), place)
    (queue,) = (gate for gate in answer.explanation.gates if gate.gate == "queue")
    assert (queue.status, queue.position) == (pb.GATE_STATUS_UNSATISFIED, 2)
    assert first.id in queue.reason
    assert not answer.supersedes
    made = await world.create(f"{app}@2", place)
    assert list(made.blockers) == [queue]


async def test_time_alone_has_an_earliest_start(world: World, app: str) -> None:
    later = (datetime.now(UTC) + timedelta(hours=2)).replace(microsecond=0)
    release = await world.release(f"{app}@1")
    answer = await asked(world, release, "dev", not_before=later)
    assert unsatisfied(answer.explanation) == ["not_before"]
    assert answer.explanation.earliest_start.ToDatetime(UTC) == later
    assert not answer.explanation.refused


async def test_archived_things_are_refused_by_name(world: World, app: str) -> None:
    release = await world.release(f"{app}@1")
    await world.database.execute(
        "UPDATE services SET archived_at = now() WHERE id = $1", world.services[app]
    )
    answer = await asked(world, release, "dev")
    assert answer.refusals[0].startswith(f"The service {app} is archived. Take it out")


async def test_what_does_not_exist_is_not_found(world: World, app: str) -> None:
    release = await world.release(f"{app}@1")
    nobody = str(new_id())
    for method, request in (
        ("ExplainDeployment", pb.ExplainDeploymentRequest(deployment=nobody)),
        ("PlanRollback", pb.PlanRollbackRequest(deployment=nobody)),
        ("ExplainPromotion", pb.ExplainPromotionRequest(release=f"{app}@9", environment="dev")),
        ("ExplainPromotion", pb.ExplainPromotionRequest(release=release, environment="mars")),
    ):
        assert isinstance(await world.refused("dev1", method, request), ResourceNotFound)


async def test_a_plan_says_where_to_and_why_not_elsewhere(world: World, app: str) -> None:
    for version in ("1", "2", "3"):
        done = await world.deployed(await world.release(f"{app}@{version}"))
    await world.call(
        "lead1",
        "MarkReleaseBad",
        pb.MarkReleaseBadRequest(release=f"{app}@2", environment="dev", reason="leaks"),
    )
    waiting = await world.database.fetchval(
        "SELECT count(*) FROM deployments WHERE kind = 'rollback'"
    )
    plan = await planned(world, done.id)
    assert (plan.target_release, plan.from_release) == (f"{app}@1", f"{app}@3")
    assert plan.marks_bad
    reasons = {one.release: one.reason for one in plan.passed_over}
    assert reasons[f"{app}@2"] == "The release is marked bad here."
    assert not plan.blockers
    assert not plan.preempts_id
    after = await world.database.fetchval(
        "SELECT count(*) FROM deployments WHERE kind = 'rollback'"
    )
    assert after == waiting


async def test_a_plan_names_who_must_make_room(world: World, app: str) -> None:
    done = await world.deployed(await world.release(f"{app}@1"))
    await world.deployed(await world.release(f"{app}@2"))
    holder = await world.create(await world.release(f"{app}@3"), "dev")
    await world.start(holder.id)
    plan = await planned(world, holder.id, preempt=True)
    assert plan.preempts_id == holder.id
    assert not plan.blockers
    assert plan.target_release == f"{app}@2"
    stale = pb.PlanRollbackRequest(deployment=done.id, preempt=True)
    assert isinstance(await world.refused("dev1", "PlanRollback", stale), StaleRollback)


async def test_a_plan_for_what_never_ran_says_so(world: World, app: str) -> None:
    waiting = await world.create(await world.release(f"{app}@1"), "dev")
    request = pb.PlanRollbackRequest(deployment=waiting.id)
    assert isinstance(await world.refused("viewer1", "PlanRollback", request), NothingDeployed)
