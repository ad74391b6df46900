"""Between the messages of freeze windows and the values of this service."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Any, Final

from release_manager.deployment.v1 import restrictions_pb2 as pb

from services.deployment import messages_enums as enums
from services.deployment.messages_times import duration, timestamp
from services.deployment.operations.freeze_rows import SELECTORS, names
from services.deployment.operations.freezes import FreezesQuery, SeenWindow, Values
from services.deployment.rules.freeze_times import OneOff, Recurring, Schedule, Weekly
from services.deployment.rules.freezes import WindowKind
from services.deployment.rules.policy import EnvironmentType
from shared.db.keyset import PageRequest
from shared.domain_error import FieldViolation
from shared.errors import ValidationFailed
from shared.rpc.masks import changed_fields

_SCHEDULES: Final = ("once", "weekly", "recurring")
_REQUIRED: Final = ("name", "kind", "reason", "time_zone")


@dataclass(frozen=True, slots=True)
class WindowUpdate:
    """What to change of a window: new values by field; `etag` as it was read, or empty."""

    reference: str
    values: Values
    etag: str


def new_window(request: pb.CreateFreezeWindowRequest) -> Values:
    """Return the window that a request makes; raises ValidationFailed for days that are none."""
    fields = ("includes_rollbacks", "environment_types", "exception_dates")
    given = {name: getattr(request, name) for name in (*_REQUIRED, *SELECTORS, *fields)}
    return _values({**given, "schedule": _chosen(request)})


def window_update(request: pb.UpdateFreezeWindowRequest) -> WindowUpdate:
    """Return what a request changes; raises ValidationFailed for its mask, or for no days."""
    given = changed_fields(request, required=_REQUIRED)
    schedules = [name for name in _SCHEDULES if given.pop(name, None) is not None]
    chosen = request.WhichOneof("schedule")
    if schedules:
        if chosen not in schedules:
            field = "schedule" if len(schedules) == len(_SCHEDULES) else schedules[0]
            raise _wrong(field, "is named by update_mask and must not be empty", "mask")
        given["schedule"] = _chosen(request)
    return WindowUpdate(request.window, _values(given), request.etag)


def windows(request: pb.ListFreezeWindowsRequest, page: PageRequest) -> FreezesQuery:
    """Return which windows a request asks for."""
    return FreezesQuery(
        page, request.service, request.environment, request.open_only, request.show_archived
    )


def window(value: SeenWindow) -> pb.FreezeWindow:
    """Return a window as a message."""
    row = value.row
    return pb.FreezeWindow(
        id=str(row.id),
        name=row.name,
        kind=enums.FREEZE_KIND[row.kind],
        reason=row.reason,
        time_zone=row.time_zone,
        services=names(row, "services"),
        teams=names(row, "teams"),
        environments=names(row, "environments"),
        environment_types=[enums.ENVIRONMENT_TYPE[one] for one in row.environment_types],
        exempt_services=names(row, "exempt_services"),
        includes_rollbacks=row.includes_rollbacks,
        exception_dates=[day.isoformat() for day in row.exception_dates],
        open=value.open,
        closes_at=timestamp(value.closes_at),
        next_opens_at=timestamp(value.next_opens_at),
        etag=str(row.row_version),
        created_at=timestamp(row.created_at),
        updated_at=timestamp(row.updated_at),
        archived_at=timestamp(row.archived_at),
        **_schedule(value.window.schedule),
    )


def created(value: SeenWindow) -> pb.CreateFreezeWindowResponse:
    """Answer CreateFreezeWindow."""
    return pb.CreateFreezeWindowResponse(window=window(value))


def updated(value: SeenWindow) -> pb.UpdateFreezeWindowResponse:
    """Answer UpdateFreezeWindow."""
    return pb.UpdateFreezeWindowResponse(window=window(value))


def archived(value: SeenWindow) -> pb.ArchiveFreezeWindowResponse:
    """Answer ArchiveFreezeWindow."""
    return pb.ArchiveFreezeWindowResponse(window=window(value))


def unarchived(value: SeenWindow) -> pb.UnarchiveFreezeWindowResponse:
    """Answer UnarchiveFreezeWindow."""
    return pb.UnarchiveFreezeWindowResponse(window=window(value))


def _values(given: Mapping[str, Any]) -> Values:
    """Return fields of a request as fields of a window, by their names in the rules."""
    return dict(
        _READERS[name](value) if name in _READERS else (name, value)
        for name, value in given.items()
    )


_READERS: Final[Mapping[str, Callable[[Any], tuple[str, Any]]]] = {
    "kind": lambda value: ("kind", WindowKind(enums.FREEZE_KIND_WORD[value])),
    "environment_types": lambda value: (
        "environment_types",
        frozenset(EnvironmentType(enums.ENVIRONMENT_TYPE_WORD[one]) for one in value),
    ),
    "includes_rollbacks": lambda value: ("rollbacks", value),
    "exception_dates": lambda value: (
        "exceptions",
        frozenset(_day(f"exception_dates[{n}]", one) for n, one in enumerate(value)),
    ),
    **{
        field: lambda value, field=field: (field, tuple(value))  # type: ignore[misc]
        for field in SELECTORS
    },
}


def _chosen(
    request: pb.CreateFreezeWindowRequest | pb.UpdateFreezeWindowRequest,
) -> Schedule:
    """Return the schedule that a request has."""
    match request.WhichOneof("schedule"):
        case "once":
            once = request.once
            return OneOff(once.opens_at.ToDatetime(UTC), once.closes_at.ToDatetime(UTC))
        case "weekly":
            weekly = request.weekly
            days = frozenset(day - 1 for day in weekly.days)  # Monday is 0 in the rules
            opens, closes = map(time.fromisoformat, (weekly.opens_at, weekly.closes_at))
            return Weekly(days, opens, closes)
        case _:
            given = request.recurring
            starts = _local("recurring.first_opens_at", given.first_opens_at)
            return Recurring(given.rule, starts, given.open_for.ToTimedelta())


def _schedule(value: Schedule) -> dict[str, Any]:
    """Return a schedule as the field of a message that has it."""
    match value:
        case OneOff():
            opens, closes = timestamp(value.starts_at), timestamp(value.ends_at)
            return {"once": pb.OnceSchedule(opens_at=opens, closes_at=closes)}
        case Weekly():
            begin = datetime.combine(date.min, value.starts)
            weekly = pb.WeeklySchedule(
                days=[day + 1 for day in sorted(value.days)],  # type: ignore[misc]
                opens_at=value.starts.isoformat("minutes"),
                closes_at=(begin + value.lasts).time().isoformat("minutes"),
            )
            return {"weekly": weekly}
        case Recurring():
            recurring = pb.RecurringSchedule(
                rule=value.rule,
                first_opens_at=value.starts.isoformat(timespec="minutes"),
                open_for=duration(value.lasts),
            )
            return {"recurring": recurring}


def _day(field: str, text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise _wrong(field, f"{text} is no day of the calendar", "freeze.day") from None


def _local(field: str, text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise _wrong(field, f"{text} is no time of the calendar", "freeze.day") from None


def _wrong(field: str, why: str, rule: str) -> ValidationFailed:
    violation = FieldViolation(field, why, rule)
    return ValidationFailed(count=1, first=f"{field}: {why}", fields=(violation,))
