"""Freeze windows: when nothing may start, for whom, and when it may again.

A DENY window forbids starts while it applies. An ALLOW window forbids them while it does not: if
any cover a deployment, one must be open. DENY beats ALLOW. Rollbacks pass every window that does
not name them, and cancelling is never asked about.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Final
from uuid import UUID

from services.deployment.rules.freeze_times import (
    Occurrence,
    Schedule,
    Timing,
    covering,
    following,
)
from services.deployment.rules.lifecycle import DeploymentKind
from services.deployment.rules.moments import in_minute
from services.deployment.rules.policy import EnvironmentType

HORIZON: Final = timedelta(days=400)
"""How far ahead of now an opening is looked for."""

MOST_STEPS: Final = 1000
"""How many boundaries are stepped over in that search; daily windows that meet need 400."""

_MOST_NAMED: Final = 5


class WindowKind(StrEnum):
    """Whether a window forbids while it applies, or while it does not."""

    DENY = "deny"
    ALLOW = "allow"


class FreezeStatus(StrEnum):
    """Whether a deployment may start as far as freeze windows go."""

    OPEN = "open"
    FROZEN = "frozen"


@dataclass(frozen=True, slots=True)
class Window:
    """A freeze window.

    `services`, `teams`, `environments` and `environment_types` choose what it covers: all that are
    given must fit, any one member of each does, an empty one fits everything. `exempt_services`
    are never covered. `rollbacks` makes it cover rollbacks too.

    It says nothing when it is `archived`. An ALLOW window whose schedule is used up goes on
    demanding to be open. `timing` is when it applies unless it is archived.
    """

    id: UUID
    name: str
    kind: WindowKind
    reason: str
    time_zone: str
    schedule: Schedule
    services: frozenset[UUID] = frozenset()
    teams: frozenset[UUID] = frozenset()
    environments: frozenset[UUID] = frozenset()
    environment_types: frozenset[EnvironmentType] = frozenset()
    exempt_services: frozenset[UUID] = frozenset()
    rollbacks: bool = False
    exceptions: frozenset[date] = frozenset()
    archived: bool = False
    timing: Timing = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Make the timing, which is asked about again and again, once."""
        made = Timing(self.schedule, self.time_zone, self.exceptions)
        object.__setattr__(self, "timing", made)


@dataclass(frozen=True, slots=True)
class Subject:
    """What wants to start: a kind of deployment of a service of a team to an environment."""

    service: UUID
    team: UUID | None
    environment: UUID
    environment_type: EnvironmentType
    kind: DeploymentKind


@dataclass(frozen=True, slots=True)
class Hold:
    """A window that forbids, and until when it does so by itself.

    That is the end of a DENY window's occurrence, and the next opening of an ALLOW window; None if
    it never opens again.
    """

    window: Window
    until: datetime | None


@dataclass(frozen=True, slots=True)
class Freeze:
    """What all windows together say at one moment.

    `covered` is whether any of them covers the subject at all. `by` are the windows that forbid,
    DENY first, then by name. `earliest` is the first moment at which none forbids: now when it is
    open, None when there is none as far as it was looked for.
    """

    status: FreezeStatus
    covered: bool
    by: tuple[Hold, ...]
    earliest: datetime | None
    why: str


def matches(window: Window, subject: Subject) -> bool:
    """Say whether a window covers a subject, at whatever time."""
    if window.archived or (subject.kind is DeploymentKind.ROLLBACK and not window.rollbacks):
        return False
    return concerns_service(window, subject.service, subject.team) and concerns_environment(
        window, subject.environment, subject.environment_type
    )


def concerns_service(window: Window, service: UUID, team: UUID | None) -> bool:
    """Say whether a window chooses a service of a team, wherever it goes."""
    return (
        service not in window.exempt_services
        and (not window.services or service in window.services)
        and (not window.teams or team in window.teams)
    )


def concerns_environment(
    window: Window, environment: UUID, environment_type: EnvironmentType
) -> bool:
    """Say whether a window chooses an environment, whatever goes there."""
    return (not window.environments or environment in window.environments) and (
        not window.environment_types or environment_type in window.environment_types
    )


def occurrence_at(window: Window, moment: datetime) -> Occurrence | None:
    """Return the occurrence that holds a moment."""
    return None if window.archived else covering(window.timing, moment)


def next_start(window: Window, after: datetime) -> datetime | None:
    """Return when the next occurrence starts, later than `after`; None if none within ten years."""
    found = None if window.archived else following(window.timing, after)
    return None if found is None else found.start


def judge(windows: Iterable[Window], subject: Subject, now: datetime) -> Freeze:
    """Say whether a subject may start now, what forbids it, and when it may."""
    return standing(tuple(window for window in windows if matches(window, subject)), now)


def standing(covering_it: tuple[Window, ...], now: datetime) -> Freeze:
    """Say what windows that cover a subject say of it together; none of them is archived."""
    holds, covered = _holds(covering_it, now), bool(covering_it)
    if not holds:
        why = "no freeze is in force" if covered else "no freeze window covers this"
        return Freeze(FreezeStatus.OPEN, covered, (), now, why)
    return Freeze(FreezeStatus.FROZEN, covered, holds, _opening(covering_it, now), _why(holds))


def _opening(windows: tuple[Window, ...], now: datetime) -> datetime | None:
    """Step from boundary to boundary; return the first moment at which none forbids.

    Each step goes to a moment before which nothing can open: past every DENY window that applies,
    else to the first moment at which an ALLOW window opens. Windows that always say the same, such
    as those of several teams about the same holidays, are asked once.
    """
    windows = tuple({(window.kind, window.timing): window for window in windows}.values())
    moment = now
    for _ in range(MOST_STEPS):
        holds = _holds(windows, moment)
        if not holds:
            return moment
        ends = [hold.until for hold in holds if hold.until and hold.window.kind is WindowKind.DENY]
        openings = [hold.until for hold in holds if hold.until is not None]
        following_moment = max(ends) if ends else min(openings, default=None)
        if following_moment is None or following_moment > now + HORIZON:
            return None
        moment = following_moment
    return None


def _holds(windows: tuple[Window, ...], moment: datetime) -> tuple[Hold, ...]:
    """Return the windows that forbid at a moment, DENY first, then by name."""
    denying, closed, is_open = [], [], False
    for window in windows:
        occurrence = occurrence_at(window, moment)
        if window.kind is WindowKind.DENY and occurrence:
            denying.append(Hold(window, occurrence.end))
        elif window.kind is WindowKind.ALLOW and occurrence:
            is_open = True
        elif window.kind is WindowKind.ALLOW:
            closed.append(Hold(window, next_start(window, moment)))
    holds = denying if is_open else [*denying, *closed]
    return tuple(sorted(holds, key=_rank))


def _rank(hold: Hold) -> tuple[bool, str, UUID]:
    return hold.window.kind is WindowKind.ALLOW, hold.window.name, hold.window.id


def _why(holds: tuple[Hold, ...]) -> str:
    said = [_said(hold) for hold in holds[:_MOST_NAMED]]
    more = len(holds) - len(said)
    return "; ".join([*said, f"and {more} more"] if more else said)


def _said(hold: Hold) -> str:
    window = hold.window
    until = in_minute(hold.until) if hold.until else ""
    if window.kind is WindowKind.DENY:
        return f"{window.name} forbids it until {until} ({window.reason})"
    opens = f"until {until}" if until else "and never opens again"
    return f"{window.name} is closed {opens} ({window.reason})"
