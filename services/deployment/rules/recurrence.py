"""Recurrence rules (RFC 5545 RRULE): which local times one names, from any point, at bounded cost.

Only local times without a zone: what a clock on the wall reads. `freeze_times` makes instants of
them. Every day asked about is looked at by itself instead of counting from the beginning, so that
a rule that began long ago costs as little as a new one, and one that never happens no more.
"""

import re
from calendar import isleap, monthrange
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from itertools import islice
from types import MappingProxyType
from typing import Final

MOST_COUNT: Final = 500
MOST_INTERVAL: Final = 1000
COUNTED_FOR: Final = timedelta(days=366 * 50)
"""How far from its beginning a rule with COUNT is followed."""

_DAY: Final = timedelta(days=1)
_FREQUENCIES: Final = ("YEARLY", "MONTHLY", "WEEKLY", "DAILY", "HOURLY")
_DAYS: Final = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
_DAY_NAMED: Final = re.compile(rf"([+-]?\d{{1,2}})?({'|'.join(_DAYS)})")
_UNTIL: Final = re.compile(r"\d{8}T\d{6}Z")
_LISTS: Final[Mapping[str, tuple[int, int]]] = MappingProxyType(
    {
        "BYMONTH": (1, 12),
        "BYMONTHDAY": (-31, 31),
        "BYYEARDAY": (-366, 366),
        "BYWEEKNO": (-53, 53),
        "BYHOUR": (0, 23),
        "BYMINUTE": (0, 59),
        "BYSECOND": (0, 59),
        "BYSETPOS": (-366, 366),
    }
)
_SINGLE: Final = frozenset({"BYMINUTE", "BYSECOND"})
_NAMES: Final = frozenset({"FREQ", "INTERVAL", "COUNT", "UNTIL", "WKST", "BYDAY", *_LISTS})
_CHOOSE_DAYS: Final = frozenset({"BYDAY", "BYMONTHDAY", "BYYEARDAY", "BYWEEKNO"})


class RuleRefused(ValueError):
    """A text is no recurrence rule, or one that is not supported; the message says why."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A recurrence rule, taken apart.

    `days` are (weekday from Monday = 0, ordinal or 0); `until` is the last instant at which an
    occurrence may start. A part that the text leaves open is None, or not in `lists`.
    """

    frequency: str
    interval: int = 1
    week_start: int = 0
    count: int | None = None
    until: datetime | None = None
    days: tuple[tuple[int, int], ...] = ()
    lists: tuple[tuple[str, tuple[int, ...]], ...] = ()

    def numbers(self, name: str) -> tuple[int, ...]:
        """Return the numbers of one part, none if the rule lacks it."""
        return next((numbers for part, numbers in self.lists if part == name), ())


@lru_cache(maxsize=1024)
def parse(text: str) -> Rule:
    """Take the value of an RRULE property apart, such as "FREQ=MONTHLY;BYDAY=-1FR".

    Raises RuleRefused for what is not RFC 5545, for a DTSTART inside, an UNTIL without zone, and
    for rules that name times closer than hours (FREQ, or several BYMINUTE or BYSECOND).
    """
    parts = _parts(text)
    frequency = parts.get("FREQ", "")
    if frequency in {"MINUTELY", "SECONDLY"}:
        raise RuleRefused("FREQ is HOURLY at the finest")
    if frequency not in _FREQUENCIES:
        raise RuleRefused(f"FREQ must be one of {', '.join(_FREQUENCIES)}")
    if frequency == "HOURLY" and "BYSETPOS" in parts:
        raise RuleRefused("BYSETPOS has nothing to choose from within an hour")
    days = _days(parts["BYDAY"]) if "BYDAY" in parts else ()
    if frequency not in {"YEARLY", "MONTHLY"} and any(ordinal for _, ordinal in days):
        raise RuleRefused("BYDAY takes numbers such as -1FR only with FREQ YEARLY or MONTHLY")
    return Rule(
        frequency,
        interval=_number("INTERVAL", parts.get("INTERVAL", "1"), 1, MOST_INTERVAL),
        week_start=_week_start(parts.get("WKST", "MO")),
        count=_number("COUNT", parts["COUNT"], 1, MOST_COUNT) if "COUNT" in parts else None,
        until=_until(parts["UNTIL"]) if "UNTIL" in parts else None,
        days=days,
        lists=tuple((name, _numbers(name, parts[name])) for name in _LISTS if name in parts),
    )


