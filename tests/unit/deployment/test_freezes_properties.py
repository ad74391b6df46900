"""Freeze windows at random: against a clock that is read, a plain expansion, and themselves."""

from datetime import date, datetime, timedelta
from itertools import takewhile

from dateutil.rrule import rrulestr
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from services.deployment.rules import recurrence
from services.deployment.rules.freeze_times import OneOff, Schedule
from services.deployment.rules.freezes import (
    FreezeStatus,
    Window,
    WindowKind,
    judge,
    next_start,
    occurrence_at,
)
from tests.unit.deployment.freeze_reference import (
    CHOOSES,
    DAY,
    HOUR,
    MINUTE,
    SUBJECT,
    Clock,
    daily,
    is_open,
    once,
    recurring,
    utc,
    window,
)

STEP = 15 * MINUTE
MONTH = 30 * DAY
LONGEST = 4 * DAY
MONTHS = (
    ("Europe/Berlin", "2026-03-15"),
    ("Europe/Berlin", "2026-10-10"),
    ("Europe/Berlin", "2026-12-12"),
    ("America/New_York", "2026-02-20"),
    ("America/New_York", "2026-10-20"),
    ("Australia/Lord_Howe", "2026-03-25"),
    ("Australia/Lord_Howe", "2026-09-20"),
    ("America/St_Johns", "2026-10-20"),
    ("Africa/Casablanca", "2026-02-05"),
    ("Pacific/Apia", "2011-12-14"),
    ("Asia/Kathmandu", "2028-02-10"),
)
"""Zones, and a day from which a month holds a change of the clock, a leap day or a new year."""

QUARTERS = st.integers(0, 95).map(lambda quarter: quarter * STEP)
LASTS = st.integers(1, 96).map(lambda quarters: quarters * STEP)


def local(day: date | str, since_midnight: timedelta) -> str:
    """Return a local time of a day as text."""
    return (datetime.fromisoformat(str(day)) + since_midnight).isoformat()


@st.composite
def windows(draw: st.DrawFn, begin: datetime, zone: str) -> Window:
    """Draw a window that has something to say in the month that begins then."""
    starts, lasts = draw(QUARTERS), draw(LASTS)
    schedule: Schedule
    shape = draw(st.sampled_from(["weekly", "weekly", "rule", "rule", "once"]))
    if shape == "weekly":
        days = draw(st.sets(st.integers(0, 6), min_size=1))
        opens, closes = (local("2000-01-01", each)[11:] for each in (starts, starts + lasts))
        schedule = daily(opens, closes, *days)
    elif shape == "rule":
        first = begin.date() + draw(st.integers(-40, 25)) * DAY
        rule = draw(st.sampled_from(sorted(CHOOSES)))
        schedule = recurring(rule, local(first, starts), lasts)
    else:
        first = begin + draw(st.integers(-2, 28)) * DAY + starts
        schedule = once(str(first)[:19], str(first + 3 * lasts)[:19])
    skipped = draw(st.sets(st.integers(0, 29), max_size=3))
    return window(
        schedule,
        zone,
        kind=draw(st.sampled_from(WindowKind)),
        exceptions=frozenset(begin.date() + day * DAY for day in skipped),
    )


@st.composite
def months(draw: st.DrawFn, most: int = 4) -> tuple[datetime, list[Window]]:
    """Draw a month and windows in its zone, now and then one in UTC."""
    zone, day = draw(st.sampled_from(MONTHS))
    begin = utc(day)
    zones = st.sampled_from([zone, zone, zone, "UTC"])
    drawn = st.lists(zones.flatmap(lambda one: windows(begin, one)), min_size=1, max_size=most)
    return begin, draw(drawn)


@settings(max_examples=100, deadline=None)
@given(months(), st.lists(st.integers(0, int(MONTH / STEP) - 1), min_size=12, max_size=12))
def test_a_month_agrees_with_a_clock_that_is_read(
    month: tuple[datetime, list[Window]], quarters: list[int]
) -> None:
    begin, drawn = month
    applying = []
    for one in drawn:
        clock = Clock(one.time_zone, begin - LONGEST, begin + MONTH + LONGEST, STEP)
        # Exceptions of a one-off are tested by example: its clock needs no reading.
        assume(not (isinstance(one.schedule, OneOff) and one.exceptions))
        applying.append((one, clock.occurrences(one)))

    for one, occurrences in applying:
        for quarter in range(0, int(MONTH / STEP), 3):
            moment = begin + quarter * STEP
            applies = [each for each in occurrences if each[0] <= moment < each[1]]
            found = occurrence_at(one, moment)
            assert (found and (found.start, found.end)) == (applies[-1] if applies else None)

    ahead = [begin + quarter * STEP for quarter in range(int(MONTH / STEP))]
    openings = [moment for moment in ahead if is_open(applying, moment)]
    for moment in (begin + quarter * STEP for quarter in quarters):
        verdict = judge(drawn, SUBJECT, moment)
        expected = next((opening for opening in openings if opening >= moment), None)
        assert (verdict.status is FreezeStatus.OPEN) is (expected == moment)
        if expected is None:
            assert verdict.earliest is None or verdict.earliest >= begin + MONTH
        else:
            assert verdict.earliest == expected


