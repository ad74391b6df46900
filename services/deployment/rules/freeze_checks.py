"""What a freeze window must be like to be stored, beyond what the contract asks of its fields.

Texts, lengths of lists, days and times of the clock were checked with the request; everything else
about a window trusts the two.

Occurrences of one window may meet, and must not overlap by the wall clock: a daily window of 36
hours is a mistake, and one that is meant is two windows. (A clock that is set back can still make
two that meet overlap by an hour; nothing depends on that.)
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
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

SHORTEST: Final = timedelta(minutes=1)
LONGEST: Final = timedelta(days=366)
YEARS: Final = range(1970, 2200)
"""The years that a window may speak of; sums with durations stay far from the ends of time."""

_COMPARED: Final = 400
_INSTANT: Final = timedelta(microseconds=1)


def check(window: Window) -> None:
    """Accept a window, or raise ValidationFailed with every rule that it breaks.

    The fields are named as in the request: `once.closes_at`, `recurring.rule`.
    """
    broken = [*_zone(window), *_selection(window), *_schedule(window)]
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


def _zone(window: Window) -> Iterator[FieldViolation]:
    if window.time_zone not in _zones():
        why = "must be the IANA name of a time zone, such as Europe/Berlin"
        yield FieldViolation("time_zone", why, "freeze.zone")


def _selection(window: Window) -> Iterator[FieldViolation]:
    if window.services & window.exempt_services:
        why = "names a service that `services` chooses; leave it out there"
        yield FieldViolation("exempt_services", why, "freeze.exempt")


def _schedule(window: Window) -> Iterator[FieldViolation]:
    match window.schedule:
        case OneOff() as once:
            yield from _once(once)
        case Recurring() as recurring:
            yield from _recurring(recurring)
        case Weekly():  # a day at most, once a day: no such thing is wrong
            pass


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


def _recurring(recurring: Recurring) -> Iterator[FieldViolation]:
    wrong = list(_length("recurring.open_for", recurring.lasts))
    first = recurring.starts
    if first.year not in YEARS:
        why = f"must be in the years {YEARS[0]} to {YEARS[-1]}"
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
    if moment.year not in YEARS:
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
        case Weekly():  # there are more weeks than excepted days
            return
    if next_start(window, begin - _INSTANT) is None:
        yield FieldViolation("schedule", "must open at least once within ten years", "freeze.never")
