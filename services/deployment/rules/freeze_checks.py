"""What a freeze window must be like to be stored; everything else about it trusts this.

Occurrences of one window may meet, and must not overlap by the wall clock: a daily window of 36
hours is a mistake, and one that is meant is two windows. (A clock that is set back can still make
two that meet overlap by an hour; nothing depends on that.)
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from functools import lru_cache
from itertools import islice, pairwise
from typing import Final
from zoneinfo import ZoneInfo, available_timezones

from services.deployment.rules import recurrence
from services.deployment.rules.freeze_times import (
    SEARCHED,
    OneOff,
    Recurring,
    Weekly,
    earliest_reading,
)
from services.deployment.rules.freezes import Window, next_start
from shared.domain_error import FieldViolation
from shared.errors import ValidationFailed

LONGEST_NAME: Final = 100
LONGEST_REASON: Final = 1000
SHORTEST: Final = timedelta(minutes=1)
LONGEST: Final = timedelta(days=366)
YEARS: Final = range(1970, 2200)
"""The years that a window may speak of; sums with durations stay far from the ends of time."""

_COMPARED: Final = 400
_WEEK: Final = timedelta(days=7)
_MOST_EXCEPTIONS: Final = 400
_INSTANT: Final = timedelta(microseconds=1)


def check(window: Window) -> None:
    """Accept a window, or raise ValidationFailed with every rule that it breaks.

    The fields are named as in the request: `once.closes_at`, `weekly.days`, `recurring.rule`.
    """
    broken = [*_texts(window), *_selection(window), *_validity(window), *_schedule(window)]
    if not broken:
        broken = list(_happens(window))
    if broken:
        raise ValidationFailed(
            count=len(broken),
            first=f"{broken[0].field}: {broken[0].description}",
            fields=tuple(broken),
        )


@lru_cache(maxsize=1)
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


def _texts(window: Window) -> Iterator[FieldViolation]:
    for field, text, most in (
        ("name", window.name, LONGEST_NAME),
        ("reason", window.reason, LONGEST_REASON),
    ):
        if not text.strip():
            yield FieldViolation(field, "must not be empty", "freeze.text")
        elif len(text) > most:
            yield FieldViolation(field, f"must have at most {most} characters", "freeze.text")
    if window.time_zone not in _zones():
        why = "must be the IANA name of a time zone, such as Europe/Berlin"
        yield FieldViolation("time_zone", why, "freeze.zone")


def _selection(window: Window) -> Iterator[FieldViolation]:
    if window.services & window.exempt_services:
        why = "names a service that `services` chooses; leave it out there"
        yield FieldViolation("exempt_services", why, "freeze.exempt")
    if len(window.exceptions) > _MOST_EXCEPTIONS:
        why = f"takes at most {_MOST_EXCEPTIONS} days"
        yield FieldViolation("exception_dates", why, "freeze.exceptions")


def _validity(window: Window) -> Iterator[FieldViolation]:
    for field, moment in (
        ("valid_from", window.valid_from),
        ("valid_until", window.valid_until),
    ):
        if moment is not None:
            yield from _instant(field, moment)
    if window.valid_from and window.valid_until and window.valid_until <= window.valid_from:
        yield FieldViolation("valid_until", "must be later than valid_from", "freeze.validity")


def _schedule(window: Window) -> Iterator[FieldViolation]:
    match window.schedule:
        case OneOff() as once:
            yield from _once(once)
        case Weekly() as weekly:
            yield from _weekly(weekly)
        case Recurring() as recurring:
            yield from _recurring(recurring)


def _once(once: OneOff) -> Iterator[FieldViolation]:
    wrong = [
        *_instant("once.opens_at", once.starts_at),
        *_instant("once.closes_at", once.ends_at),
    ]
    yield from wrong
    if wrong:
        return
    if once.ends_at <= once.starts_at:
        yield FieldViolation("once.closes_at", "must be later than opens_at", "freeze.order")
    else:
        yield from _length("once.closes_at", once.lasts)


def _weekly(weekly: Weekly) -> Iterator[FieldViolation]:
    if not weekly.days or not weekly.days <= set(range(7)):
        yield FieldViolation("weekly.days", "must name days of the week", "freeze.days")
        return
    ends = weekly.ends if isinstance(weekly.ends, time) else time.min
    if any(one.tzinfo or one.microsecond for one in (weekly.starts, ends)):
        yield FieldViolation(
            "weekly.opens_at", "must be whole seconds, without zone", "freeze.local"
        )
        return
    yield from _length("weekly.closes_at", weekly.lasts)
    days = sorted(weekly.days)
    nearest = min(after - day for day, after in pairwise([*days, days[0] + 7]))
    yield from _overlap("weekly.closes_at", weekly.lasts, nearest * _WEEK / 7)


def _recurring(recurring: Recurring) -> Iterator[FieldViolation]:
    wrong = list(_length("recurring.open_for", recurring.lasts))
    first = recurring.starts
    if first.tzinfo or first.microsecond or first.year not in YEARS:
        why = f"must be whole seconds, without zone, {YEARS[0]} to {YEARS[-1]}"
        wrong.append(FieldViolation("recurring.first_opens_at", why, "freeze.local"))
    try:
        rule = recurrence.parse(recurring.rule)
    except recurrence.RuleRefused as refused:
        wrong.append(FieldViolation("recurring.rule", str(refused), "freeze.rule"))
    else:
        if not wrong:
            named = recurrence.starts(rule, first, first, first + SEARCHED)
            apart = (after - start for start, after in pairwise(islice(named, _COMPARED)))
            nearest = min(apart, default=SEARCHED)
            wrong += _overlap("recurring.open_for", recurring.lasts, nearest)
    yield from wrong


def _instant(field: str, moment: datetime) -> Iterator[FieldViolation]:
    if moment.tzinfo is None or moment.year not in YEARS:
        why = f"must be an instant in the years {YEARS[0]} to {YEARS[-1]}"
        yield FieldViolation(field, why, "freeze.instant")


def _length(field: str, lasts: timedelta) -> Iterator[FieldViolation]:
    if not SHORTEST <= lasts <= LONGEST:
        why = f"must make it last from a minute to {LONGEST.days} days"
        yield FieldViolation(field, why, "freeze.length")


def _overlap(field: str, lasts: timedelta, nearest: timedelta) -> Iterator[FieldViolation]:
    if lasts > nearest:
        why = f"makes it overlap itself: it opens again after {_hours(nearest)}"
        yield FieldViolation(field, why, "freeze.overlap")


def _hours(span: timedelta) -> str:
    return f"{span / timedelta(hours=1):g} hours"


def _happens(window: Window) -> Iterator[FieldViolation]:
    """Refuse what no moment ever falls into: dates that do not exist, or only excepted ones."""
    match window.schedule:
        case OneOff() as once:
            begin = once.starts_at
        case Recurring() as recurring:
            begin = earliest_reading(recurring.starts, ZoneInfo(window.time_zone))
        case Weekly():
            begin = window.valid_from or datetime(YEARS[0], 1, 1, tzinfo=UTC)
    if window.valid_from is not None:
        begin = max(begin, window.valid_from)
    if next_start(replace(window, archived=False), begin - _INSTANT) is None:
        yield FieldViolation("schedule", "must open at least once within ten years", "freeze.never")
