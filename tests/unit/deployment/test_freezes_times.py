"""Freeze windows across changes of the clock, leap days, ends of years and far distances."""

from datetime import date, datetime
from time import process_time
from zoneinfo import ZoneInfo

import pytest

from services.deployment.rules.freeze_times import Schedule, Timing, covering, following
from services.deployment.rules.freezes import next_start, occurrence_at
from tests.unit.deployment.freeze_reference import (
    DAY,
    HOUR,
    MINUTE,
    Clock,
    daily,
    once,
    recurring,
    utc,
    window,
)

CHANGES = {
    "Berlin spring": ("Europe/Berlin", "2026-03-29T01:00"),
    "Berlin autumn": ("Europe/Berlin", "2026-10-25T01:00"),
    "New York spring": ("America/New_York", "2026-03-08T07:00"),
    "New York autumn": ("America/New_York", "2026-11-01T06:00"),
    "Lord Howe autumn": ("Australia/Lord_Howe", "2026-04-04T15:00"),
    "Lord Howe spring": ("Australia/Lord_Howe", "2026-10-03T15:30"),
    "St. John's spring": ("America/St_Johns", "2026-03-08T05:30"),
    "St. John's autumn": ("America/St_Johns", "2026-11-01T04:30"),
    "Casablanca into Ramadan": ("Africa/Casablanca", "2026-02-15T02:00"),
    "Casablanca out of Ramadan": ("Africa/Casablanca", "2026-03-22T02:00"),
    "Apia skips a day": ("Pacific/Apia", "2011-12-30T10:00"),
    "Kathmandu never changes": ("Asia/Kathmandu", "2026-03-29T01:00"),
}


def between(zone: str, schedule: Schedule, near: str) -> tuple[str, str] | None:
    """Return start and end in UTC of the occurrence at or after a moment."""
    timing = Timing(schedule, zone)
    found = covering(timing, utc(near)) or following(timing, utc(near))
    return None if found is None else (f"{found.start:%d %H:%M}", f"{found.end:%d %H:%M}")


@pytest.mark.parametrize(
    ("zone", "near", "starts", "ends", "expected"),
    [
        # Berlin, 29 March 2026: 02:00 is followed by 03:00, which is 01:00 UTC.
        ("Europe/Berlin", "2026-03-29T00:30", "02:30", "05:00", ("29 01:00", "29 03:00")),
        ("Europe/Berlin", "2026-03-29T00:30", "01:30", "02:30", ("29 00:30", "29 01:00")),
        ("Europe/Berlin", "2026-03-29T00:30", "02:10", "02:40", ("30 00:10", "30 00:40")),
        ("Europe/Berlin", "2026-03-28T22:00", "22:00", "06:00", ("28 21:00", "29 04:00")),
        # 25 October 2026: 02:00 to 03:00 comes twice, from 00:00 and from 01:00 UTC.
        ("Europe/Berlin", "2026-10-25T00:00", "02:30", "05:00", ("25 00:30", "25 04:00")),
        ("Europe/Berlin", "2026-10-24T23:00", "01:00", "02:30", ("24 23:00", "25 01:30")),
        ("Europe/Berlin", "2026-10-25T00:00", "02:10", "02:40", ("25 00:10", "25 01:40")),
        ("Europe/Berlin", "2026-10-24T23:00", "01:00", "02:00", ("24 23:00", "25 01:00")),
        ("Europe/Berlin", "2026-10-25T00:00", "02:00", "03:00", ("25 00:00", "25 02:00")),
        ("Europe/Berlin", "2026-10-24T20:30", "22:00", "06:00", ("24 20:00", "25 05:00")),
        # New York changes at 02:00, at 07:00 and 06:00 UTC.
        ("America/New_York", "2026-03-08T06:00", "02:15", "04:00", ("08 07:00", "08 08:00")),
        ("America/New_York", "2026-11-01T05:00", "01:15", "01:45", ("01 05:15", "01 06:45")),
        # Lord Howe moves by half an hour.
        ("Australia/Lord_Howe", "2026-04-04T14:30", "01:40", "04:00", ("04 14:40", "04 17:30")),
        ("Australia/Lord_Howe", "2026-10-03T15:00", "02:10", "04:00", ("03 15:30", "03 17:00")),
        # Newfoundland is half an hour beside the hour.
        ("America/St_Johns", "2026-03-08T05:00", "02:30", "03:30", ("08 05:30", "08 06:00")),
        # Morocco sets the clock back for Ramadan.
        ("Africa/Casablanca", "2026-02-15T01:00", "02:30", "04:00", ("15 01:30", "15 04:00")),
        ("Africa/Casablanca", "2026-03-22T01:00", "02:30", "04:00", ("22 02:00", "22 03:00")),
        # Samoa had no 30 December 2011: what ends or begins on it does so at its midnight.
        ("Pacific/Apia", "2011-12-29T17:00", "20:00", "06:00", ("30 06:00", "30 10:00")),
        ("Pacific/Apia", "2011-12-30T10:00", "20:00", "06:00", ("30 10:00", "30 16:00")),
        ("Pacific/Apia", "2011-12-30T09:30", "09:00", "17:00", ("30 19:00", "31 03:00")),
        ("Asia/Kathmandu", "2026-03-29T00:00", "02:30", "05:00", ("29 20:45", "29 23:15")),
    ],
)
def test_a_daily_window_on_the_day_the_clock_changes(
    zone: str, near: str, starts: str, ends: str, expected: tuple[str, str]
) -> None:
    assert between(zone, daily(starts, ends), near) == expected


