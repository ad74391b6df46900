"""Deployments that start not before a time, or not after one: by the clock of the database."""

import asyncio
from contextlib import suppress
from datetime import UTC, timedelta
from typing import Any
from uuid import UUID

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from release_manager.deployment.v1 import deployment_pb2 as pb

from shared.errors import GateUnsatisfied, IllegalTransition, ValidationFailed
from tests.support.deployments import World
from tests.support.executing import becomes
from tests.support.publishing import publish, told
from tests.support.waiting import blocker, database_time, stamp, until

pytestmark = pytest.mark.asyncio(loop_scope="session")

ROUNDS = 6


async def soon(world: World, seconds: float) -> Timestamp:
    """Return the time some seconds from now."""
    return stamp(await database_time(world) + timedelta(seconds=seconds))


async def starts_within(world: World, seconds: float, *made: pb.Deployment) -> None:
    """Let deployments have to start within some seconds from now."""
    done = await world.database.execute(
        "UPDATE deployments SET start_by = clock_timestamp() + make_interval(secs => $1)"
        " WHERE id = ANY($2)",
        *(seconds, [UUID(one.id) for one in made]),
    )
    assert done == f"UPDATE {len(made)}"


async def test_a_deployment_waits_for_its_time(world: World, app: str) -> None:
    times: dict[str, Any] = {
        "not_before": await soon(world, 600),
        "start_by": await soon(world, 1200),
    }
    release = await world.release(f"{app}@1")
    request = pb.CreateDeploymentRequest(release=release, environment="dev", **times)
    answer = await world.call("dev1", "CreateDeployment", request)
    made = answer.deployment
    assert (made.not_before, made.start_by) == (times["not_before"], times["start_by"])
    details = (await told(world, answer.audit.event_ids[0]))["details"]
    for name, moment in times.items():
        assert details[name] == moment.ToJsonString().replace("Z", "")[:26] + "Z"
    said = blocker(made, "not_before")
    assert said is not None
    assert said.earliest == times["not_before"]
    with pytest.raises(GateUnsatisfied) as refused:
        await world.start(made.id)
    assert [violation.gate for violation in refused.value.gates] == ["not_before"]
    earliest = await world.database.fetchval(
        "UPDATE deployments SET not_before = clock_timestamp() + interval '1 second'"
        " WHERE id = $1 RETURNING not_before",
        UUID(made.id),
    )
    await until(world, stamp(earliest))
    started = await world.start(made.id)
    assert started.started_at.ToDatetime(UTC) >= earliest
    await world.check_events()


async def test_the_first_stage_waits_for_the_time_as_well(world: World, app: str) -> None:
    request = pb.PromoteReleaseRequest(
        release=await world.release(f"{app}@1"),
        environment="dev",
        not_before=await soon(world, 600),
    )
    made = (await world.call("dev1", "PromoteRelease", request)).deployment
    with pytest.raises(GateUnsatisfied, match="does not start before"):
        await world.stage(made.id, "build", "in_progress")


async def test_what_does_not_start_in_time_expires_by_itself(world: World, app: str) -> None:
    release = await world.release(f"{app}@1")
    made = await world.create(release, "dev", start_by=await soon(world, 600))
    await starts_within(world, 1, made)
    ended = await becomes(world, made.id, "EXPIRED")
    assert ended.status_reason.startswith("It had to start by ")
    assert ended.approval_status == pb.APPROVAL_STATUS_NOT_REQUIRED
    assert ended.completed_at.ToDatetime(UTC) >= ended.start_by.ToDatetime(UTC)
    with pytest.raises(IllegalTransition):
        await world.start(made.id)
    # The advice: another request.
    again = await world.create(release, "dev", start_by=await soon(world, 600))
    await world.start(again.id)
    await world.check_events()


async def test_approving_or_starting_too_late_ends_it(world: World, app: str, place: str) -> None:
    await publish(world, place, pb.Policy(required_approvals=1))
    for number, method in enumerate(("StartDeployment", "ApproveDeployment")):
        made = await world.create(
            await world.release(f"{app}-{number}@1"),
            place,
            start_by=await soon(world, 600),
        )
        if method == "StartDeployment":
            await world.approve(made.id, "dev3")
        await world.database.execute(
            "UPDATE deployments SET start_by = clock_timestamp() WHERE id = $1", UUID(made.id)
        )
        request = {
            "StartDeployment": pb.StartDeploymentRequest(deployment=made.id),
            "ApproveDeployment": pb.ApproveDeploymentRequest(deployment=made.id),
        }[method]
        error = await world.refused("dev3", method, request)
        assert isinstance(error, IllegalTransition)
        assert error.facts["status"] == "expired"
        ended = await world.get(made.id)
        assert ended.status == pb.DEPLOYMENT_STATUS_EXPIRED
        assert ended.status_reason.startswith("It had to start by ")
    await world.check_events()


async def test_nothing_starts_at_or_after_its_last_moment(world: World, app: str) -> None:
    async def later(deployment_id: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        with suppress(IllegalTransition):
            await world.start(deployment_id)

    made = []
    for number in range(ROUNDS):
        release = await world.release(f"{app}-{number}@1")
        made.append(await world.create(release, "dev", start_by=await soon(world, 600)))
    # Only now, so that all are there in time however long that takes.
    await starts_within(world, 1, *made)
    await asyncio.gather(*(later(one.id, 0.3 * number) for number, one in enumerate(made)))
    for one in made:
        found = await world.get(one.id)
        if found.HasField("started_at"):
            assert found.started_at.ToDatetime(UTC) < found.start_by.ToDatetime(UTC)
        else:
            assert found.status == pb.DEPLOYMENT_STATUS_EXPIRED
    await world.check_events()


@pytest.mark.parametrize(
    ("not_before", "start_by", "field"),
    [(None, -5, "start_by"), (600, 500, "start_by"), (31 * 86_400, None, "not_before")],
)
async def test_times_that_leave_none_are_refused(
    world: World, app: str, not_before: int | None, start_by: int | None, field: str
) -> None:
    given = {"not_before": not_before, "start_by": start_by}
    times: dict[str, Any] = {
        name: await soon(world, after) for name, after in given.items() if after is not None
    }
    request = pb.CreateDeploymentRequest(
        release=await world.release(f"{app}@1"), environment="dev", **times
    )
    error = await world.refused("dev1", "CreateDeployment", request)
    assert isinstance(error, ValidationFailed)
    assert [violation.field for violation in error.fields] == [field]
