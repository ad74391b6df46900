"""A slow second opinion on freeze windows: it reads a clock every few minutes and looks.

It only ever asks what a clock shows at an instant, never which instant a local time is, and it
chooses days by predicates of its own, so it shares no idea with the rules except the definition.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

from services.deployment.rules.freeze_times import OneOff, Recurring, Schedule, Weekly
from services.deployment.rules.freezes import Subject, Window, WindowKind
from services.deployment.rules.lifecycle import DeploymentKind
from services.deployment.rules.policy import EnvironmentType

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
SUBJECT = Subject(
    service=UUID(int=1),
    team=UUID(int=2),
    environment=UUID(int=3),
    environment_type=EnvironmentType.PROD,
    kind=DeploymentKind.DEPLOY,
)
Interval = tuple[datetime, datetime]


def utc(text: str) -> datetime:
    """Return an instant written without its zone, which is UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def window(schedule: Schedule, zone: str = "UTC", /, **changes: object) -> Window:
    """Return a DENY window that covers everything."""
    facts: dict[str, object] = {
        "id": UUID(int=9),
        "name": "quiet",
        "kind": WindowKind.DENY,
        "reason": "people sleep",
        "time_zone": zone,
        "schedule": schedule,
    }
    return Window(**{**facts, **changes})  # type: ignore[arg-type]


def allow(schedule: Schedule, zone: str = "UTC", /, **changes: object) -> Window:
    """Return an ALLOW window that covers everything."""
    return window(schedule, zone, **{"kind": WindowKind.ALLOW, "name": "hours", **changes})


def daily(starts: str, ends: str, *days: int) -> Weekly:
    """Return a schedule at a local time on some days of the week, all seven when none is named."""
    return Weekly(frozenset(days or range(7)), time.fromisoformat(starts), time.fromisoformat(ends))


def once(starts: str, ends: str) -> OneOff:
    """Return a schedule from one instant in UTC to another."""
    return OneOff(utc(starts), utc(ends))


def recurring(rule: str, starts: str, lasts: timedelta) -> Recurring:
    """Return a schedule by rule from a local time on."""
    return Recurring(rule, datetime.fromisoformat(starts), lasts)


CHOOSES: dict[str, Callable[[date, date], bool]] = {
    "FREQ=DAILY": lambda _day, _first: True,
    "FREQ=DAILY;INTERVAL=3": lambda day, first: (day - first).days % 3 == 0,
    "FREQ=DAILY;COUNT=5": lambda day, first: (day - first).days < 5,
    "FREQ=WEEKLY": lambda day, first: (day - first).days % 7 == 0,
    "FREQ=WEEKLY;INTERVAL=2;BYDAY=MO,SA": lambda day, first: (
        day.weekday() in {0, 5} and (_monday(day) - _monday(first)).days % 14 == 0
    ),
    "FREQ=MONTHLY": lambda day, first: day.day == first.day,
    "FREQ=MONTHLY;BYDAY=-1FR": lambda day, _first: (
        day.weekday() == 4 and (day + 7 * DAY).month != day.month
    ),
    "FREQ=MONTHLY;BYMONTHDAY=-1": lambda day, _first: (day + DAY).day == 1,
    "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29": lambda day, _first: (day.month, day.day) == (2, 29),
}
"""Which days a rule chooses, given the day and the first one."""


def _monday(day: date) -> date:
    return day - day.weekday() * DAY


@dataclass(frozen=True)
class Clock:
    """What a clock in one zone shows at every step between two instants."""

    zone: str
    begin: datetime
    end: datetime
    step: timedelta

    def readings(self) -> dict[date, list[Interval]]:
        """Return pairs of instant and reading, by the day that the clock shows."""
        found: dict[date, list[Interval]] = {}
        moment = self.begin
        while moment < self.end:
            reading = moment.astimezone(ZoneInfo(self.zone)).replace(tzinfo=None)
            found.setdefault(reading.date(), []).append((moment, reading))
            moment += self.step
        return found

    def occurrences(self, watched: Window) -> list[Interval]:
        """Return when a window applies, as far as this clock was watched."""
        if isinstance(watched.schedule, OneOff):
            return [(watched.schedule.starts_at, watched.schedule.ends_at)]
        readings = self.readings()
        found = []
        day = min(readings)
        while day <= max(readings):
            local = _begins(watched.schedule, day)
            if local is not None and day not in watched.exceptions:
                ends = local + watched.schedule.lasts
                seen = list(_seen(readings, local, ends))
                # A clock that never shows the end has jumped over it.
                end = seen[-1][0] + (seen[-1][1] < ends) * self.step if seen else None
                if end is not None and seen[0][0] < end:
                    found.append((seen[0][0], end))
            day += DAY
        return found


def _begins(schedule: Weekly | Recurring, day: date) -> datetime | None:
    if isinstance(schedule, Weekly):
        chosen = day.weekday() in schedule.days
        return datetime.combine(day, schedule.starts) if chosen else None
    first = schedule.starts.date()
    chosen = day >= first and CHOOSES[schedule.rule](day, first)
    return datetime.combine(day, schedule.starts.time()) if chosen else None


def _seen(
    readings: dict[date, list[Interval]], start: datetime, end: datetime
) -> Iterator[Interval]:
    """Yield what the clock reads from start to end, both included, in the order of time."""
    days = range((end.date() - start.date()).days + 1)
    shown = [one for day in days for one in readings.get(start.date() + day * DAY, ())]
    yield from sorted(one for one in shown if start <= one[1] <= end)


def is_open(applying: Iterable[tuple[Window, list[Interval]]], moment: datetime) -> bool:
    """Say whether windows with their occurrences let something start."""
    demanded = opened = False
    for one, occurrences in applying:
        applies = any(start <= moment < end for start, end in occurrences)
        if one.kind is WindowKind.DENY and applies:
            return False
        if one.kind is WindowKind.ALLOW:
            demanded, opened = True, opened or applies
    return opened or not demanded
