"""What a freeze window must be like to be stored."""

from collections.abc import Callable
from datetime import timedelta
from time import process_time
from uuid import UUID

import pytest

from services.deployment.rules.freeze_checks import check
from services.deployment.rules.freeze_times import Schedule
from services.deployment.rules.freezes import Window
from shared.errors import ValidationFailed
from tests.unit.deployment.freeze_reference import (
    DAY,
    HOUR,
    allow,
    daily,
    once,
    recurring,
    utc,
    window,
)

FIRST = "2026-06-01T08:00"


def broken(watched: Window) -> list[tuple[str, str]]:
    """Return field and rule of everything that is wrong with a window."""
    with pytest.raises(ValidationFailed) as caught:
        check(watched)
    assert caught.value.facts["count"] == str(len(caught.value.fields))
    return [(one.field, one.rule) for one in caught.value.fields]


def why(watched: Window) -> str:
    """Return what is said about the first thing that is wrong with a window."""
    with pytest.raises(ValidationFailed) as caught:
        check(watched)
    return caught.value.fields[0].description


@pytest.mark.parametrize(
    "schedule",
    [
        once("2026-06-01", "2026-06-01T00:01"),
        once("2026-06-01", "2027-06-02"),
        daily("22:00", "06:00"),
        daily("00:00", "00:00"),
        recurring("FREQ=YEARLY", "2028-02-29T00:00", DAY),
        recurring("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29", "2097-01-01T00:00", DAY),
        recurring("freq=monthly;byday=-1FR,+1MO", FIRST, DAY),
        recurring("FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1", FIRST, DAY),
        recurring("FREQ=DAILY;COUNT=500", FIRST, DAY),
        recurring("FREQ=DAILY;UNTIL=20260601T080000Z", FIRST, DAY),
        recurring("FREQ=HOURLY;BYMINUTE=30", FIRST, HOUR),
        recurring("FREQ=YEARLY;BYWEEKNO=52;BYDAY=MO", FIRST, 7 * DAY),
        recurring("FREQ=YEARLY;BYYEARDAY=-1", FIRST, DAY),
        recurring("FREQ=DAILY", "2020-01-01T00:00", DAY),
    ],
)
@pytest.mark.parametrize("make", [window, allow])
def test_a_sensible_window_is_accepted(schedule: Schedule, make: Callable[..., Window]) -> None:
    check(make(schedule, "Europe/Berlin"))


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (once("2026-06-02", "2026-06-02"), ("once.closes_at", "freeze.order")),
        (once("2026-06-02", "2026-06-01"), ("once.closes_at", "freeze.order")),
        (once("2026-06-02", "2026-06-02T00:00:59"), ("once.closes_at", "freeze.length")),
        (once("2026-06-02", "2027-06-03T00:01"), ("once.closes_at", "freeze.length")),
        (once("2026-06-02", "2200-06-03"), ("once.closes_at", "freeze.instant")),
        (once("1969-06-02", "1970-06-02"), ("once.opens_at", "freeze.instant")),
        (recurring("FREQ=DAILY", FIRST, timedelta()), ("recurring.open_for", "freeze.length")),
        (recurring("FREQ=YEARLY", FIRST, 367 * DAY), ("recurring.open_for", "freeze.length")),
        (recurring("FREQ=DAILY", FIRST, 25 * HOUR), ("recurring.open_for", "freeze.overlap")),
        (recurring("FREQ=MONTHLY", FIRST, 29 * DAY), ("recurring.open_for", "freeze.overlap")),
        (recurring("FREQ=DAILY", "1969-06-01", HOUR), ("recurring.first_opens_at", "freeze.local")),
        (recurring("FREQ=DAILY;INTERVAL=0", FIRST, HOUR), ("recurring.rule", "freeze.rule")),
        (
            recurring("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30", FIRST, HOUR),
            ("schedule", "freeze.never"),
        ),
        (recurring("FREQ=DAILY;UNTIL=20260601T075959Z", FIRST, HOUR), ("schedule", "freeze.never")),
    ],
)
def test_what_is_wrong_with_a_schedule_is_said_with_its_field(
    schedule: Schedule, expected: tuple[str, str]
) -> None:
    assert broken(window(schedule)) == [expected]


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ("", "is no part"),
        ("DAILY", "is no part"),
        ("RRULE:FREQ=DAILY", "is no part"),
        ("FREQ=DAILY;", "is no part"),
        ("FREQ=DAILY;BYEASTER=0", "is no part"),
        ("FREQ=DAILY;X-LUNCH=1", "is no part"),
        ("INTERVAL=2", "FREQ must be one of"),
        ("FREQ=FORTNIGHTLY", "FREQ must be one of"),
        ("FREQ=SECONDLY", "HOURLY at the finest"),
        ("FREQ=MINUTELY;INTERVAL=90", "HOURLY at the finest"),
        ("FREQ=DAILY;BYMINUTE=0,15", "BYMINUTE takes one value"),
        ("FREQ=HOURLY;BYSECOND=0,30", "BYSECOND takes one value"),
        ("DTSTART:20260601T080000\nFREQ=DAILY", "DTSTART"),
        ("FREQ=DAILY;DTSTART=20260601T080000Z", "DTSTART"),
        ("FREQ=DAILY;UNTIL=20270601T080000", "UNTIL needs a time in UTC"),
        ("FREQ=DAILY;UNTIL=20270601", "UNTIL needs a time in UTC"),
        ("FREQ=DAILY;UNTIL=20270231T080000Z", "UNTIL names no moment"),
        ("FREQ=DAILY;COUNT=3;UNTIL=20270601T080000Z", "exclude each other"),
        ("FREQ=DAILY;COUNT=0", "COUNT must be"),
        ("FREQ=DAILY;COUNT=501", "COUNT must be"),
        ("FREQ=DAILY;COUNT=3;COUNT=4", "twice"),
        ("FREQ=DAILY;INTERVAL=1001", "INTERVAL must be"),
        ("FREQ=DAILY;INTERVAL=two", "INTERVAL must be"),
        ("FREQ=DAILY;INTERVAL=\u0662", "INTERVAL must be"),
        ("FREQ=YEARLY;BYMONTH=13", "BYMONTH must be"),
        ("FREQ=MONTHLY;BYMONTHDAY=0", "BYMONTHDAY counts from 1"),
        ("FREQ=MONTHLY;BYMONTHDAY=32", "BYMONTHDAY must be"),
        ("FREQ=MONTHLY;BYMONTHDAY=", "BYMONTHDAY must be"),
        ("FREQ=DAILY;BYHOUR=24", "BYHOUR must be"),
        ("FREQ=MONTHLY;BYDAY=FRI", "BYDAY takes days"),
        ("FREQ=MONTHLY;BYDAY=0FR", "BYDAY takes days"),
        ("FREQ=MONTHLY;BYDAY=", "BYDAY takes days"),
        ("FREQ=WEEKLY;BYDAY=1FR", "BYDAY takes numbers"),
        ("FREQ=WEEKLY;WKST=XX", "WKST takes a day"),
    ],
)
def test_a_rule_that_is_not_understood_is_refused_with_the_reason(rule: str, says: str) -> None:
    watched = window(recurring(rule, FIRST, HOUR))

    assert broken(watched) == [("recurring.rule", "freeze.rule")]
    assert says in why(watched)