@settings(max_examples=150, deadline=None)
@given(months(), st.integers(0, int(MONTH / MINUTE)))
def test_the_earliest_opening_is_open_and_every_boundary_before_it_is_not(
    month: tuple[datetime, list[Window]], minute: int
) -> None:
    begin, drawn = month
    now = begin + minute * MINUTE

    verdict = judge(drawn, SUBJECT, now)

    assert (verdict.status is FreezeStatus.OPEN) is (verdict.earliest == now)
    assert bool(verdict.by) is (verdict.status is FreezeStatus.FROZEN)
    if verdict.earliest is not None:
        assert judge(drawn, SUBJECT, verdict.earliest).status is FreezeStatus.OPEN
    for boundary in boundaries(drawn, now, min(verdict.earliest or now + MONTH, now + MONTH)):
        assert judge(drawn, SUBJECT, boundary).status is FreezeStatus.FROZEN


def boundaries(drawn: list[Window], now: datetime, end: datetime) -> set[datetime]:
    """Return when occurrences start and end, and the moments just before, from now to an end."""
    found = {now} if now < end else set()
    for one in drawn:
        moment: datetime | None = now - LONGEST
        while moment is not None and moment < end:
            if occurrence := occurrence_at(one, moment):
                found |= {occurrence.start, occurrence.end}
            moment = next_start(one, moment)
    instant = timedelta(microseconds=1)
    near = {one + offset for one in found for offset in (-instant, 0 * instant)}
    return {one for one in near if now <= one < end}


@settings(max_examples=200, deadline=None)
@given(months(most=1), st.integers(0, int(MONTH / MINUTE)))
def test_occurrences_hold_their_start_and_not_their_end_and_the_next_is_later(
    month: tuple[datetime, list[Window]], minute: int
) -> None:
    begin, (one, *_) = month
    now = begin + minute * MINUTE

    start = next_start(one, now)
    current = occurrence_at(one, now)
    if current is not None:
        assert current.start <= now < current.end
        after = occurrence_at(one, current.end)
        assert after is None or after.start > current.start
    if start is not None:
        assert start > now
        coming = occurrence_at(one, start)
        assert coming is not None
        assert coming.start == start
        assert next_start(one, start - timedelta(microseconds=1)) == start
        between = occurrence_at(one, now + (start - now) / 2)
        assert between is None or between == current


def numbers(least: int, most: int) -> st.SearchStrategy[str]:
    """Draw a list of numbers as a rule writes it."""
    some = st.lists(st.integers(least, most).filter(bool), min_size=1, max_size=3, unique=True)
    return some.map(lambda drawn: ",".join(map(str, drawn)))


@st.composite
def rules(draw: st.DrawFn) -> str:
    """Draw a rule of any frequency that is sure to happen now and then.

    The library looks for a match up to the year 9999, so one without would take minutes. It also
    takes days with and without a number together for what is both, so they are not mixed. And where
    the 52nd week, or the 52nd from the end, lies in two years, it knows only the days in its own:
    those are examples of the next start of a rule.
    """
    frequency = draw(st.sampled_from(["YEARLY", "MONTHLY", "WEEKLY", "DAILY", "HOURLY"]))
    by_month = frequency in {"YEARLY", "MONTHLY"}
    days = ["MO,WE", "SU", "TU,FR,SA", *(["1MO,-1FR", "+2TU"] if by_month else [])]
    choices = {
        "": st.just(""),
        "BYMONTHDAY": numbers(-28, 28),
        "BYDAY": st.sampled_from(days),
        **({"BYYEARDAY": numbers(-365, 365)} if frequency == "YEARLY" else {}),
        **({"BYWEEKNO": numbers(-51, 51)} if frequency == "YEARLY" else {}),
    }
    chooser = draw(st.sampled_from(sorted(choices)))
    parts = {"INTERVAL": st.integers(1, 5), "WKST": st.just("SU"), "COUNT": st.integers(1, 500)}
    parts |= {"BYHOUR": numbers(1, 23), "BYMINUTE": st.just("30")}
    if chooser not in {"BYYEARDAY", "BYWEEKNO"}:
        parts["BYMONTH"] = numbers(1, 12)
    if by_month and chooser == "BYDAY":
        parts["BYSETPOS"] = st.sampled_from(["1", "-1", "1,-1"])
    names = draw(st.sets(st.sampled_from(sorted(parts)), max_size=3))
    drawn = [f"{name}={draw(parts[name])}" for name in sorted(names)]
    chosen = [f"{chooser}={draw(choices[chooser])}"] if chooser else []
    return ";".join([f"FREQ={frequency}", *chosen, *drawn])


@settings(max_examples=200, deadline=None)
@given(
    rules(),
    st.datetimes(datetime(2024, 1, 1), datetime(2024, 12, 31)),  # noqa: DTZ001 local times
    st.integers(0, 900),
)
def test_a_rule_names_what_a_library_finds_from_its_beginning(
    text: str, drawn: datetime, days: int
) -> None:
    first = drawn.replace(microsecond=0)
    since = first + days * DAY - 30 * HOUR
    before = since + 200 * DAY
    try:
        plain = rrulestr(text, dtstart=first)
    except ValueError:  # hours that no step of INTERVAL reaches
        expected = []
    else:
        expected = [one for one in takewhile(lambda one: one < before, plain) if one >= since]

    assert list(recurrence.starts(recurrence.parse(text), first, since, before)) == expected
