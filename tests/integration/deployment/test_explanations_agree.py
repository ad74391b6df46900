"""An explanation and the call that it explains never disagree, in whatever situation."""

import os
import random
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest
from release_manager.deployment.v1 import deployment_pb2 as pb

from shared.domain_error import DomainError
from shared.errors import GateUnsatisfied, IllegalTransition, SlotTaken
from tests.support.deployments import World
from tests.support.random_world import RandomWorld

pytestmark = pytest.mark.asyncio(loop_scope="session")

SITUATIONS = int(os.environ.get("EXPLAINED_SITUATIONS", "60"))
SEED = int(os.environ.get("EXPLAINED_SEED", "1"))
# After so many situations it begins anew, with another service and policies that can be met.
CHAPTER = 20
GONE = {
    pb.DEPLOYMENT_STATUS_CANCELLED,
    pb.DEPLOYMENT_STATUS_CANCELLING,
    pb.DEPLOYMENT_STATUS_ROLLED_BACK,
}

Seen = Counter[str]


@pytest.mark.timeout(300 + 3 * SITUATIONS)
async def test_explanations_and_calls_never_disagree(own_world: World) -> None:
    source = random.Random(SEED)
    seen: Seen = Counter()
    for number in range(SITUATIONS):
        if number % CHAPTER == 0:
            situations = RandomWorld(own_world, source, f"app{number}")
            await situations.begin()
        await situations.next()
        check = (requested, started, rolled_back)[number % 3]
        await check(situations, seen)
    await own_world.check_events()
    missing = {
        *("requested", "refused by a gate", "refused at once", "refused because blocked"),
        *("started", "not started", "rolled back", "not rolled back"),
    } - seen.keys()
    assert not missing, seen


async def requested(now: RandomWorld, seen: Seen) -> None:
    """Ask what would become of a request, rehearse one that must not wait, then make it."""
    who = now.source.choice((now.who(), now.who(), "viewer1"))
    wanted = now.request()
    told = await now.ask(who, "ExplainPromotion", pb.ExplainPromotionRequest(**wanted))
    assert not isinstance(told, DomainError), told
    for name, kind in (
        ("CreateDeployment", pb.CreateDeploymentRequest),
        ("PromoteRelease", pb.PromoteReleaseRequest),
    ):
        rehearsed = kind(**wanted, fail_if_blocked=True, validate_only=True)
        seen[agreed(told, await now.ask(who, name, rehearsed), may_wait=False)] += 1
        rehearsed = kind(**wanted, validate_only=True)
        agreed(told, await now.ask(who, name, rehearsed), may_wait=True)
    got = await now.ask(who, "CreateDeployment", pb.CreateDeploymentRequest(**wanted))
    seen[agreed(told, got, may_wait=True)] += 1
    if isinstance(got, DomainError):
        return
    for superseded in told.supersedes:
        found = await now.world.get(superseded)
        assert found.status == pb.DEPLOYMENT_STATUS_SUPERSEDED
        assert found.superseded_by == got.deployment.id
    others = await now.world.database.fetchval(
        "SELECT count(*) FROM deployments WHERE superseded_by::text = $1", got.deployment.id
    )
    assert others == len(told.supersedes)


def agreed(told: pb.ExplainPromotionResponse, got: Any, *, may_wait: bool) -> str:
    """Check what became of a request against what was told; return what that was."""
    explanation, waits = told.explanation, unsatisfied(told.explanation.gates)
    if isinstance(got, GateUnsatisfied):
        assert explanation.refused or not may_wait
        assert said(got) <= waits.keys() if explanation.refused else said(got) == waits.keys()
        assert all("approvers" in sentence for sentence in told.refusals)
        return "refused by a gate" if explanation.refused else "refused because blocked"
    if isinstance(got, DomainError):
        assert explanation.refused
        assert str(got) == told.refusals[0]
        return "refused at once"
    assert not explanation.refused
    assert not told.refusals
    assert explanation.may_start == (not waits)
    assert may_wait or explanation.may_start
    assert unsatisfied(got.deployment.blockers) == waits
    return "requested"