@pytest.mark.parametrize("change", sorted(CHANGES))
@pytest.mark.parametrize(("starts", "lasts"), [(97, 64), (121, 58), (1407, 600), (139, 1440)])
def test_every_minute_around_a_change_agrees_with_a_clock_that_is_read(
    change: str, starts: int, lasts: int
) -> None:
    zone, moment = CHANGES[change]
    changes = utc(moment)
    opens, closes = (
        (datetime.min + minutes * MINUTE).time().isoformat()  # noqa: DTZ901 only its time of day
        for minutes in (starts, starts + lasts)
    )
    watched = window(daily(opens, closes), zone)
    expected = Clock(zone, changes - 6 * DAY, changes + 6 * DAY, MINUTE).occurrences(watched)

    wrong = []
    for minute in range(-36 * 60, 36 * 60):
        now = changes + minute * MINUTE
        applies = [one for one in expected if one[0] <= now < one[1]]
        found = occurrence_at(watched, now)
        if (found and (found.start, found.end)) != (applies[-1] if applies else None):
            wrong.append((now, found, applies))

    assert not wrong


@pytest.mark.parametrize(
    ("zone", "local", "lasts"),
    [("Europe/Berlin", "2026-03-28T09:00", 23), ("Europe/Berlin", "2026-10-24T09:00", 25)],
)
def test_a_duration_is_time_on_the_wall(zone: str, local: str, lasts: int) -> None:
    timing = Timing(recurring("FREQ=YEARLY", local, DAY), zone)
    begin = datetime.fromisoformat(local).replace(tzinfo=ZoneInfo(zone))
    found = covering(timing, begin)

    assert found is not None
    assert found.start == begin
    assert found.end - found.start == lasts * HOUR


def test_a_leap_day_comes_every_four_years_and_not_in_2100() -> None:
    leap = window(recurring("FREQ=YEARLY", "2092-02-29T00:00", DAY))
    found = [moment := utc("2091-01-01")]
    for _ in range(3):
        after = next_start(leap, moment)
        assert after is not None
        found.append(moment := after)

    assert found[1:] == [utc("2092-02-29"), utc("2096-02-29"), utc("2104-02-29")]
    assert occurrence_at(leap, utc("2100-02-28T23:59")) is None
    assert occurrence_at(leap, utc("2100-03-01")) is None


@pytest.mark.parametrize(
    ("rule", "first", "after", "expected"),
    [
        ("MONTHLY", "2026-01-31T08:00", "2026-02-01", "2026-03-31T08:00"),
        ("MONTHLY;BYDAY=-1FR", "2026-01-01T16:00", "2026-12-26", "2027-01-29T16:00"),
        ("YEARLY;BYMONTH=6;BYMONTHDAY=30", "2020-01-01T12:00", "2026-07-01", "2027-06-30T12:00"),
        ("MONTHLY;BYDAY=MO,-1FR", "2026-01-01T16:00", "2026-01-27", "2026-01-30T16:00"),
        ("YEARLY;BYWEEKNO=1;BYDAY=MO", "2025-01-01T00:00", "2025-01-01", "2025-12-29"),
        ("YEARLY;BYWEEKNO=53;BYDAY=MO", "2025-01-01T00:00", "2025-01-01", "2026-12-28"),
        ("YEARLY;BYWEEKNO=-1;BYDAY=SU", "2025-01-01T00:00", "2026-01-01", "2027-01-03"),
        # 2025 has 52 weeks, of which the first begins on 30 December 2024; 2026 has 53.
        ("YEARLY;BYWEEKNO=-52", "2024-03-19T02:05", "2024-12-03", "2024-12-30T02:05"),
        ("YEARLY;BYWEEKNO=-52", "2024-03-19T02:05", "2025-01-05T02:05", "2026-01-05T02:05"),
        # From Sunday on, the first week of 2026 begins on 4 January and the 52nd on 27 December.
        ("YEARLY;BYWEEKNO=52;WKST=SU", "2024-04-30T18:33", "2026-10-09", "2026-12-27T18:33"),
        (
            "YEARLY;BYWEEKNO=52;WKST=SU",
            "2024-04-30T18:33",
            "2026-12-31T18:33",
            "2027-01-01T18:33",
        ),
        ("YEARLY;BYDAY=-1SU;BYMONTH=3", "2025-01-01T00:00", "2026-01-01", "2026-03-29"),
        ("YEARLY;BYDAY=20MO", "2025-01-01T00:00", "2026-01-01", "2026-05-18"),
        ("WEEKLY;INTERVAL=2", "2026-12-24T00:00", "2026-12-25", "2027-01-07"),
        ("WEEKLY;INTERVAL=2;WKST=SU;BYDAY=SU,TH", "2026-12-24T00:00", "2026-12-25", "2027-01-03"),
        ("HOURLY;INTERVAL=5", "2026-12-31T20:00", "2026-12-31T20:00", "2027-01-01T01:00"),
        ("DAILY;COUNT=2", "2026-12-31T20:00", "2026-12-31T20:00", "2027-01-01T20:00"),
        ("DAILY;COUNT=2", "2026-12-31T20:00", "2027-01-01T20:00", None),
        (
            "DAILY;UNTIL=20270101T200000Z",
            "2026-12-31T20:00",
            "2026-12-31T20:00",
            "2027-01-01T20:00",
        ),
        ("DAILY;UNTIL=20270101T195959Z", "2026-12-31T20:00", "2026-12-31T20:00", None),
        ("HOURLY;INTERVAL=2;BYHOUR=3", "2026-12-31T20:00", "2026-12-31T20:00", None),
    ],
)
def test_the_next_start_of_a_rule(rule: str, first: str, after: str, expected: str | None) -> None:
    found = next_start(window(recurring(f"FREQ={rule}", first, HOUR)), utc(after))

    assert found == (expected and utc(expected))


