"""Every history of the manual, played through the RPCs: what is planned is what is done."""

from dataclasses import dataclass, field

import pytest
import pytest_asyncio
from release_manager.common.v1 import access_pb2
from release_manager.deployment.v1 import deployment_pb2 as pb

from docs.generator.rollbacks import History, histories
from shared.errors import NoStableRelease, NothingDeployed
from tests.support.deployments import STAGES, World
from tests.support.publishing import clear, mark, publish

pytestmark = pytest.mark.asyncio(loop_scope="session")

CARRIER = ("deploy", "smoke_test")
# As in production, but for the approvals and the times, which no rollback asks for.
PRODUCTION = pb.Policy(
    strict_stages=["security_scan", "smoke_test"],
    explicit_target_role=access_pb2.ROLE_LEAD,
    queue=pb.QUEUE_MODE_QUEUE,
)


@dataclass
class Story:
    """A service in an environment, and the deployment that touched it last."""

    world: World
    app: str
    place: str
    latest: str = ""
    untouching: list[str] = field(default_factory=list)
    known: set[str] = field(default_factory=set)

    async def play(self, step: str) -> None:
        """Let one step happen."""
        version, _, what = step.partition(" ")
        if version == "back":
            await self._back("failed" if what == "fails" else "completed")
        elif what == "bad":
            await mark(self.world, self.release(version), self.place)
        elif what == "cleared":
            await clear(self.world, self.release(version), self.place)
        else:
            await self._deploy(version, what.removeprefix("fails in "))

    def release(self, version: str) -> str:
        """Return the name of a version."""
        return f"{self.app}@{version}"

    async def _back(self, last: str) -> None:
        carrier = (await self.world.roll_back(self.latest, "lead1")).deployment
        stages = CARRIER if last == "completed" else CARRIER[:1]
        await self.world.run_stages(carrier.id, *stages, last=last)
        self.latest = carrier.id

    async def _deploy(self, version: str, broken: str) -> None:
        release = self.release(version)
        if version not in self.known:
            self.known.add(version)
            await self.world.release(release)
        request = pb.PromoteReleaseRequest(
            release=release, environment=self.place, allow_downgrade=True
        )
        made = (await self.world.call("dev1", "PromoteRelease", request)).deployment
        stages = STAGES[: STAGES.index(broken) + 1] if broken else STAGES
        last = "failed" if broken else "completed"
        await self.world.run_stages(made.id, *stages, last=last)
        if "deploy" in stages:
            self.latest = made.id
        else:
            self.untouching.append(made.id)


@pytest_asyncio.fixture(loop_scope="session")
async def story(world: World, app: str, place: str) -> Story:
    kind = "UPDATE environments SET environment_type = 'prod' WHERE name = $1"
    await world.database.execute(kind, place)
    await publish(world, place, PRODUCTION)
    return Story(world, app, place)


@pytest.mark.parametrize("history", histories(), ids=lambda history: ", ".join(history.steps))
async def test_a_rollback_goes_where_the_manual_says(story: Story, history: History) -> None:
    world = story.world
    for step in history.steps:
        await story.play(step)
    for other in story.untouching:
        with pytest.raises(NothingDeployed) as nothing:
            await world.roll_back(other, "lead1")
        assert story.latest in str(nothing.value)
    plan = pb.PlanRollbackRequest(deployment=story.latest)
    if not history.to:
        planned = await world.refused("lead1", "PlanRollback", plan)
        with pytest.raises(NoStableRelease) as done:
            await world.roll_back(story.latest, "lead1")
        assert isinstance(planned, NoStableRelease)
        assert planned.facts == done.value.facts
    else:
        planned = (await world.call("lead1", "PlanRollback", plan)).target_release
        made = await world.roll_back(story.latest, "lead1")
        assert made.rollback.to_release == made.deployment.release == planned
        assert planned == story.release(history.to)
    await world.check_events()
