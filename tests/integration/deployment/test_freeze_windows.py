"""Freeze windows as resources: made, read, listed, changed, archived, and told to the ledger."""

from collections.abc import Mapping
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from release_manager.deployment.v1 import restrictions_pb2 as pb

from shared.errors import (
    EtagMismatch,
    ResourceArchived,
    ResourceExists,
    ResourceNotFound,
    ValidationFailed,
)
from shared.ids import new_id
from tests.support.deployments import World
from tests.support.freezing import (
    ALLOW,
    DENY,
    at,
    daily,
    freeze,
    freeze_again,
    once,
    refreeze,
    thaw,
    window_named,
    windows,
)
from tests.support.publishing import told

pytestmark = pytest.mark.asyncio(loop_scope="session")

NIGHTS = pb.WeeklySchedule(
    days=[pb.WEEKDAY_FRIDAY, pb.WEEKDAY_MONDAY], opens_at="22:30", closes_at="06:00"
)
LAST_FRIDAYS = pb.RecurringSchedule(
    rule="FREQ=MONTHLY;BYDAY=-1FR;UNTIL=20990101T000000Z",
    first_opens_at="2026-01-30T18:00",
    open_for=Duration(seconds=3 * 86_400),
)


async def test_a_window_comes_back_as_it_was_made(world: World, app: str) -> None:
    await world.release(f"{app}@1")
    await world.release(f"{app}-other@1")
    made = (
        await freeze(
            world,
            name=f"Nights {app}",
            kind=ALLOW,
            time_zone="Europe/Berlin",
            weekly=NIGHTS,
            services=[app.upper(), str(world.services[app])],
            teams=[f"team {app}"],
            environments=["prod", "DEV"],
            environment_types=[3, 1],
            exempt_services=[f"{app}-other"],
            includes_rollbacks=True,
            exception_dates=["2026-12-28", "2026-12-25"],
        )
    ).window
    assert (made.kind, made.reason, made.time_zone) == (
        ALLOW,
        "the end of the year",
        "Europe/Berlin",
    )
    assert (*made.services, *made.teams, *made.environments) == (app, f"Team {app}", "Dev", "Prod")
    assert (*made.environment_types, *made.exempt_services) == (1, 3, f"{app}-other")
    assert made.weekly.days == [pb.WEEKDAY_MONDAY, pb.WEEKDAY_FRIDAY]
    assert (made.weekly.opens_at, made.weekly.closes_at) == ("22:30", "06:00")
    assert (made.includes_rollbacks, made.etag) == (True, "1")
    assert made.exception_dates == ["2026-12-25", "2026-12-28"]
    for reference in (made.id, made.name, made.name.upper()):
        assert (await window_named(world, reference)).id == made.id


@pytest.mark.parametrize(
    "given", [{"recurring": LAST_FRIDAYS}, {"weekly": daily()}], ids=["rule", "daily"]
)
async def test_a_schedule_comes_back_as_it_was_made(world: World, given: Mapping[str, Any]) -> None:
    made = (await freeze(world, **given)).window
    ((field, schedule),) = given.items()
    assert getattr(made, field) == schedule
    assert made.WhichOneof("schedule") == field
    await thaw(world, made.id)


async def test_a_window_says_when_it_opens_and_closes(world: World) -> None:
    schedule = once(-1, 1)
    made = (await freeze(world, once=schedule, environments=["staging"])).window
    assert (made.open, made.closes_at) == (True, schedule.closes_at)
    assert not made.HasField("next_opens_at")
    later = once(1, 2)
    made = (await refreeze(world, made.id, once=later)).window
    assert (made.open, made.next_opens_at) == (False, later.opens_at)
    assert not made.HasField("closes_at")
    gone = (await thaw(world, made.id)).window
    assert not gone.HasField("next_opens_at")
    assert not gone.open


