"""Freeze windows between their rows and the rules: the schedule as JSON, and what it is about."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final
from uuid import UUID

from services.deployment.rules.freeze_times import OneOff, Recurring, Schedule, Weekly
from services.deployment.rules.freezes import Window, WindowKind
from services.deployment.rules.policy import EnvironmentType
from services.deployment.store.freezes import FreezeRow, Subjects

SELECTORS: Final = ("services", "teams", "environments", "exempt_services")
_DAYS: Final = (
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
    "sunday",
)


def window_of(row: FreezeRow) -> Window:
    """Return a window as the rules see it."""
    return Window(
        id=row.id,
        name=row.name,
        kind=WindowKind(row.kind),
        reason=row.reason,
        time_zone=row.time_zone,
        schedule=schedule_of(row.schedule),
        environment_types=frozenset(map(EnvironmentType, row.environment_types)),
        rollbacks=row.includes_rollbacks,
        exceptions=frozenset(row.exception_dates),
        archived=row.archived_at is not None,
        services=_ids(row, "services"),
        teams=_ids(row, "teams"),
        environments=_ids(row, "environments"),
        exempt_services=_ids(row, "exempt_services"),
    )


def columns_of(window: Window) -> dict[str, Any]:
    """Return the columns of a window, but for its version and whether it is archived."""
    return {
        "name": window.name,
        "kind": window.kind,
        "reason": window.reason,
        "time_zone": window.time_zone,
        "schedule": stored_schedule(window.schedule),
        "environment_types": [one for one in EnvironmentType if one in window.environment_types],
        "includes_rollbacks": window.rollbacks,
        "exception_dates": sorted(window.exceptions),
    }


def subjects_of(window: Window) -> Subjects:
    """Return what a window is about."""
    return Subjects(window.services, window.teams, window.environments, window.exempt_services)


def content_of(row: FreezeRow) -> dict[str, Any]:
    """Return what audit entries tell of a window: everything but its id, version and times."""
    return {
        "name": row.name,
        "kind": row.kind,
        "reason": row.reason,
        "time_zone": row.time_zone,
        "schedule": row.schedule,
        **{field: names(row, field) for field in SELECTORS},
        "environment_types": row.environment_types,
        "includes_rollbacks": row.includes_rollbacks,
        "exception_dates": [day.isoformat() for day in row.exception_dates],
        "archived_at": row.archived_at,
    }


def names(row: FreezeRow, field: str) -> list[str]:
    """Return the names of what one of the lists of a window has, in their order."""
    return [one["name"] for one in row.subjects if one["field"] == field]


def _ids(row: FreezeRow, field: str) -> frozenset[UUID]:
    return frozenset(UUID(one["id"]) for one in row.subjects if one["field"] == field)


def stored_schedule(schedule: Schedule) -> dict[str, Any]:
    """Return a schedule as it is stored."""
    match schedule:
        case OneOff():
            opens, closes = schedule.starts_at.astimezone(UTC), schedule.ends_at.astimezone(UTC)
            return {"once": {"opens_at": opens.isoformat(), "closes_at": closes.isoformat()}}
        case Weekly():
            opens_at = datetime.combine(date.min, schedule.starts)
            closes_at = (opens_at + schedule.lasts).time()
            return {
                "weekly": {
                    "days": [_DAYS[day] for day in sorted(schedule.days)],
                    "opens_at": schedule.starts.isoformat("minutes"),
                    "closes_at": closes_at.isoformat("minutes"),
                }
            }
        case Recurring():
            seconds = schedule.lasts.total_seconds()
            return {
                "recurring": {
                    "rule": schedule.rule,
                    "first_opens_at": schedule.starts.isoformat(timespec="minutes"),
                    "open_for_seconds": int(seconds) if seconds.is_integer() else seconds,
                }
            }


def schedule_of(stored: Mapping[str, Any]) -> Schedule:
    """Return a schedule that is stored."""
    ((form, given),) = stored.items()
    match form:
        case "once":
            opens, closes = map(datetime.fromisoformat, (given["opens_at"], given["closes_at"]))
            return OneOff(opens, closes)
        case "weekly":
            days = frozenset(_DAYS.index(day) for day in given["days"])
            opens_at, closes_at = map(time.fromisoformat, (given["opens_at"], given["closes_at"]))
            return Weekly(days, opens_at, closes_at)
        case _:
            starts = datetime.fromisoformat(given["first_opens_at"])
            return Recurring(given["rule"], starts, timedelta(seconds=given["open_for_seconds"]))
