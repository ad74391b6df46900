"""When a schedule of a freeze window applies: from wall-clock times in a zone to instants.

One definition settles what clock changes do: an occurrence is the smallest interval that holds
every moment at which the clock on the wall reads from its start to its end. So

* a start or an end that the clock skips (spring) is the first instant after the gap, and an
  occurrence that lies in the gap altogether does not happen;
* a start that the clock shows twice (autumn) is the first of the two, and such an end the second:
  a freeze is never shorter than its readers believe.

Durations are wall-clock time as well: 24 hours from 09:00 end at 09:00, whatever the clock did.
Intervals hold their start and not their end.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

from services.deployment.rules import recurrence

SEARCHED: Final = timedelta(days=3660)
"""How far ahead the next occurrence is looked for: ten years, more than two leap days apart."""

_DAY: Final = timedelta(days=1)
_BLOCK: Final = 64
_MARGIN: Final = timedelta(days=2)
"""More than a clock was ever moved at once: Samoa skipped a day."""


@dataclass(frozen=True, slots=True)
class OneOff:
    """Once, from one instant to another."""

    starts_at: datetime
    ends_at: datetime

    @property
    def lasts(self) -> timedelta:
        """Return how long it lasts."""
        return self.ends_at - self.starts_at


@dataclass(frozen=True, slots=True)
class Weekly:
    """On some days of every week (Monday = 0), at a local time.

    `ends` is a local time, on the next day when it is not after `starts`, so 00:00 to 00:00 is a
    whole day.
    """

    days: frozenset[int]
    starts: time
    ends: time

    @property
    def lasts(self) -> timedelta:
        """Return how long it lasts on the wall clock."""
        apart = datetime.combine(date.min, self.ends) - datetime.combine(date.min, self.starts)
        return apart if apart > timedelta() else apart + _DAY


@dataclass(frozen=True, slots=True)
class Recurring:
    """By a recurrence rule (RFC 5545) that begins at a local time; each lasts wall-clock time."""

    rule: str
    starts: datetime
    lasts: timedelta


Schedule = OneOff | Weekly | Recurring


@dataclass(frozen=True, slots=True)
class Timing:
    """A schedule in a zone (IANA name), without its exceptions.

    A day in `exceptions` drops the occurrences that start on that local day.
    """

    schedule: Schedule
    time_zone: str
    exceptions: frozenset[date] = frozenset()


@dataclass(frozen=True, slots=True)
class Occurrence:
    """One time at which a window applies, in UTC; the end is not part of it."""

    start: datetime
    end: datetime


@lru_cache(maxsize=4096)
def covering(timing: Timing, moment: datetime) -> Occurrence | None:
    """Return the occurrence that holds a moment, of several the one that ends last.

    It is kept for a while: windows of different teams often have the same hours, and a board asks
    about all of them at one moment.
    """
    for occurrences in _backwards(timing, moment):
        # Later ones never end earlier, so the last one that has begun decides.
        if begun := bisect_right(occurrences, moment, key=_start):
            latest = occurrences[begun - 1]
            return latest if moment < latest.end else None
    return None


@lru_cache(maxsize=4096)
def following(timing: Timing, after: datetime) -> Occurrence | None:
    """Return the first occurrence that starts later than a moment, if any within `SEARCHED`."""
    for occurrences in _forwards(timing, after):
        begun = bisect_right(occurrences, after, key=_start)
        if begun < len(occurrences):
            return occurrences[begun]
    return None


def earliest_reading(local: datetime, zone: tzinfo) -> datetime:
    """Return the first instant at which the clock reads a local time, or more after a gap."""
    return _instant(local.replace(fold=0), zone)


def latest_reading(local: datetime, zone: tzinfo) -> datetime:
    """Return the last instant at which the clock reads a local time, or the end of its gap."""
    return _instant(local.replace(fold=1), zone)


def _instant(local: datetime, zone: tzinfo) -> datetime:
    found = local.replace(tzinfo=zone).astimezone(UTC)
    if _reading(found, zone) == local:
        return found
    other = local.replace(tzinfo=zone, fold=1 - local.fold).astimezone(UTC)
    return _end_of_gap(local, zone, min(found, other), max(found, other))


def _end_of_gap(local: datetime, zone: tzinfo, low: datetime, high: datetime) -> datetime:
    """Find the second at which the clock jumps over `local`, between two instants around it."""
    seconds = range(int((high - low).total_seconds()))
    beyond = bisect_right(
        seconds, 0, key=lambda second: _reading(low + timedelta(seconds=second), zone) > local
    )
    return low + timedelta(seconds=beyond)


def _reading(moment: datetime, zone: tzinfo) -> datetime:
    return moment.astimezone(zone).replace(tzinfo=None)


def _start(occurrence: Occurrence) -> datetime:
    return occurrence.start


def _backwards(timing: Timing, moment: datetime) -> Iterator[tuple[Occurrence, ...]]:
    """Yield the occurrences that can hold a moment, block by block, the latest block first."""
    if isinstance(timing.schedule, OneOff):
        yield _block(timing, 0)
        return
    wall = _reading(moment, ZoneInfo(timing.time_zone))
    first = _number(wall - timing.schedule.lasts - _MARGIN)
    for number in range(_number(wall + _MARGIN), first - 1, -1):
        yield _block(timing, number)


def _forwards(timing: Timing, after: datetime) -> Iterator[tuple[Occurrence, ...]]:
    if isinstance(timing.schedule, OneOff):
        yield _block(timing, 0)
        return
    wall = _reading(after, ZoneInfo(timing.time_zone))
    last = wall + SEARCHED
    if (until := _until(timing.schedule)) is not None:  # what has ended costs nothing for years on
        last = min(last, until.replace(tzinfo=None)) + _MARGIN
    for number in range(_number(wall - _MARGIN), _number(last) + 1):
        yield _block(timing, number)


def _number(local: datetime) -> int:
    return local.toordinal() // _BLOCK


@lru_cache(maxsize=512)
def _block(timing: Timing, number: int) -> tuple[Occurrence, ...]:
    """Return the occurrences whose local start is in one block of days, in order.

    Blocks make the cost of a question independent of where the schedule began, and are kept,
    because the same few are asked for again and again.
    """
    zone = ZoneInfo(timing.time_zone)
    return tuple(
        occurrence
        for day, occurrence in _expanded(timing.schedule, zone, number)
        if occurrence.start < occurrence.end and day not in timing.exceptions
    )


def _expanded(schedule: Schedule, zone: tzinfo, number: int) -> Iterator[tuple[date, Occurrence]]:
    if isinstance(schedule, OneOff):
        day = _reading(schedule.starts_at, zone).date()
        yield day, Occurrence(schedule.starts_at.astimezone(UTC), schedule.ends_at.astimezone(UTC))
        return
    until = _until(schedule)
    for local in _local_starts(schedule, datetime.fromordinal(number * _BLOCK)):
        start = earliest_reading(local, zone)
        if until is None or start <= until:
            yield local.date(), Occurrence(start, latest_reading(local + schedule.lasts, zone))


def _until(schedule: Schedule) -> datetime | None:
    """Return the last instant at which an occurrence may start, None if its rule names none."""
    return recurrence.parse(schedule.rule).until if isinstance(schedule, Recurring) else None


def _local_starts(schedule: Weekly | Recurring, since: datetime) -> Iterator[datetime]:
    if isinstance(schedule, Recurring):
        rule = recurrence.parse(schedule.rule)
        yield from recurrence.starts(rule, schedule.starts, since, since + _DAY * _BLOCK)
        return
    for offset in range(_BLOCK):
        day = since + _DAY * offset
        if day.weekday() in schedule.days:
            yield datetime.combine(day, schedule.starts)