def starts(rule: Rule, first: datetime, since: datetime, before: datetime) -> Iterator[datetime]:
    """Yield the local times in `[since, before)` that the rule names, in order.

    `first` is where the rule begins: its period anchors INTERVAL, and it says what the rule leaves
    open (the day, the time of day). It is an occurrence only when the rule names it. UNTIL is an
    instant and left to the caller. The cost grows with the days asked about and with nothing else,
    except that of a rule with COUNT, which is followed from its beginning once.
    """
    if rule.count is not None:
        yield from (start for start in _counted(rule, first) if since <= start < before)
    else:
        yield from _between(rule, first, max(since, first), before)


@lru_cache(maxsize=256)
def _counted(rule: Rule, first: datetime) -> tuple[datetime, ...]:
    return tuple(islice(_between(rule, first, first, first + COUNTED_FOR), rule.count))


def _between(rule: Rule, first: datetime, since: datetime, before: datetime) -> Iterator[datetime]:
    if since >= before:
        return
    rule = _completed(rule, first)
    chosen = rule.numbers("BYSETPOS")
    day = since.date()
    while day <= before.date():
        end = _end_of_period(rule, day) if chosen else day + _DAY
        if chosen:
            day = _begin_of_period(rule, day)
        named = [start for one in _days_from(day, end) for start in _times(rule, first, one)]
        if chosen:
            places = {place - 1 if place > 0 else len(named) + place for place in chosen}
            named = [start for place, start in enumerate(named) if place in places]
        yield from (start for start in named if since <= start < before)
        day = end


def _completed(rule: Rule, first: datetime) -> Rule:
    """Say what a rule means that it leaves open: the days and the time of day of the first."""
    lists = dict(rule.lists)
    days = rule.days
    if not days and not _CHOOSE_DAYS & lists.keys():
        if rule.frequency == "YEARLY":
            lists.setdefault("BYMONTH", (first.month,))
        if rule.frequency in {"YEARLY", "MONTHLY"}:
            lists["BYMONTHDAY"] = (first.day,)
        if rule.frequency == "WEEKLY":
            days = ((first.weekday(), 0),)
    every_hour = tuple(range(24))
    lists.setdefault("BYHOUR", every_hour if rule.frequency == "HOURLY" else (first.hour,))
    lists.setdefault("BYMINUTE", (first.minute,))
    lists.setdefault("BYSECOND", (first.second,))
    return replace(rule, days=days, lists=tuple(lists.items()))


def _days_from(day: date, end: date) -> Iterator[date]:
    while day < end:
        yield day
        day += _DAY


def _begin_of_period(rule: Rule, day: date) -> date:
    if rule.frequency == "YEARLY":
        return day.replace(month=1, day=1)
    if rule.frequency == "MONTHLY":
        return day.replace(day=1)
    return _week(day, rule.week_start) if rule.frequency == "WEEKLY" else day


def _end_of_period(rule: Rule, day: date) -> date:
    days = {"YEARLY": 366, "MONTHLY": 31, "WEEKLY": 7}.get(rule.frequency, 1)
    # The day after the longest period lies in the next one, whose begin is the end of this one.
    return _begin_of_period(rule, _begin_of_period(rule, day) + days * _DAY)


def _times(rule: Rule, first: datetime, day: date) -> Iterator[datetime]:
    """Yield the times of one day that the rule names, apart from BYSETPOS."""
    if not _in_step(rule, first, day) or not _is_named(rule, day):
        return
    midnight = datetime.combine(day, time.min)
    hours = (midnight - first.replace(hour=0, minute=0, second=0)).days * 24 - first.hour
    minutes, seconds = rule.numbers("BYMINUTE")[0], rule.numbers("BYSECOND")[0]
    for hour in sorted(set(rule.numbers("BYHOUR"))):
        if rule.frequency != "HOURLY" or (hours + hour) % rule.interval == 0:
            yield midnight.replace(hour=hour, minute=minutes, second=seconds)


def _in_step(rule: Rule, first: datetime, day: date) -> bool:
    """Say whether INTERVAL steps on the period that a day is in; hours are asked one by one."""
    if rule.frequency == "YEARLY":
        apart = day.year - first.year
    elif rule.frequency == "MONTHLY":
        apart = 12 * (day.year - first.year) + day.month - first.month
    elif rule.frequency == "WEEKLY":
        apart = (_week(day, rule.week_start) - _week(first.date(), rule.week_start)).days // 7
    elif rule.frequency == "DAILY":
        apart = (day - first.date()).days
    else:
        return True
    return apart % rule.interval == 0


