"""Everything that judges of what some people did, asked of the tables, the ledger and the wire."""

import asyncio

from release_manager.deployment.v1 import deployment_pb2 as pb

from tests.properties.actors import Actors
from tests.properties.claims import judged_claims
from tests.properties.evidence import evidence, unmatched_versions
from tests.properties.executors import Act
from tests.properties.lives import OPEN, judged_lives
from tests.properties.starts import judged_start
from tests.properties.waits import judged_waits

ROUNDS = 60
DEADLOCKS = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"


async def judged(actors: Actors) -> list[str]:
    """Return everything that was wrong, once the ledger has all of it."""
    return await actors.court.at_rest(lambda: _judged(actors))


async def _judged(actors: Actors) -> list[str]:
    court = actors.court
    seen = await evidence(court.owner, actors.services)
    claimed = {event for claim in actors.claims for event in claim.events}
    written = await court.owner.fetch(
        "SELECT event_id::text FROM audit_logs WHERE event_id = ANY ($1::uuid[])", list(claimed)
    )
    return [
        *judged_lives(seen),
        *(what for facts in seen.starts for what in judged_start(facts)),
        *judged_claims(seen, actors.claims, {row["event_id"] for row in written}),
        *await unmatched_versions(court.owner),
    ]


async def judged_now(actors: Actors) -> list[str]:
    """Return what is wrong between two steps: who holds a slot, and what waits without an end."""
    owner, services = actors.court.owner, actors.services
    holders = await owner.fetch(
        "SELECT count(*) AS held FROM deployments WHERE service_id = ANY ($1) AND status = ANY ($2)"
        " GROUP BY service_id, environment_id HAVING count(*) > 1",
        *(services, ["in-progress", "paused", "cancelling"]),
    )
    return [f"{row['held']} hold one slot" for row in holders] + judged_waits(
        await open_deployments(actors)
    )


async def open_deployments(actors: Actors) -> list[pb.Deployment]:
    """Return what has not ended, as a viewer sees it in one moment for each service."""
    found: list[pb.Deployment] = []
    for app in actors.apps:
        request = pb.ListDeploymentsRequest(service=app, page_size=1_000)
        answer = await actors.court.world.call("viewer1", "ListDeployments", request)
        found += [one for one in answer.deployments if _word(one) in OPEN]
    return found


def _word(one: pb.Deployment) -> str:
    name = pb.DeploymentStatus.Name(one.status).removeprefix("DEPLOYMENT_STATUS_").lower()
    return name.replace("in_progress", "in-progress")


async def drained(actors: Actors) -> list[str]:
    """Let everybody do what is asked of them until nothing waits; return what never ended.

    Locks and windows are opened, who is named approves, the first in line is started, and what
    runs is finished. What needs something else, such as another environment first, is cancelled
    by its requester.
    """
    await actors.court.tidy({})
    for what in ("unlock", "thaw"):
        await actors.act(Act(what))
    for _ in range(ROUNDS):
        waiting = await open_deployments(actors)
        if not waiting:
            return []
        for one in waiting:
            await _helped(actors, one)
        await asyncio.sleep(0.1)  # a service may remember a role for two seconds
    return [
        f"never ended: {one}, {_told(actors, one.id)}" for one in await open_deployments(actors)
    ]


def _told(actors: Actors, deployment_id: str) -> list[object]:
    """Return what was answered last to those who tried to bring a deployment to its end."""
    about = [c for c in actors.claims if getattr(c.request, "deployment", "") == deployment_id]
    return [(claim.who, claim.method, claim.results[-1]) for claim in about[-4:]]


async def _helped(actors: Actors, one: pb.Deployment) -> None:
    """Do for a deployment what its blockers ask for, or start it, or end it."""
    if one.status != pb.DEPLOYMENT_STATUS_PENDING:
        await actors.advance(one.id)
        return
    gates = {blocker.gate for blocker in one.blockers}
    people = [who for blocker in one.blockers for who in blocker.people]
    for who in people[:4]:
        approve = pb.ApproveDeploymentRequest(deployment=one.id)
        await actors.say(who, "ApproveDeployment", approve)
    if gates <= {"approval"}:
        await actors.advance(one.id)
    elif not gates <= {"approval", "slot", "queue"}:
        cancel = pb.CancelDeploymentRequest(deployment=one.id, reason="it waits for too much")
        await actors.say(one.deployed_by, "CancelDeployment", cancel)
