"""A history as it was at an earlier moment, from what is stored of it now.

What a deployment was is told by the moments at which it changed, all of which are kept: requested,
started, reached its environment, ended, undone. Two things are not: when it was paused or resumed,
and when somebody asked it to stop. So what held the slot then is said to have been in progress.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from services.deployment.rules.history import Deployed
from services.deployment.rules.lifecycle import DeploymentStatus

_S = DeploymentStatus


@dataclass(frozen=True, slots=True)
class Recorded:
    """A deployment as it is stored now, with when it reached its environment and was undone.

    `undone_at` is when the deployment that undoes it was requested. If that one had to wait until
    this one had stopped, this one was undone when it ended.
    """

    now: Deployed
    touched_at: datetime | None = None
    undone_at: datetime | None = None


def as_it_was(history: Iterable[Recorded], moment: datetime) -> list[Deployed]:
    """Return what there was of a history at a moment; what happens at the moment has happened."""
    found = (_deployed(entry, moment) for entry in history)
    return [entry for entry in found if entry is not None]


def _deployed(entry: Recorded, moment: datetime) -> Deployed | None:
    now = entry.now
    if now.created_at > moment:
        return None
    if _by(now.completed_at, moment):
        status = _final(entry, moment)
        return now if status is now.status else now._replace(status=status)
    started = _by(now.started_at, moment)
    return now._replace(
        status=_S.IN_PROGRESS if started else _S.PENDING,
        started_at=now.started_at if started else None,
        touched_seq=now.touched_seq if _by(entry.touched_at, moment) else None,
        completed_seq=None,
        completed_at=None,
        failure_class=None,
    )


def _final(entry: Recorded, moment: datetime) -> DeploymentStatus:
    """Return how it had ended, which being undone later has painted over."""
    now = entry.now
    if now.status is not _S.ROLLED_BACK or _by(entry.undone_at, moment):
        return now.status
    if now.completed_seq is not None:
        return _S.COMPLETED
    return _S.CANCELLED if now.failure_class is None else _S.FAILED


def _by(happened: datetime | None, moment: datetime) -> bool:
    return happened is not None and happened <= moment
