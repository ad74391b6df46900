"""Of many who ask for the same, one gets it: a stage's end, a slot, a name, an effect."""

from typing import Any

import pytest
from release_manager.catalog.v1 import catalog_pb2
from release_manager.deployment.v1 import deployment_pb2 as pb

from shared.ids import new_id
from tests.faults.races.track import (
    FEW,
    ROUNDS,
    SECONDS_A_ROUND,
    SOME,
    reasons,
    requested,
    rounds,
    track,
    won,
)
from tests.properties.actors import FREE
from tests.properties.court import Court
from tests.support.deployments import told
from tests.support.platform import bearer
from tests.support.publishing import publish

CALLERS = 20
# Rounds for which one line of waiting deployments is made, as making it takes the longest.
LINE = 20
REPORTERS = 50 if ROUNDS else 12
DIGEST = "sha256:" + "ab" * 32
pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(120 + SECONDS_A_ROUND * rounds(SOME)),
]


async def test_of_many_reports_of_a_stage_one_result_stands(court: Court) -> None:
    race, world = track(court, "reports"), court.world
    async for app in race.rounds(SOME):
        made = await world.promote(await world.release(f"{app}@1"), "Dev")
        await world.stage(made.id, "build", "in_progress")
        results = ("completed", "failed") * (REPORTERS // 2)
        done = await race.run([world.stage(made.id, "build", result) for result in results])
        stood = {answer.stage.status for answer in won(done)}
        assert len(stood) == 1
        assert reasons(done) <= {"STAGE_RESULT_FINAL", "ILLEGAL_TRANSITION"}
        assert sum(len(answer.audit.event_ids) for answer in won(done)) == 1
        assert (await world.get(made.id)).etag == "3"
        race.tally[pb.StageStatus.Name(stood.pop())] += 1
    await race.check()


async def test_of_twenty_starts_in_one_place_one_gets_the_slot(court: Court) -> None:
    race, world = track(court, "starts"), court.world

    async def line_of(app: str) -> list[str]:
        """Return deployments that wait, enough for twenty in each of the next rounds."""
        await publish(world, "Dev", pb.Policy(queue=pb.QUEUE_MODE_QUEUE))
        names = await court.released(app, CALLERS + LINE - 1)
        made = [(await requested(court, name, "Dev")).id for name in names]
        await publish(world, "Dev", FREE)  # nobody stands in line: whoever comes first
        return made

    lines: dict[str, list[str]] = {}
    async for app in race.rounds(FEW, share=LINE):
        waiting = lines.get(app) or lines.setdefault(app, await line_of(app))
        chosen = race.chance.sample(waiting, CALLERS)
        done = await race.run([world.start(one) for one in chosen])
        (winner,) = won(done)
        assert reasons(done) == {"SLOT_TAKEN"}
        race.tally[f"number {chosen.index(winner.id)}"] += 1
        waiting.remove(winner.id)
        await world.finish(winner.id, "failed")
    await race.check()


async def test_of_twenty_who_make_a_release_one_does(court: Court) -> None:
    race, world = track(court, "releases"), court.world

    async def create(app: str, digest: str) -> Any:
        request = catalog_pb2.CreateReleaseRequest(
            service=app, version="9", commit="abcdef1", artifact_digest=digest
        )
        token = bearer(world.tokens["dev1"])
        catalog = court.platform.catalog
        return await told(lambda: catalog.CreateRelease(request, metadata=token))

    async for app in race.rounds(FEW):
        await world.release(f"{app}@1")
        digests = [f"sha256:{number:064x}" for number in range(CALLERS)]
        done = await race.run([create(app, digest) for digest in digests])
        (made,) = won(done)
        assert reasons(done) == {"RESOURCE_EXISTS"}
        stored = await court.owner.fetch(
            "SELECT artifact_digest FROM releases WHERE service_id = $1 AND version = '9'",
            world.services[app],
        )
        assert [row[0] for row in stored] == [made.release.artifact_digest]
        race.tally[f"number {digests.index(made.release.artifact_digest)}"] += 1
    await race.check()


@pytest.mark.parametrize("differing", [False, True])
async def test_a_request_id_has_one_effect(court: Court, *, differing: bool) -> None:
    race, world = track(court, f"repeats-{'differing' if differing else 'alike'}"), court.world
    async for app in race.rounds(SOME if differing else FEW):
        names = await court.released(app, 2)
        request_id = str(new_id())
        bodies = [
            pb.CreateDeploymentRequest(
                release=names[number % 2 if differing else 0],
                environment="Dev",
                request_id=request_id,
            )
            for number in range(CALLERS)
        ]
        done = await race.run([world.call("dev1", "CreateDeployment", body) for body in bodies])
        answers = won(done)
        assert len({answer.deployment.id for answer in answers}) == 1, reasons(done)
        assert len({tuple(answer.audit.event_ids) for answer in answers}) == 1
        made = answers[0].deployment
        assert len(answers) == (CALLERS // 2 if differing else CALLERS)
        assert reasons(done) == ({"REQUEST_ID_REUSED"} if differing else set())
        again = await world.call("dev1", "CreateDeployment", bodies[done.index(answers[0])])
        assert again.deployment.id == made.id
        rows = await court.owner.fetchval(
            "SELECT count(*) FROM deployments WHERE service_id = $1", world.services[app]
        )
        assert rows == 1
        race.tally[made.release[-1] if differing else f"number {race.first}"] += 1
    await race.check()
