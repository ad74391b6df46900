"""Freeze windows: whom they cover, and what several of them say together."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from itertools import product
from uuid import UUID

import pytest

from services.deployment.rules.freezes import (
    HORIZON,
    MOST_STEPS,
    Freeze,
    FreezeStatus,
    Window,
    judge,
    matches,
)
from services.deployment.rules.lifecycle import DeploymentKind
from services.deployment.rules.policy import EnvironmentType
from tests.unit.deployment.freeze_reference import (
    DAY,
    HOUR,
    SUBJECT,
    allow,
    daily,
    once,
    recurring,
    utc,
    window,
)

NOON = utc("2026-06-03T12:00")  # a Wednesday
OTHER = UUID(int=99)
ALWAYS = once("2026-01-01", "2026-12-31")


def judged(*windows: Window) -> Freeze:
    """Return what windows say about SUBJECT at NOON."""
    return judge(windows, SUBJECT, NOON)


SELECTORS: dict[str, tuple[frozenset[object], ...]] = {
    "services": (frozenset(), frozenset({SUBJECT.service, OTHER}), frozenset({OTHER})),
    "teams": (frozenset(), frozenset({SUBJECT.team, OTHER}), frozenset({OTHER})),
    "environments": (frozenset(), frozenset({SUBJECT.environment, OTHER}), frozenset({OTHER})),
    "environment_types": (
        frozenset(),
        frozenset({EnvironmentType.PROD, EnvironmentType.DEV}),
        frozenset({EnvironmentType.DEV}),
    ),
    "exempt_services": (frozenset(), frozenset({OTHER}), frozenset({SUBJECT.service})),
}


def test_every_kind_of_selector_must_fit_and_one_member_of_each_does() -> None:
    wrong = []
    for choices in product(range(3), repeat=len(SELECTORS)):
        chosen = {
            name: members[choice]
            for choice, (name, members) in zip(choices, SELECTORS.items(), strict=True)
        }
        if matches(window(ALWAYS, "UTC", **chosen), SUBJECT) is not (2 not in choices):
            wrong.append(chosen)

    assert not wrong


def test_a_service_without_a_team_is_covered_by_no_team() -> None:
    alone = replace(SUBJECT, team=None)

    assert matches(window(ALWAYS), alone)
    assert not matches(window(ALWAYS, teams=frozenset({OTHER})), alone)


@pytest.mark.parametrize("kind", list(DeploymentKind))
@pytest.mark.parametrize("rollbacks", [False, True])
@pytest.mark.parametrize("make", [window, allow])
def test_a_rollback_passes_unless_the_window_names_it(
    kind: DeploymentKind, make: Callable[..., Window], *, rollbacks: bool
) -> None:
    schedule = ALWAYS if make is window else once("2027-01-01", "2027-01-02")
    covered = rollbacks or kind is not DeploymentKind.ROLLBACK

    found = judge([make(schedule, rollbacks=rollbacks)], replace(SUBJECT, kind=kind), NOON)

    assert found.covered is covered
    assert (found.status is FreezeStatus.FROZEN) is covered


def test_without_windows_that_cover_it_everything_is_open() -> None:
    found = judged(window(ALWAYS, services=frozenset({OTHER})), window(ALWAYS, archived=True))

    assert found.status is FreezeStatus.OPEN
    assert not found.covered
    assert found.by == ()
    assert found.earliest == NOON


def test_a_deny_window_forbids_from_its_start_up_to_its_end() -> None:
    freeze = window(once("2026-06-03T12:00", "2026-06-03T14:00"))

    found = judge([freeze], SUBJECT, NOON)
    assert found.status is FreezeStatus.FROZEN
    assert [(hold.window, hold.until) for hold in found.by] == [(freeze, NOON + 2 * HOUR)]
    assert found.earliest == NOON + 2 * HOUR
    assert found.why == "quiet forbids it until 2026-06-03 14:00 UTC (people sleep)"
    before = judge([freeze], SUBJECT, NOON - timedelta(microseconds=1))
    assert before.status is FreezeStatus.OPEN
    assert before.covered
    assert judge([freeze], SUBJECT, NOON + 2 * HOUR).status is FreezeStatus.OPEN


@pytest.mark.parametrize(
    ("schedules", "earliest"),
    [
        ([("12:00", "14:00"), ("14:00", "15:00")], "2026-06-03T15:00"),
        ([("12:00", "14:00"), ("13:00", "16:00"), ("15:30", "18:00")], "2026-06-03T18:00"),
        ([("12:00", "14:00"), ("14:01", "15:00")], "2026-06-03T14:00"),
        ([("08:00", "20:00"), ("11:00", "12:30")], "2026-06-03T20:00"),
        ([("08:00", "20:00"), ("20:00", "08:00")], None),
        ([("00:00", "00:00")], None),
    ],
    ids=["meet", "overlap", "a minute between", "within", "day and night", "whole days"],
)
def test_deny_windows_that_meet_are_one_freeze(
    schedules: list[tuple[str, str]], earliest: str | None
) -> None:
    found = judged(*(window(daily(*hours)) for hours in schedules))

    assert found.status is FreezeStatus.FROZEN
    assert found.earliest == (earliest and utc(earliest))


def test_an_allow_window_that_covers_it_must_be_open() -> None:
    hours = allow(daily("09:00", "11:00", 0, 1, 2, 3, 4), "Europe/Berlin")

    found = judged(hours)
    assert found.status is FreezeStatus.FROZEN
    assert found.earliest == utc("2026-06-04T07:00")
    assert found.why == "hours is closed until 2026-06-04 07:00 UTC (people sleep)"
    assert judge([hours], SUBJECT, utc("2026-06-04T07:00")).status is FreezeStatus.OPEN
    assert judge([hours], SUBJECT, utc("2026-06-04T09:00")).status is FreezeStatus.FROZEN


def test_of_several_allow_windows_one_open_is_enough() -> None:
    found = judged(allow(daily("09:00", "11:00")), allow(daily("12:00", "13:00")))

    assert found.status is FreezeStatus.OPEN
    assert found.by == ()


def test_deny_beats_allow_and_an_opening_within_a_freeze_is_none() -> None:
    hours = allow(daily("09:00", "13:00"))
    freeze = window(once("2026-06-03T10:00", "2026-06-05T11:00"))

    found = judged(freeze, hours)
    assert [hold.window for hold in found.by] == [freeze]
    assert found.earliest == utc("2026-06-05T11:00")
    longer = replace(freeze, schedule=once("2026-06-03T10:00", "2026-06-05T13:00"))
    assert judged(longer, hours).earliest == utc("2026-06-06T09:00")


def test_what_forbids_is_named_deny_first_then_by_name() -> None:
    closed = allow(daily("09:00", "11:00"), name="a")
    first, second = window(ALWAYS, name="b"), window(ALWAYS, name="c")

    assert [hold.window.name for hold in judged(second, closed, first).by] == ["b", "c", "a"]
    many = judged(*(window(ALWAYS, name=f"w{number}") for number in range(7)))
    assert many.why.endswith("; and 2 more")
    assert len(many.by) == 7


def test_an_allow_window_that_never_opens_again_forbids_for_good() -> None:
    past = allow(once("2026-06-01", "2026-06-02"))

    found = judged(past)
    assert found.earliest is None
    assert found.by[0].until is None
    assert found.why == "hours is closed and never opens again (people sleep)"


def test_an_opening_is_looked_for_up_to_the_horizon() -> None:
    def until(days: float) -> Freeze:
        ends = NOON + days * DAY
        return judged(window(replace(once("2026-06-03", "2026-06-04"), ends_at=ends)))

    assert until(HORIZON.days).earliest == NOON + HORIZON
    assert until(HORIZON.days + 1).earliest is None


@pytest.mark.parametrize(("hours", "found"), [(MOST_STEPS - 1, True), (MOST_STEPS, False)])
def test_the_search_takes_a_bounded_number_of_steps(hours: int, *, found: bool) -> None:
    ends = NOON + (hours - 1) * HOUR  # the last hour begins then
    hourly = recurring(f"FREQ=HOURLY;UNTIL={ends:%Y%m%dT%H%M%SZ}", "2020-01-01T00:00", HOUR)

    assert judged(window(hourly)).earliest == (NOON + hours * HOUR if found else None)
