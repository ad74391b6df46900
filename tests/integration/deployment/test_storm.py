"""Everything at once: people, executors and administrators on the same few pairs, for seconds."""

import asyncio
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest
from release_manager.deployment.v1 import deployment_pb2 as pb

from services.deployment.rules.lifecycle import TRANSITIONS
from shared.domain_error import DomainError
from tests.support.deployments import World

pytestmark = pytest.mark.asyncio(loop_scope="session")

# Told when the test fails; what comes of the same numbers depends on the machine as well.
SEED = int(os.environ.get("STORM_SEED") or random.randrange(2**32))
SECONDS = 8.0
CALLERS = 12
RELEASES = [f"{name}@{version}" for name in ("storm1", "storm2") for version in range(1, 21)]
PEOPLE = ("dev1", "dev2", "dev3", "lead1", "lead2", "admin")
STEPS = {(str(before), str(after)) for (before, _), after in TRANSITIONS.items()} | {
    ("in-progress", "rolled_back"),  # a holder that is the subject of the rollback, in one step
    ("paused", "rolled_back"),
    *(("pending", end) for end in ("in-progress", "failed", "completed")),  # a stage, all in one
}

OPEN = (
    "SELECT id::text FROM deployments WHERE status IN ('pending', 'in-progress')"
    " ORDER BY random() LIMIT 1"
)

Act = Callable[[World, str, str], Awaitable[Any]]

dice = random.Random(SEED)


async def requested(world: World, who: str, _: str) -> Any:
    method = dice.choice((world.promote, world.create))
    return await method(dice.choice(RELEASES), dice.choice(("dev", "dev", "staging")), who)


async def approved(world: World, who: str, deployment: str) -> Any:
    request = pb.ApproveDeploymentRequest(deployment=deployment)
    return await world.call(who, "ApproveDeployment", request)


async def rejected(world: World, who: str, deployment: str) -> Any:
    request = pb.RejectDeploymentRequest(deployment=deployment, comment="not today")
    return await world.call(who, "RejectDeployment", request)


async def cancelled(world: World, who: str, deployment: str) -> Any:
    request = pb.CancelDeploymentRequest(deployment=deployment, reason="changed my mind")
    return await world.call(who, "CancelDeployment", request)


async def rolled_back(world: World, who: str, deployment: str) -> Any:
    return await world.roll_back(deployment, who, preempt=dice.random() < 0.5)


async def driven(world: World, who: str, deployment: str) -> Any:
    """Do what comes next for the deployment, while others do the same."""
    found = await world.get(deployment)
    if not found.stages and found.status == pb.DEPLOYMENT_STATUS_PENDING:
        await world.start(deployment, who)
    if not found.stages:
        await world.finish(deployment, dice.choice(("completed", "completed", "failed")))
    for stage in found.stages:
        if stage.status in (pb.STAGE_STATUS_PENDING, pb.STAGE_STATUS_IN_PROGRESS):
            status = "failed" if dice.random() < 0.1 else "completed"
            await world.stage(deployment, stage.name, status, who)


async def demoted(world: World, who: str, _: str) -> Any:
    """As the catalog does: the row alone, for a moment."""
    async with world.database.acquire() as own, own.transaction():
        await own.execute("UPDATE users SET active = NOT active WHERE username = $1", who)
        await asyncio.sleep(0.01)
        await own.execute("UPDATE users SET active = NOT active WHERE username = $1", who)


async def held(world: World, _: str, deployment: str) -> Any:
    """As the catalog does when a release is abandoned or published."""
    async with world.database.acquire() as own, own.transaction():
        await own.execute(
            "SELECT FROM releases WHERE id = (SELECT release_id FROM deployments"
            " WHERE id = $1::text::uuid) FOR UPDATE",
            deployment,
        )
        await asyncio.sleep(0.01)


ACTS: Mapping[Act, int] = {
    requested: 8,
    approved: 4,
    driven: 12,
    rolled_back: 4,
    cancelled: 1,
    rejected: 1,
    demoted: 1,
    held: 1,
}


async def test_no_interleaving_breaks_a_rule(own_world: World) -> None:
    sys.stdout.write(f"STORM_SEED={SEED}\n")
    world, refused, done = own_world, Counter[str](), Counter[str]()
    for name in RELEASES:
        await world.release(name, author="admin")
    first = await world.create(RELEASES[0], "dev")
    ids = [first.id]
    end = time.monotonic() + SECONDS

    async def caller() -> None:
        while time.monotonic() < end:
            (act,) = dice.choices(list(ACTS), list(ACTS.values()))
            subject = dice.choice(ids[-8:])
            if dice.random() < 0.7:
                subject = await world.database.fetchval(OPEN) or subject
            try:
                answer = await act(world, dice.choice(PEOPLE), subject)
            except DomainError as error:
                refused[error.reason] += 1
                continue
            done[act.__name__] += 1
            if act is requested:
                ids.append(answer.id)
            if act is rolled_back:
                ids.append(answer.deployment.id)

    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    assert not world.errors
    assert not refused["CONCURRENT_CHANGE"], refused
    assert set(done) >= {"requested", "driven"}, (done, refused)
    await check(world)


async def check(world: World) -> None:
    """Check what must be true of every history."""
    await world.check_events()
    steps = await world.database.fetch(
        "SELECT DISTINCT event->'details'->'before'->>'status' AS before,"
        " event->'details'->'after'->>'status' AS after FROM outbox"
        " WHERE event->'details' ? 'before'"
    )
    assert {(row[0], row[1]) for row in steps if row[0] != row[1]} <= STEPS
    unapproved = await world.database.fetch(
        "SELECT d.id FROM deployments d JOIN environments e ON e.id = d.environment_id"
        " WHERE e.name <> 'Dev' AND d.kind <> 'rollback' AND d.started_at IS NOT NULL"
        " AND (SELECT count(DISTINCT a.approver_id) FROM approvals a WHERE a.deployment_id = d.id"
        " AND a.status = 'approved' AND a.decided_at <= d.started_at"
        " AND a.approver_id <> ALL (d.requesters)) < CASE e.name WHEN 'Prod' THEN 2 ELSE 1 END"
    )
    assert not unapproved
    loose = await world.database.fetchval(
        "SELECT count(*) FROM rollbacks r JOIN deployments d ON d.id = r.rollback_deployment_id"
        " WHERE (r.status = 'in-progress') <> (d.status IN ('pending', 'in-progress'))"
        " OR (r.status = 'completed') <> (d.completed_seq IS NOT NULL)"
    )
    assert loose == 0
    doubled = await world.database.fetch(
        "SELECT service_id, environment_id FROM deployments WHERE completed_seq IS NOT NULL"
        " GROUP BY 1, 2 HAVING max(completed_seq) <> count(*)"
    )
    assert not doubled
    deadlocks = await world.database.fetchval(
        "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    )
    assert deadlocks == 0
