"""What happens too often to be told one by one: the first of a kind at once, then a count a minute.

Nothing is dropped: the counts of all reports, with what is still held back, add up to what was
noted. Memory is bounded: beyond `most` kinds at a time, further ones are counted as one.

Nothing here waits or reads a clock; whoever uses it says what time it is.
"""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

WINDOW = timedelta(minutes=1)
MOST_KINDS = 256


@dataclass(frozen=True, slots=True)
class Report(Generic[K, V]):
    """That something happened `count` times between two moments; `sample` is the first of them.

    `key` is None for the kinds that came when there were too many to tell apart.
    """

    key: K | None
    sample: V
    count: int
    first_at: datetime
    last_at: datetime


@dataclass(slots=True)
class _Kind(Generic[K, V]):
    """One kind: what is to be reported of it, if anything, and from when on."""

    held: Report[K, V] | None
    due_at: datetime


class Floods(Generic[K, V]):
    """Counts things by their kind, and says when which of them are to be reported."""

    def __init__(self, *, window: timedelta = WINDOW, most: int = MOST_KINDS) -> None:
        """Take how far apart two reports of one kind are, and how many kinds are told apart."""
        self._window = window
        self._most = most
        self._kinds: dict[K | None, _Kind[K, V]] = {}

    def __len__(self) -> int:
        """Return how many kinds are remembered: at most `most`, and one for all others."""
        return len(self._kinds)

    def note(self, key: K, sample: V, now: datetime) -> bool:
        """Count one more of a kind; a kind that is new is due at once.

        Returns whether `due_at` may have changed by it: at most once a kind and window.
        """
        known: K | None = key
        if key not in self._kinds and self._told_apart() >= self._most:
            self._forget_quiet(now)
            if self._told_apart() >= self._most:
                known = None
        kind = self._kinds.get(known)
        is_news = kind is None or kind.held is None
        self._hold(Report(known, sample, 1, now, now), due_at=now)
        return is_news

    def due_at(self) -> datetime | None:
        """Return when the next report is due, None when nothing is held back."""
        return min((kind.due_at for kind in self._kinds.values() if kind.held), default=None)

    def take(self, now: datetime) -> list[Report[K, V]]:
        """Return the reports that are due, and forget the kinds that have become quiet."""
        self._forget_quiet(now)
        reports = []
        for kind in self._kinds.values():
            if kind.held and self._is_due(kind, now):
                reports.append(kind.held)
                kind.held, kind.due_at = None, now + self._window
        return reports

    def take_all(self) -> list[Report[K, V]]:
        """Return all that is held back, due or not, and forget everything: the end."""
        reports = [kind.held for kind in self._kinds.values() if kind.held]
        self._kinds = {}
        return reports

    def _is_due(self, kind: _Kind[K, V], now: datetime) -> bool:
        """Tell whether the window is over; one that cannot be is of a clock that was put back."""
        return not now < kind.due_at <= now + self._window

    def _told_apart(self) -> int:
        return len(self._kinds) - (None in self._kinds)

    def _forget_quiet(self, now: datetime) -> None:
        self._kinds = {
            key: kind
            for key, kind in self._kinds.items()
            if kind.held or not self._is_due(kind, now)
        }

    def _hold(self, report: Report[K, V], due_at: datetime) -> None:
        kind = self._kinds.setdefault(report.key, _Kind(None, due_at))
        if kind.held is None:
            kind.held = report
            return
        earlier, later = sorted((kind.held, report), key=lambda held: held.first_at)
        kind.held = replace(
            earlier,
            count=earlier.count + later.count,
            last_at=max(earlier.last_at, later.last_at),
        )


def pause(floods: Iterable[Floods[Any, Any]], now: datetime) -> float:
    """Return the seconds until something of `floods` is due.

    At most WINDOW, as clocks may be put.
    """
    due = [moment for flood in floods if (moment := flood.due_at())]
    left = min(due) - now if due else WINDOW
    return min(max(left, timedelta()), WINDOW).total_seconds()
