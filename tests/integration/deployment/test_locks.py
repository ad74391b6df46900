"""Locks: what starts under them and what does not, and what the ledger is told."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from asyncpg.exceptions import InsufficientPrivilegeError
from google.protobuf.timestamp_pb2 import Timestamp
from release_manager.deployment.v1 import deployment_pb2 as pb
from release_manager.deployment.v1.restrictions_pb2 import Lock

from shared.errors import (
    GateUnsatisfied,
    ResourceNotFound,
    RoleRequired,
    ValidationFailed,
)
from shared.ids import new_id
from tests.support.deployments import World
from tests.support.publishing import told
from tests.support.restricting import lock, locks, unlock

pytestmark = pytest.mark.asyncio(loop_scope="session")


def _in(**spans: int) -> Timestamp:
    moment = Timestamp()
    moment.FromDatetime(datetime.now(UTC) + timedelta(**spans))
    return moment


async def test_what_is_locked_does_not_start(world: World, app: str) -> None:
    waiting = await world.create(await world.release(f"{app}@1"), "dev")
    made = (await lock(world, app, "dev")).lock
    assert (made.service, made.environment, made.reason) == (app, "Dev", "an incident")
    assert (made.locked_by, made.active, made.includes_rollbacks) == ("lead1", True, False)
    with pytest.raises(GateUnsatisfied, match=rf"lead1 has locked {app} in Dev \(an incident\)"):
        await world.start(waiting.id)
    (blocker,) = (await world.get(waiting.id)).blockers
    assert (blocker.gate, blocker.remedy) == ("lock", f"ReleaseLock {made.id}.")
    assert not blocker.HasField("earliest")
    gone = (await unlock(world, made.id, who="lead2")).lock
    assert (gone.released_by, gone.released_because, gone.active) == ("lead2", "it is over", False)
    assert not (await world.get(waiting.id)).blockers
    await world.start(waiting.id)
    await world.check_events()


async def test_what_runs_goes_on_running(world: World, app: str) -> None:
    running = await world.create(await world.release(f"{app}@1"), "dev")
    await world.start(running.id)
    await lock(world, app)
    assert (await world.finish(running.id)).status == pb.DEPLOYMENT_STATUS_COMPLETED


async def test_a_lock_is_about_what_it_names(world: World, app: str, place: str) -> None:
    other = f"{app}-other"
    mine, others = [await world.create(await world.release(f"{a}@1"), place) for a in (app, other)]

    async def locked() -> list[bool]:
        found = [await world.get(one.id) for one in (mine, others)]
        return [bool(one.blockers) for one in found]

    for service, environment, expected in (
        (app, place, [True, False]),
        (app, "", [True, False]),
        ("", place, [True, True]),
        (app, "dev", [False, False]),
    ):
        made = (await lock(world, service, environment)).lock
        assert await locked() == expected
        await unlock(world, made.id)
    made = (await lock(world, everything=True)).lock
    assert (made.service_id, made.environment_id) == ("", "")
    assert await locked() == [True, True]
    assert made.id in {one.id for one in await locks(world, service=app, environment="prod")}
    await unlock(world, made.id)
    assert await locked() == [False, False]


async def test_two_locks_are_both_to_be_released(world: World, app: str) -> None:
    waiting = await world.create(await world.release(f"{app}@1"), "dev")
    first, second = [(await lock(world, app, reason=why)).lock for why in ("one", "two")]
    (blocker,) = (await world.get(waiting.id)).blockers
    assert blocker.remedy == f"ReleaseLock {second.id}, {first.id}."
    assert blocker.reason == (
        f"lead1 has locked {app} everywhere (two); lead1 has locked {app} everywhere (one)"
    )
    await unlock(world, second.id)
    with pytest.raises(GateUnsatisfied, match="one"):
        await world.start(waiting.id)
    await unlock(world, first.id)
    await world.start(waiting.id)


async def test_a_lock_ends_by_itself(world: World, app: str) -> None:
    waiting = await world.create(await world.release(f"{app}@1"), "dev")
    ends = _in(hours=1)
    made = (await lock(world, app, expires_at=ends)).lock
    assert made.expires_at == ends
    (blocker,) = (await world.get(waiting.id)).blockers
    assert blocker.earliest == ends
    assert "UTC" in blocker.reason
    await world.database.execute(
        "UPDATE locks SET created_at = now() - interval '1 hour', expires_at = now() WHERE id = $1",
        made.id,
    )
    assert not (await world.get(waiting.id)).blockers
    assert not await locks(world, service=app)
    ended = await locks(world, service=app, show_ended=True)
    assert [one.active for one in ended if one.id == made.id] == [False]
    await world.start(waiting.id)


async def test_rollbacks_pass_unless_the_lock_says_otherwise(world: World, app: str) -> None:
    for number in range(2):
        latest = await world.deployed(await world.release(f"{app}@{number}"))
    passed = (await lock(world, app)).lock
    back = (await world.roll_back(latest.id)).deployment
    stopping = (await lock(world, app, includes_rollbacks=True)).lock
    with pytest.raises(GateUnsatisfied, match="has locked"):
        await world.stage(back.id, "deploy", "in_progress")
    await unlock(world, stopping.id)
    started = await world.stage(back.id, "deploy", "in_progress")
    assert started.deployment.status == pb.DEPLOYMENT_STATUS_IN_PROGRESS
    assert (await locks(world, service=app))[0].id == passed.id


async def test_a_request_waits_under_a_lock_unless_it_may_not(world: World, app: str) -> None:
    release = await world.release(f"{app}@1")
    await lock(world, app)
    request = pb.CreateDeploymentRequest(release=release, environment="dev", fail_if_blocked=True)
    assert isinstance(await world.refused("dev1", "CreateDeployment", request), GateUnsatisfied)
    waiting = await world.create(release, "dev")
    assert [blocker.gate for blocker in waiting.blockers] == ["lock"]


async def test_releasing_again_changes_nothing(world: World, app: str) -> None:
    made = (await locked_app(world, app)).id
    first = await unlock(world, made)
    again = await unlock(world, made, who="lead2", reason="other words")
    assert again.lock == first.lock
    assert (len(first.audit.event_ids), len(again.audit.event_ids)) == (1, 0)
    with pytest.raises(ResourceNotFound):
        await unlock(world, str(new_id()))
    await world.check_events()


async def locked_app(world: World, app: str) -> Lock:
    """Lock a service that is there."""
    await world.release(f"{app}@1")
    return (await lock(world, app)).lock


@pytest.mark.parametrize(
    ("named", "more", "wrong"),
    [
        (False, {}, "everything"),
        (True, {"everything": True}, "everything"),
        (True, {"expires_at": -1}, "expires_at"),
        (True, {"expires_at": 367 * 24}, "expires_at"),
    ],
    ids=["nothing", "both", "past", "too_late"],
)
async def test_locks_that_were_not_meant(
    world: World, app: str, more: dict[str, int], wrong: str, *, named: bool
) -> None:
    await world.release(f"{app}@1")
    given: dict[str, Any] = dict(more)
    if "expires_at" in more:
        given["expires_at"] = _in(hours=more["expires_at"])
    with pytest.raises(ValidationFailed) as refused:
        await lock(world, app if named else "", **given)
    assert [violation.field for violation in refused.value.fields] == [wrong]
    assert not await locks(world, service=app)


async def test_developers_do_not_lock(world: World, app: str) -> None:
    made = await locked_app(world, app)
    with pytest.raises(RoleRequired):
        await lock(world, app, who="dev1")
    with pytest.raises(RoleRequired):
        await unlock(world, made.id, who="dev1")
    assert [one.id for one in await locks(world, service=app)] == [made.id]


async def test_rehearsals_and_repeats_lock_once(world: World, app: str) -> None:
    await world.release(f"{app}@1")
    await lock(world, app, validate_only=True)
    assert not await locks(world, service=app)
    request_id = str(new_id())
    first = await lock(world, app, request_id=request_id)
    await unlock(world, first.lock.id)
    again = await lock(world, app, request_id=request_id)
    assert again.lock == first.lock
    assert not await locks(world, service=app)


async def test_what_the_ledger_is_told_of_locks(world: World, app: str) -> None:
    await world.release(f"{app}@1")
    made = await lock(world, app, "dev")
    gone = await unlock(world, made.lock.id)
    events = [
        await told(world, event_id) for event_id in (*made.audit.event_ids, *gone.audit.event_ids)
    ]
    assert [(event["action"], event["aggregateSeq"]) for event in events] == [
        ("lock", 1),
        ("unlock", 2),
    ]
    for event in events:
        assert event["aggregate"] == f"lock:{made.lock.id}"
        assert (event["resourceType"], event["resourceId"]) == ("lock", made.lock.id)
        assert event["details"]["place"] == f"{app} in Dev"
    assert events[1]["details"]["before"] == {
        "locked": True,
        "reason": "an incident",
        "locked_by": str(world.people["lead1"]),
    }


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE locks SET reason = 'another'",
        "UPDATE locks SET expires_at = now() + interval '1 hour'",
        "DELETE FROM locks",
        "UPDATE gate_overrides SET reason = 'another'",
        "UPDATE gate_overrides SET authors = '{}'",
        "DELETE FROM gate_overrides",
    ],
)
async def test_the_service_cannot_rewrite_locks_and_overrides(world: World, statement: str) -> None:
    async with world.database.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL ROLE rm_deployment")
        with pytest.raises(InsufficientPrivilegeError):
            await connection.execute(statement)