def test_an_hourly_rule_that_began_long_ago_is_judged_in_no_time() -> None:
    ancient = window(recurring("FREQ=HOURLY", "1970-01-01T00:00", 20 * MINUTE), "Europe/Berlin")
    begin = process_time()

    assert occurrence_at(ancient, utc("2169-06-01T10:19")) is not None
    assert occurrence_at(ancient, utc("2169-06-01T10:20")) is None
    assert process_time() - begin < 2  # 1.7 million occurrences one by one take far longer


def test_what_has_ended_long_ago_costs_nothing() -> None:
    begin = process_time()

    for number in range(300):
        rule = f"FREQ=WEEKLY;INTERVAL={number + 1};UNTIL=20250101T000000Z"
        ended = window(recurring(rule, "2024-01-05T18:00", HOUR), "America/New_York")
        assert next_start(ended, utc("2026-03-03")) is None
    assert process_time() - begin < 2  # ten years ahead, day by day, take far longer


@pytest.mark.parametrize("until", ["00010101T000000Z", "99991231T235959Z"])
@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "America/New_York"])
def test_a_rule_may_end_at_the_ends_of_time(until: str, zone: str) -> None:
    ended = window(recurring(f"FREQ=DAILY;UNTIL={until}", "2026-01-01T00:00", HOUR), zone)

    assert (next_start(ended, utc("2026-03-03")) is None) == until.startswith("0")


def test_midnight_the_end_of_the_year_and_a_change_at_once() -> None:
    # From Saturday evening over the night in which Berlin's clocks go forward, and New Year's Eve.
    weekend = recurring("FREQ=WEEKLY;BYDAY=SA", "2026-01-03T18:00", 38 * HOUR)

    assert between("Europe/Berlin", weekend, "2026-03-28T18:00") == ("28 17:00", "30 06:00")
    assert between("Europe/Berlin", daily("22:00", "02:00", 3), "2026-12-31T22:00") == (
        "31 21:00",
        "01 01:00",
    )


@pytest.mark.parametrize(
    ("exception", "applies"),
    [
        (utc("2026-06-02T22:30").date(), False),
        (utc("2026-06-03").date(), True),
    ],
    ids=["its day", "the day of its end"],
)
def test_an_exception_drops_the_occurrence_that_starts_on_its_day(
    exception: date, *, applies: bool
) -> None:
    nights = window(daily("22:00", "06:00"), "Europe/Berlin", exceptions=frozenset({exception}))

    assert (occurrence_at(nights, utc("2026-06-03T00:00")) is not None) is applies
    assert occurrence_at(nights, utc("2026-06-02T00:00")) is not None


def test_an_archived_window_and_a_past_one_never_start() -> None:
    past = once("2026-06-02T02:00", "2026-06-02T03:00")

    assert next_start(window(past), utc("2026-06-01")) == utc("2026-06-02T02:00")
    assert next_start(window(past), utc("2026-06-02T02:00")) is None
    assert next_start(window(past, archived=True), utc("2026-06-01")) is None
    assert occurrence_at(window(past), utc("2026-06-02T02:30")) is not None
    assert occurrence_at(window(past, archived=True), utc("2026-06-02T02:30")) is None
