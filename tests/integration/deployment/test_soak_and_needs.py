"""What a release waits for: having lived before, and other services. The advice is true."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from google.protobuf.duration_pb2 import Duration
from release_manager.deployment.v1 import deployment_pb2 as pb

from shared.errors import GateUnsatisfied
from tests.support.deployments import World
from tests.support.publishing import publish
from tests.support.waiting import blocker, stamp, until

pytestmark = pytest.mark.asyncio(loop_scope="session")

SOAK = timedelta(hours=1)


async def soaking(world: World, span: timedelta = SOAK) -> None:
    """Let what goes to Staging live in Dev for some time before."""
    soak = Duration()
    soak.FromTimedelta(span)
    await publish(world, "staging", pb.Policy(soak=soak))


async def completed_before(world: World, deployment: pb.Deployment, span: timedelta) -> datetime:
    """Let a deployment have been completed so long ago; return when."""
    moved: datetime = await world.database.fetchval(
        "UPDATE deployments SET completed_at = clock_timestamp() - $2::interval WHERE id = $1"
        " RETURNING completed_at",
        *(UUID(deployment.id), span),
    )
    return moved


async def soak_blocker(world: World, deployment_id: str) -> pb.Blocker:
    """Return what the soak gate says; it is the only one that says something."""
    found = await world.get(deployment_id)
    assert [one.gate for one in found.blockers] == ["soak"]
    return found.blockers[0]


async def test_a_release_starts_once_it_has_lived_for_long_enough(world: World, app: str) -> None:
    await soaking(world)
    done = await world.deployed(await world.release(f"{app}@1"))
    made = await world.create(f"{app}@1", "staging")
    said = blocker(made, "soak")
    assert said is not None
    ready = said.earliest.ToDatetime(UTC)
    assert ready == done.completed_at.ToDatetime(UTC) + SOAK
    told = ready.replace(microsecond=0) + timedelta(seconds=bool(ready.microsecond))
    assert f"{told:%H:%M:%S}" in said.remedy
    with pytest.raises(GateUnsatisfied) as refused:
        await world.start(made.id)
    assert [violation.gate for violation in refused.value.gates] == ["soak"]
    ready = await completed_before(world, done, SOAK - timedelta(seconds=1)) + SOAK
    await until(world, stamp(ready))
    started = await world.start(made.id)
    assert started.started_at.ToDatetime(UTC) >= ready
    await world.check_events()


async def test_what_was_replaced_too_early_does_not_soak(world: World, app: str) -> None:
    await soaking(world, timedelta(hours=1))
    for version in (1, 2):
        await world.deployed(await world.release(f"{app}@{version}"))
    made = await world.create(f"{app}@1", "staging")
    said = await soak_blocker(world, made.id)
    assert not said.HasField("earliest")
    assert said.reason == "1 is not live in Dev, where it has to live for 1 hour"
    again = await world.create(f"{app}@1", "dev", allow_downgrade=True)
    await world.start(again.id)
    done = await world.finish(again.id)
    said = await soak_blocker(world, made.id)
    expected = done.completed_at.ToDatetime(UTC) + timedelta(hours=1)
    assert said.earliest.ToDatetime(UTC) == expected


async def test_to_have_lived_once_is_enough(world: World, app: str) -> None:
    await soaking(world)
    first = await world.deployed(await world.release(f"{app}@1"))
    await completed_before(world, first, SOAK)
    await world.deployed(await world.release(f"{app}@2"))
    made = await world.create(f"{app}@1", "staging")
    assert not made.blockers
    await world.start(made.id)


async def test_deploying_the_same_again_interrupts_nothing(world: World, app: str) -> None:
    await soaking(world, timedelta(hours=1))
    first = await world.deployed(await world.release(f"{app}@1"))
    assert (await world.deployed(f"{app}@1")).kind == pb.DEPLOYMENT_KIND_REDEPLOY
    said = blocker(await world.create(f"{app}@1", "staging"), "soak")
    assert said is not None
    expected = first.completed_at.ToDatetime(UTC) + timedelta(hours=1)
    assert said.earliest.ToDatetime(UTC) == expected


async def test_after_a_rollback_the_time_begins_anew(world: World, app: str) -> None:
    await soaking(world, timedelta(hours=1))
    await world.deployed(await world.release(f"{app}@1"))
    broken = await world.deployed(await world.release(f"{app}@2"))
    made = await world.create(f"{app}@1", "staging")
    carrier = (await world.roll_back(broken.id)).deployment
    assert not (await soak_blocker(world, made.id)).HasField("earliest")
    done = await world.run_stages(carrier.id, "deploy", "smoke_test")
    said = await soak_blocker(world, made.id)
    expected = done.completed_at.ToDatetime(UTC) + timedelta(hours=1)
    assert said.earliest.ToDatetime(UTC) == expected


async def test_a_service_waits_for_what_it_depends_on(world: World, app: str) -> None:
    needed = f"{app}-needed"
    versions = ("1.9.0", "1.10.0-rc.1", "v1.10.0")
    for version in versions:
        await world.release(f"{needed}@{version}")
    release = await world.release(f"{app}@1")
    await world.insert(
        "service_dependencies",
        service_id=world.services[app],
        needs_id=world.services[needed],
        minimum_version="1.10",
    )
    made = await world.create(release, "dev")
    for live, version in zip(("", *versions), versions, strict=False):
        said = blocker(await world.get(made.id), "dependency")
        assert said is not None
        runs = f"{needed} {live} is live" if live else f"no {needed} is live"
        assert said.reason == f"{runs}, 1.10 or later is needed"
        assert (
            said.remedy
            == f"Complete a deployment to Dev of {needed} 1.10 or later, with PromoteRelease."
        )
        with pytest.raises(GateUnsatisfied, match=r"1\.10 or later is needed"):
            await world.start(made.id)
        await world.deployed(f"{needed}@{version}")
    assert not (await world.get(made.id)).blockers
    await world.start(made.id)


async def test_any_version_will_do_where_none_is_named(world: World, app: str) -> None:
    needed = f"{app}-needed"
    for release in (f"{app}@1", f"{needed}@odd"):
        await world.release(release)
    await world.insert(
        "service_dependencies",
        service_id=world.services[app],
        needs_id=world.services[needed],
        minimum_version="",
    )
    made = await world.create(f"{app}@1", "dev")
    assert blocker(made, "dependency") is not None
    await world.deployed(f"{needed}@odd")
    assert blocker(await world.get(made.id), "dependency") is None