async def test_lists_are_by_name_and_about_what_is_asked(world: World, app: str) -> None:
    await world.release(f"{app}@1")
    await world.release(f"{app}-other@1")
    shut = once(1, 2)
    given: dict[str, dict[str, Any]] = {
        "c": {"services": [app]},
        "A": {"teams": [f"Team {app}"], "once": shut},
        "b": {"services": [f"{app}-other"]},
        "d": {"environments": ["staging"], "environment_types": [2], "kind": ALLOW, "once": shut},
        "e": {"exempt_services": [app], "environment_types": [3]},
    }
    for letter, about in given.items():
        await freeze(world, name=f"{letter}{app}", **about)
    mine = {f"{letter}{app}" for letter in "cAbde"}

    async def found(**wanted: Any) -> str:
        names = [one.name for one in await windows(world, page_size=1000, **wanted)]
        return "".join(name[0] for name in names if name in mine)

    assert await found() == "Abcde"
    assert await found(open_only=True) == "bce"
    assert await found(service=app) == "Acd"
    assert await found(environment="staging") == "Abcd"
    assert await found(environment="prod", service=f"{app}-other") == "be"
    await thaw(world, f"c{app}")
    assert await found(service=app) == "Ad"
    assert await found(service=app, show_archived=True) == "Acd"
    first = await world.call("dev1", "ListFreezeWindows", pb.ListFreezeWindowsRequest(page_size=1))
    assert (len(first.windows), bool(first.next_page_token)) == (1, True)
    for letter in "Abde":
        await thaw(world, f"{letter}{app}")
    for wanted in ({"service": "nothing-there"}, {"environment": str(new_id())}):
        with pytest.raises(ResourceNotFound):
            await windows(world, **wanted)


async def test_what_is_sent_is_changed_and_nothing_else(world: World, app: str) -> None:
    await world.release(f"{app}@1")
    made = (await freeze(world, services=[app], includes_rollbacks=True)).window
    changed = (await refreeze(world, made.id, weekly=NIGHTS, time_zone="Asia/Tokyo")).window
    assert (changed.weekly, changed.time_zone, changed.etag) == (NIGHTS_SORTED, "Asia/Tokyo", "2")
    assert (*changed.services, changed.includes_rollbacks) == (app, True)
    mask = ["services", "environments", "includes_rollbacks"]
    changed = (await refreeze(world, made.id, environments=["staging"], mask=mask)).window
    assert (*changed.services, *changed.environments) == ("Staging",)
    assert not changed.includes_rollbacks
    again = await refreeze(world, made.id, environments=["Staging"])
    assert (again.window, list(again.audit.event_ids)) == (changed, [])
    every: dict[str, Any] = {
        "name": made.name,
        "kind": DENY,
        "reason": "all of it",
        "time_zone": "UTC",
    }
    changed = (await refreeze(world, made.id, **every, once=once(5, 6), mask=["*"])).window
    assert (len(changed.environments), changed.WhichOneof("schedule")) == (0, "once")
    await thaw(world, made.id)
    await world.check_events()


NIGHTS_SORTED = pb.WeeklySchedule(
    days=sorted(NIGHTS.days), opens_at=NIGHTS.opens_at, closes_at=NIGHTS.closes_at
)


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ({"mask": ["name"]}, "name"),
        ({"mask": ["once"]}, "once"),
        ({"mask": ["weekly"], "once": once()}, "weekly"),
        ({"mask": ["etag"]}, "update_mask"),
        ({"mask": ["*"], "name": "a", "kind": DENY, "reason": "a", "time_zone": "UTC"}, "schedule"),
        ({"time_zone": "Berlin"}, "time_zone"),
        ({"once": once(2, 1)}, "once.closes_at"),
        ({"exception_dates": ["2026-02-30"]}, "exception_dates[0]"),
    ],
    ids=["name", "once", "weekly", "etag", "whole", "zone", "order", "day"],
)
async def test_a_window_stays_one(world: World, given: Mapping[str, Any], wrong: str) -> None:
    made = (await freeze(world, environments=["staging"])).window
    with pytest.raises(ValidationFailed) as refused:
        await refreeze(world, made.id, **given)
    assert [violation.field for violation in refused.value.fields] == [wrong]
    assert (await window_named(world, made.id)).etag == "1"
    await thaw(world, made.id)


def _rule(**given: Any) -> pb.RecurringSchedule:
    usual = {"rule": "FREQ=DAILY", "first_opens_at": "2026-12-24T18:00"}
    return pb.RecurringSchedule(**({"open_for": Duration(seconds=3600)} | usual | given))


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ({"recurring": _rule(rule="FREQ=MINUTELY")}, "recurring.rule"),
        ({"recurring": _rule(rule="DTSTART=20260101T000000Z;FREQ=DAILY")}, "recurring.rule"),
        ({"recurring": _rule(first_opens_at="2026-13-01T00:00")}, "recurring.first_opens_at"),
        ({"recurring": _rule(open_for=Duration(seconds=90_000))}, "recurring.open_for"),
        ({"once": pb.OnceSchedule(opens_at=at(), closes_at=at(days=400))}, "once.closes_at"),
    ],
    ids=["too_often", "begin", "no_day", "overlap", "too_long"],
)
async def test_windows_that_cannot_be(world: World, given: Mapping[str, Any], wrong: str) -> None:
    with pytest.raises(ValidationFailed) as refused:
        await freeze(world, **given)
    assert [violation.field for violation in refused.value.fields] == [wrong]


