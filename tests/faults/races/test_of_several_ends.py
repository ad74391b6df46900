"""Of several ends one comes: of a wait, of a run that is rolled back, of a place put away."""

import asyncio
from typing import Any
from uuid import UUID

import pytest
from release_manager.catalog.v1 import catalog_pb2
from release_manager.deployment.v1 import deployment_pb2 as pb

from shared.ids import new_id
from tests.faults.races.track import (
    SECONDS_A_ROUND,
    SOME,
    Track,
    reasons,
    requested,
    rounds,
    track,
    won,
)
from tests.properties.court import Court
from tests.support.deployments import told
from tests.support.platform import bearer

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(120 + SECONDS_A_ROUND * rounds(SOME)),
]


async def after(race: Track, call: Any) -> Any:
    """Wait a moment of the race's choice, then call."""
    await asyncio.sleep(race.chance.uniform(0, 0.03))
    return await call


async def test_of_approval_rejection_cancel_and_expiry_one_ends_it(court: Court) -> None:
    race, world = track(court, "decisions"), court.world
    async for app in race.rounds(SOME):
        release = await world.release(f"{app}@1", author="admin")
        await court.lived(release, "Dev")
        made = await requested(court, release, "Staging")
        late = race.chance.choice(("20 ms", "60 ms", "1 day"))
        await court.owner.execute(
            "UPDATE deployments SET start_by = clock_timestamp() + $2::text::interval"
            " WHERE id = $1",
            *(UUID(made.id), late),
        )
        reject = pb.RejectDeploymentRequest(deployment=made.id, comment="not today")
        cancel = pb.CancelDeploymentRequest(deployment=made.id, reason="another way")
        approve = pb.ApproveDeploymentRequest(deployment=made.id)
        calls = [
            *(world.call(who, "ApproveDeployment", approve) for who in ("dev3", "lead2")),
            world.call("lead1", "RejectDeployment", reject),
            world.call("dev1", "CancelDeployment", cancel),
            *(world.start(made.id, who) for who in ("dev1", "dev2", "lead2")),
        ]
        done = await race.run([after(race, call) for call in calls])
        assert reasons(done) <= {"ILLEGAL_TRANSITION", "GATE_UNSATISFIED", "DECISION_EXISTS"}
        found = await world.get(made.id)
        ends = await court.owner.fetch(
            "SELECT event -> 'details' -> 'after' ->> 'status' AS status FROM outbox"
            " WHERE aggregate = $1 AND event -> 'details' -> 'before' ->> 'status' = 'pending'"
            " AND event -> 'details' -> 'after' ->> 'status' <> 'pending'",
            f"deployment:{made.id}",
        )
        assert len(ends) <= 1
        race.tally[pb.DeploymentStatus.Name(found.status)] += 1
    await race.check()


async def test_of_a_rollback_a_finish_and_a_rollback_one_order_comes(court: Court) -> None:
    race, world = track(court, "undoing"), court.world
    async for app in race.rounds(SOME):
        first, second = await court.released(app, 2)
        await court.lived(first, "Dev")
        made = await requested(court, second, "Dev")
        await world.start(made.id)
        done = await race.run(
            [
                after(race, world.finish(made.id, race.chance.choice(("completed", "failed")))),
                *(after(race, world.roll_back(made.id, preempt=True)) for _ in range(2)),
            ]
        )
        (rollback,) = won(done[1:])
        assert reasons(done) <= {"ILLEGAL_TRANSITION", "ROLLBACK_EXISTS"}
        assert rollback.deployment.release == first
        found = await world.get(made.id)
        assert found.status == pb.DEPLOYMENT_STATUS_ROLLED_BACK
        assert found.rolled_back_by == rollback.deployment.id
        race.tally["finished first" if won(done[:1]) else "rolled back first"] += 1
        await world.run_stages(rollback.deployment.id, "deploy", "smoke_test")
    await race.check()


async def test_nothing_is_left_in_a_place_that_is_archived(court: Court) -> None:
    race, world = track(court, "places"), court.world

    async def archived(place: str) -> Any:
        request = catalog_pb2.ArchiveEnvironmentRequest(environment=place)
        token = bearer(world.tokens["admin"])
        catalog = court.platform.catalog
        return await told(lambda: catalog.ArchiveEnvironment(request, metadata=token))

    async def asked(release: str, place: str) -> Any:
        made = await requested(court, release, place)
        return await world.start(made.id)

    async for app in race.rounds(SOME):
        names, place = await court.released(app, 3), f"place-{new_id().hex}"
        await world.insert(
            "environments", id=new_id(), name=place, environment_type="dev", promotion_order=0
        )
        calls = [archived(place), *(asked(name, place) for name in names)]
        done = await race.run([after(race, call) for call in calls])
        open_there = await court.owner.fetchrow(
            "SELECT e.archived_at IS NOT NULL AS archived, count(d.id) AS deployments,"
            " count(d.id) FILTER (WHERE d.status IN ('pending', 'in-progress')) AS open"
            " FROM environments e LEFT JOIN deployments d ON d.environment_id = e.id"
            " WHERE e.name = $1 GROUP BY e.id",
            place,
        )
        assert open_there is not None
        assert open_there["archived"] is bool(won(done[:1]))
        assert not (open_there["archived"] and open_there["open"])
        assert open_there["archived"] or open_there["deployments"]
        race.tally["archived" if open_there["archived"] else "in use"] += 1
        await court.owner.execute(
            "UPDATE environments SET archived_at = now() WHERE name = $1", place
        )
    await race.check()
