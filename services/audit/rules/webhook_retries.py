"""When an event is sent again, when it is given up, and when a webhook stops by itself."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

FIRST_PAUSE: Final = timedelta(seconds=5)
LONGEST_PAUSE: Final = timedelta(hours=1)
# Doubling more often than this is longer than the longest pause anyhow.
_DOUBLINGS: Final = 20
GONE: Final = 410


@dataclass(frozen=True, slots=True)
class Patience:
    """For how long one event is tried, and for how long a receiver may take nothing at all."""

    give_up_after: timedelta
    pause_after: timedelta


def pause_before(attempt: int, luck: float) -> timedelta:
    """Return how long to wait after the attempt of this number, counted from 1.

    The pause doubles up to an hour; `luck`, from 0 to 1, shortens it by up to a half, so that
    receivers that failed together are not asked again together.
    """
    whole = min(FIRST_PAUSE * (1 << min(attempt - 1, _DOUBLINGS)), LONGEST_PAUSE)
    return whole * (1 - luck / 2)


def is_given_up(patience: Patience, first_attempt: datetime, next_attempt: datetime) -> bool:
    """Tell whether the next attempt would be too late, so that there is none."""
    return next_attempt - first_attempt > patience.give_up_after


def is_lost(patience: Patience, failing_since: datetime, now: datetime) -> bool:
    """Tell whether a receiver has taken nothing for so long that nothing more is sent to it."""
    return now - failing_since >= patience.pause_after