@pytest.mark.parametrize(
    "rule",
    [
        "FREQ=HOURLY;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=HOURLY;BYMONTH=2;BYMONTHDAY=30;COUNT=500",
        "FREQ=DAILY;INTERVAL=1000;BYMONTH=2;BYMONTHDAY=31;BYHOUR=0,1,2,3,4,5,6,7,8,9,10,11,12",
        "FREQ=YEARLY;INTERVAL=1000;BYMONTH=5",
        "FREQ=HOURLY;INTERVAL=2;BYHOUR=1",
    ],
)
def test_a_rule_that_never_happens_costs_little_to_refuse(rule: str) -> None:
    # A thousand years on, or never: the first occurrence is not the beginning itself.
    watched = window(recurring(rule, FIRST, HOUR))
    begin = process_time()

    assert broken(watched) == [("schedule", "freeze.never")]
    assert process_time() - begin < 5


def test_an_occurrence_that_is_excepted_never_happens() -> None:
    single = once("2026-06-02", "2026-06-03")
    excepted = window(single, exceptions=frozenset({utc("2026-06-02").date()}))

    assert broken(excepted) == [("schedule", "freeze.never")]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"time_zone": "Europe/Atlantis"}, ("time_zone", "freeze.zone")),
        ({"time_zone": "europe/berlin"}, ("time_zone", "freeze.zone")),
        ({"time_zone": "../../etc/passwd"}, ("time_zone", "freeze.zone")),
        ({"time_zone": "Europe"}, ("time_zone", "freeze.zone")),
        ({"time_zone": ""}, ("time_zone", "freeze.zone")),
        (
            {"services": frozenset({UUID(int=1)}), "exempt_services": frozenset({UUID(int=1)})},
            ("exempt_services", "freeze.exempt"),
        ),
    ],
)
def test_what_is_wrong_beside_the_schedule_is_said_with_its_field(
    changes: dict[str, object], expected: tuple[str, str]
) -> None:
    assert broken(window(daily("08:00", "09:00"), "UTC", **changes)) == [expected]


def test_everything_that_is_wrong_is_said_at_once() -> None:
    found = broken(window(recurring("FREQ=DAILY", "1969-06-01", 0 * HOUR), "Nowhere"))

    assert [field for field, _ in found] == [
        "time_zone",
        "recurring.open_for",
        "recurring.first_opens_at",
    ]