async def started(now: RandomWorld, seen: Seen) -> None:
    """Ask what holds a deployment back, then start it."""
    deployment = await now.some("pending") or await now.some()
    if deployment is None:
        return
    request = pb.ExplainDeploymentRequest(deployment=deployment)
    told = await now.world.call("viewer1", "ExplainDeployment", request)
    found = await now.world.get(deployment)
    assert told.status == found.status
    if told.status != pb.DEPLOYMENT_STATUS_PENDING:
        assert not told.explanation.gates
        assert not told.explanation.may_start
        return
    first = next((one for one in found.stages if one.status == pb.STAGE_STATUS_PENDING), None)
    if first is not None:
        start = now.world.stage(deployment, first.name, "in_progress", now.who())
        got = await now.outcome(start)
    else:
        got = await now.outcome(now.world.start(deployment, now.who()))
    waits = unsatisfied(told.explanation.gates)
    if isinstance(got, IllegalTransition):
        assert list(told.refusals) == [(await now.world.get(deployment)).status_reason], got
        assert not told.explanation.may_start
    elif isinstance(got, GateUnsatisfied | SlotTaken):
        assert said(got) == waits.keys()
        assert not told.refusals
        assert not told.explanation.may_start
    else:
        assert not isinstance(got, DomainError), got
        assert told.explanation.may_start
        assert not waits
    seen["not started" if isinstance(got, DomainError) else "started"] += 1


async def rolled_back(now: RandomWorld, seen: Seen) -> None:
    """Ask for the plan of a rollback, then roll back."""
    last = now.source.random() < 0.7
    deployment = await now.last_touched() if last else await now.some()
    if deployment is None:
        return
    who = now.who()
    wish: dict[str, Any] = {"deployment": deployment, "preempt": now.source.random() < 0.5}
    if now.source.random() < 0.2:
        wish["target_release"] = now.source.choice(now.releases)
    told = await now.ask(who, "PlanRollback", pb.PlanRollbackRequest(**wish))
    request = pb.ExecuteRollbackRequest(**wish, reason="it broke")
    got = await now.ask(who, "ExecuteRollback", request)
    if isinstance(told, DomainError) or isinstance(got, DomainError):
        assert (type(told), str(told), told.facts) == (type(got), str(got), got.facts)
        assert told.gates == got.gates
        seen["not rolled back"] += 1
        return
    seen["rolled back"] += 1
    carrier = got.deployment
    assert (told.from_release, told.target_release) == (
        got.rollback.from_release,
        got.rollback.to_release,
    )
    assert told.target_release_id == carrier.release_id
    assert unsatisfied(told.blockers) == unsatisfied(carrier.blockers)
    assert not told.preempts_id or (await now.world.get(told.preempts_id)).status in GONE
    superseded = await now.world.database.fetch(
        "SELECT id::text FROM deployments WHERE superseded_by::text = $1", carrier.id
    )
    assert {row["id"] for row in superseded} == set(told.supersedes)
    marked = await now.world.database.fetchval(
        "SELECT count(*) FROM release_marks WHERE release_id::text = $1 AND environment_id::text"
        " = $2 AND cleared_at IS NULL",
        *(told.from_release_id, carrier.environment_id),
    )
    assert marked or not told.marks_bad


def unsatisfied(gates: Iterable[pb.Blocker]) -> dict[tuple[str, str, str], str]:
    """Return the gates that hold back, with all that each says."""
    return {
        (gate.gate, gate.reason, gate.remedy): str(gate)
        for gate in gates
        if gate.status == pb.GATE_STATUS_UNSATISFIED
    }


def said(error: DomainError) -> set[tuple[str, str, str]]:
    """Return what an error says of gates."""
    return {(gate.gate, gate.subject, gate.description) for gate in error.gates}