async def test_a_name_is_taken_whatever_its_case(world: World) -> None:
    made = (await freeze(world, environments=["staging"])).window
    other = (await freeze(world, environments=["staging"])).window
    with pytest.raises(ResourceExists, match=made.name.upper()):
        await freeze(world, name=made.name.upper())
    with pytest.raises(ResourceExists):
        await refreeze(world, other.id, name=made.name)
    for window in (made, other):
        await thaw(world, window.id)


async def frozen(world: World, field: str, name: str) -> None:
    """Freeze what one of the lists of a window names."""
    about: dict[str, Any] = {field: [name]}
    await freeze(world, **about)


async def test_what_is_not_there_or_put_away_is_not_frozen(
    world: World, app: str, place: str
) -> None:
    await world.release(f"{app}@1")
    for field in ("services", "teams", "environments", "exempt_services"):
        for nothing in ("nothing-there", str(new_id())):
            with pytest.raises(ResourceNotFound, match=nothing):
                await frozen(world, field, nothing)
    made = (await freeze(world, services=[app], environments=[place])).window
    for table, name in (("services", app), ("environments", place)):
        archive = f"UPDATE {table} SET archived_at = now() WHERE name = $1"
        await world.database.execute(archive, name)
        with pytest.raises(ResourceArchived, match=name):
            await frozen(world, table, name)
    kept = await refreeze(world, made.id, services=[app], environments=[place], reason="anew")
    assert kept.window.services == [app]
    for reference in ("nothing-there", str(new_id())):
        for change in (refreeze(world, reference, reason="a"), thaw(world, reference)):
            with pytest.raises(ResourceNotFound, match="freeze window"):
                await change


async def test_who_read_another_version_changes_nothing(world: World) -> None:
    made = (await freeze(world, environments=["staging"])).window
    await refreeze(world, made.id, reason="another", etag=made.etag)
    for change in (
        refreeze(world, made.id, reason="a third", etag=made.etag),
        thaw(world, made.id, etag=made.etag),
        freeze_again(world, made.id, etag=made.etag),
    ):
        with pytest.raises(EtagMismatch):
            await change
    assert (await thaw(world, made.id, etag="2")).window.HasField("archived_at")
    with pytest.raises(ResourceArchived):
        await refreeze(world, made.id, reason="a fourth")
    assert not (await thaw(world, made.id)).audit.event_ids
    assert not (await freeze_again(world, made.id)).window.HasField("archived_at")
    assert not (await freeze_again(world, made.id)).audit.event_ids
    await thaw(world, made.id)


async def test_rehearsals_and_repeats_freeze_once(world: World) -> None:
    name, request_id = f"Window {new_id().hex}".replace(" ", " w"), str(new_id())
    rehearsed = await freeze(world, name=name, environments=["staging"], validate_only=True)
    assert rehearsed.window.open
    with pytest.raises(ResourceNotFound):
        await window_named(world, name)
    schedule = once()
    given: dict[str, Any] = {"name": name, "environments": ["staging"], "once": schedule}
    first = await freeze(world, **given, request_id=request_id)
    assert (await freeze(world, **given, request_id=request_id)).window == first.window
    await thaw(world, first.window.id)


async def test_what_the_ledger_is_told_of_windows(world: World, app: str) -> None:
    await world.release(f"{app}@1")
    made = await freeze(world, services=[app], weekly=NIGHTS)
    window = made.window.id
    changed = await refreeze(world, window, teams=[f"Team {app}"], reason="another")
    gone = await thaw(world, window)
    back = await freeze_again(world, window)
    answers = (made, changed, gone, back)
    events = [await told(world, one) for answer in answers for one in answer.audit.event_ids]
    assert [(event["action"], event["aggregateSeq"]) for event in events] == [
        ("create", 1),
        ("update", 2),
        ("archive", 3),
        ("unarchive", 4),
    ]
    for event in events:
        assert event["aggregate"] == f"freeze_window:{window}"
        assert (event["resourceType"], event["resourceId"]) == ("freeze_window", window)
    after = events[0]["details"]["after"]
    assert (after["services"], after["kind"]) == ([app], "deny")
    assert after["schedule"] == {
        "weekly": {"days": ["monday", "friday"], "opens_at": "22:30", "closes_at": "06:00"}
    }
    details = events[1]["details"]
    assert details["before"] == {"teams": [], "reason": "the end of the year"}
    assert details["after"] == {"teams": [f"Team {app}"], "reason": "another"}
    assert events[2]["details"]["before"] == {"archived_at": None}
    assert events[3]["details"]["after"] == {"archived_at": None}
    await world.check_events()