def _is_named(rule: Rule, day: date) -> bool:
    """Say whether a day is one of those that the parts of a rule choose."""
    for name, numbers in rule.lists:
        if name in _PLACES:
            place, length = _PLACES[name](day, rule.week_start)
            if place not in numbers and place - length - 1 not in numbers:
                return False
    if not rule.days:
        return True
    by_month = rule.frequency == "MONTHLY" or bool(rule.numbers("BYMONTH"))
    place, length = (_day_of_month if by_month else _day_of_year)(day, 0)
    ordinals = {0, (place - 1) // 7 + 1, -((length - place) // 7 + 1)}
    return any(day.weekday() == one and ordinal in ordinals for one, ordinal in rule.days)


def _month(day: date, _week_start: int) -> tuple[int, int]:
    return day.month, 12


def _day_of_month(day: date, _week_start: int) -> tuple[int, int]:
    return day.day, monthrange(day.year, day.month)[1]


def _day_of_year(day: date, _week_start: int) -> tuple[int, int]:
    length = 366 if isleap(day.year) else 365
    return day.timetuple().tm_yday, length


def _week_of_year(day: date, week_start: int) -> tuple[int, int]:
    """Return the number of a week and how many its year has; week 1 is that of 4 January."""
    week = _week(day, week_start)
    year = (week + 3 * _DAY).year
    begin = _week(date(year, 1, 4), week_start)
    end = _week(date(year + 1, 1, 4), week_start)
    return (week - begin).days // 7 + 1, (end - begin).days // 7


_PLACES: Final[Mapping[str, Callable[[date, int], tuple[int, int]]]] = MappingProxyType(
    {
        "BYMONTH": _month,
        "BYMONTHDAY": _day_of_month,
        "BYYEARDAY": _day_of_year,
        "BYWEEKNO": _week_of_year,
    }
)
"""The place of a day, from 1, and of how many: numbers below zero count from the end."""


def _week(day: date, week_start: int) -> date:
    return day - (day.weekday() - week_start) % 7 * _DAY


def _parts(text: str) -> dict[str, str]:
    if "DTSTART" in text.upper():
        raise RuleRefused("holds a DTSTART; the start is a field of its own")
    parts: dict[str, str] = {}
    for part in text.upper().split(";"):
        name, equals, value = part.partition("=")
        if not equals or name not in _NAMES:
            raise RuleRefused(f"{name[:20]!r} is no part of a recurrence rule")
        if name in parts:
            raise RuleRefused(f"{name} stands there twice")
        parts[name] = value
    if "COUNT" in parts and "UNTIL" in parts:
        raise RuleRefused("COUNT and UNTIL exclude each other")
    return parts


def _number(name: str, text: str, least: int, most: int) -> int:
    if not re.fullmatch(r"[+-]?[0-9]{1,4}", text) or not least <= int(text) <= most:
        raise RuleRefused(f"{name} must be a number from {least} to {most}")
    return int(text)


def _numbers(name: str, text: str) -> tuple[int, ...]:
    least, most = _LISTS[name]
    numbers = tuple(_number(name, one, least, most) for one in text.split(","))
    if least < 0 and 0 in numbers:
        raise RuleRefused(f"{name} counts from 1, or from -1 backwards")
    if name in _SINGLE and len(numbers) > 1:
        raise RuleRefused(f"{name} takes one value; occurrences are at least an hour apart")
    return numbers


def _days(text: str) -> tuple[tuple[int, int], ...]:
    found = [_DAY_NAMED.fullmatch(one) for one in text.split(",")]
    days = tuple((_DAYS.index(day[2]), int(day[1] or 0)) for day in found if day)
    if len(days) < len(found) or any(day[1] and not int(day[1]) for day in found if day):
        raise RuleRefused("BYDAY takes days such as MO or -1FR")
    return days


def _week_start(text: str) -> int:
    if text not in _DAYS:
        raise RuleRefused("WKST takes a day such as MO")
    return _DAYS.index(text)


def _until(text: str) -> datetime:
    if not _UNTIL.fullmatch(text):
        raise RuleRefused("UNTIL needs a time in UTC such as 20301231T230000Z")
    try:
        return datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError as error:
        raise RuleRefused("UNTIL names no moment that exists") from error
