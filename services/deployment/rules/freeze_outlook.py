"""What freeze windows say now, and when that changes: for whoever plans ahead."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from services.deployment.rules.freezes import (
    Freeze,
    FreezeStatus,
    Window,
    WindowKind,
    next_start,
    occurrence_at,
    standing,
)

AHEAD: Final = timedelta(days=90)
"""How far ahead of now the next freeze is looked for: a quarter, as far as anybody plans."""

_MOST_STEPS: Final = 200


@dataclass(frozen=True, slots=True)
class Outlook:
    """What windows say at a moment, and while none forbids, when one does next.

    `next_by` are the names of those that do then, in the order in which they count.
    """

    freeze: Freeze
    next_at: datetime | None = None
    next_by: tuple[str, ...] = ()


def outlook(windows: tuple[Window, ...], now: datetime) -> Outlook:
    """Return what windows that cover a deployment say of it, and what they will say next."""
    freeze = standing(windows, now)
    if freeze.status is FreezeStatus.FROZEN:
        return Outlook(freeze)
    moment: datetime | None = now
    for _ in range(_MOST_STEPS):
        moment = _next_change(windows, moment or now)
        if moment is None or moment > now + AHEAD:
            break
        holds = standing(windows, moment).by
        if holds:
            return Outlook(freeze, moment, tuple(hold.window.name for hold in holds))
    return Outlook(freeze)


def _next_change(windows: tuple[Window, ...], moment: datetime) -> datetime | None:
    """Return the first moment at which something can begin to forbid; nothing does at `moment`.

    A DENY window does when it starts, ALLOW windows do when the last one that is open ends.
    """
    starts = [
        start
        for window in windows
        if window.kind is WindowKind.DENY and (start := next_start(window, moment)) is not None
    ]
    ends = [
        occurrence.end
        for window in windows
        if window.kind is WindowKind.ALLOW
        and (occurrence := occurrence_at(window, moment)) is not None
    ]
    return min([*starts, *([max(ends)] if ends else [])], default=None)
