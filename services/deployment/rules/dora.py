"""The four figures of DORA, from deployments and what became of them; docs/dora.md defines them.

Every figure divides the same deployments, those that ended in the interval and those that are
open, into what it counts and what it leaves out, and each of them is in exactly one place.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from math import ceil
from typing import Final, NamedTuple
from uuid import UUID

from services.deployment.rules.lifecycle import (
    OPEN,
    DeploymentKind,
    DeploymentStatus,
    FailureClass,
)

DAY: Final = timedelta(days=1)
LONGEST: Final = timedelta(days=366)
_NO_TIME: Final = timedelta(0)
_OPEN: Final = frozenset(map(str, OPEN))


class Excluded(StrEnum):
    """Why a deployment is not in a figure."""

    ROLLBACK = "rollback"
    REDEPLOY = "redeploy"
    OPEN = "open"
    NEVER_TOUCHED = "never_touched"
    NOT_COMPLETED = "not_completed"
    ERRORED = "errored"
    NOTHING_NEW = "nothing_new"
    UNRESTORED = "unrestored"


class Failure(StrEnum):
    """What makes a deployment a failed change."""

    FAILED = "failed"
    ROLLED_BACK = "rolled_back"
    MARKED_BAD = "marked_bad"


class Interval(NamedTuple):
    """From `start` on, until just before `end`."""

    start: datetime
    end: datetime

    @property
    def length(self) -> timedelta:
        """How long it is."""
        return self.end - self.start

    @property
    def days(self) -> int:
        """How many days of UTC it lies in."""
        last = self.end.astimezone(UTC) - timedelta(microseconds=1)
        return (last.date() - self.start.astimezone(UTC).date()).days + 1


class Delivery(NamedTuple):
    """A deployment as the figures see it; `ended_at` is None while it is open."""

    id: UUID
    service_id: UUID
    environment_id: UUID
    release_id: UUID
    service: str
    version: str
    environment: str
    kind: str
    status: str
    touched_at: datetime | None
    ended_at: datetime | None
    completed_seq: int | None
    failure_class: str | None
    rolled_back_by: UUID | None

    @property
    def release(self) -> str:
        """Service and version, as people write them."""
        return f"{self.service}@{self.version}"


class Candidate(NamedTuple):
    """A published release that a deployment of the pair may have brought there first.

    `first_seq` is the number of its own first completion there, None if there is none.
    """

    service_id: UUID
    environment_id: UUID
    name: str
    version_key: str
    published_at: datetime
    commit_time: datetime | None
    created_at: datetime
    first_seq: int | None

    @property
    def committed_at(self) -> datetime:
        """The time of its commit, or of its creation when nobody told."""
        return self.commit_time or self.created_at


class Brought(NamedTuple):
    """What a completion brought there first: how many releases, and the one that waited longest."""

    earliest: Candidate
    releases: int


class Restored(NamedTuple):
    """The completion that ended a failure."""

    by: UUID
    at: datetime


@dataclass(frozen=True, slots=True)
class Counted:
    """A deployment in a figure, what was measured of it, and what lies behind that."""

    delivery: Delivery
    duration: timedelta | None = None
    brought: Brought | None = None
    failures: tuple[Failure, ...] = ()
    marks: tuple[UUID, ...] = ()
    restored: Restored | None = None


@dataclass(frozen=True, slots=True)
class Figure:
    """What was counted, in the order in which it is shown, and what was left out, latest first."""

    counted: tuple[Counted, ...]
    excluded: Mapping[Excluded, tuple[Delivery, ...]]

    @property
    def durations(self) -> list[timedelta]:
        """What was measured, the shortest first."""
        return sorted(one.duration for one in self.counted if one.duration is not None)

    @property
    def failed(self) -> tuple[Counted, ...]:
        """The counted ones that failed."""
        return tuple(one for one in self.counted if one.failures)

    @property
    def days(self) -> int:
        """How many days of UTC have one that was counted."""
        ends = (one.delivery.ended_at for one in self.counted)
        return len({end.astimezone(UTC).date() for end in ends if end is not None})


def nearest_rank(ascending: Sequence[timedelta], hundredths: int) -> timedelta | None:
    """Return the smallest of the values that so many hundredths of them do not exceed.

    It is one of the values, so that the deployment behind it can be shown; None without any.
    """
    if not ascending:
        return None
    return ascending[ceil(len(ascending) * hundredths / 100) - 1]


def rate(part: int, whole: int) -> float | None:
    """Return a part of a whole from 0 to 1; None when there is no whole."""
    return part / whole if whole else None


def per(unit: timedelta, count: int, over: timedelta, *, seen: bool) -> float | None:
    """Return how many there are in a unit of time; None when nothing at all was seen."""
    return count * (unit / over) if seen else None


def frequency(deliveries: Iterable[Delivery]) -> Figure:
    """Count what completed and is no rollback, also what was rolled back later."""
    counted, excluded = _divide(deliveries, _not_frequent)
    return Figure(tuple(map(Counted, _latest(counted))), excluded)


def lead_time(frequent: Figure, brought: Mapping[tuple[UUID, UUID, int], Brought]) -> Figure:
    """Measure the deployments of the frequency that brought something new.

    `brought` tells it by service, environment and number of the completion.
    """
    measured, nothing_new = [], []
    for one in frequent.counted:
        delivery = one.delivery
        key = (delivery.service_id, delivery.environment_id, delivery.completed_seq or 0)
        new = brought.get(key)
        if new is None or delivery.ended_at is None:
            nothing_new.append(delivery)
        else:
            took = max(delivery.ended_at - new.earliest.committed_at, _NO_TIME)
            measured.append(Counted(delivery, took, brought=new))
    measured.sort(key=_longest_first)
    excluded = dict(frequent.excluded)
    if nothing_new:
        excluded[Excluded.NOTHING_NEW] = tuple(nothing_new)
    return Figure(tuple(measured), excluded)


def change_failures(
    deliveries: Iterable[Delivery], marks: Mapping[UUID, tuple[UUID, ...]]
) -> Figure:
    """Count the changes that reached the environment, and say which of them failed.

    `marks` are those that hold because of a deployment, by its id.
    """
    counted, excluded = _divide(deliveries, _not_a_change)
    changes = [_change(one, marks.get(one.id, ())) for one in _latest(counted)]
    changes.sort(key=lambda one: not one.failures)  # stable: the latest stay first
    return Figure(tuple(changes), excluded)


def restoring(changes: Figure, restored: Mapping[UUID, Restored]) -> Figure:
    """Measure how long each failed change lasted, by what restored it."""
    failures = []
    for one in changes.failed:
        end = restored.get(one.delivery.id)
        ended_at = one.delivery.ended_at
        took = end.at - ended_at if end is not None and ended_at is not None else None
        failures.append(Counted(one.delivery, took, restored=end))
    failures.sort(key=_longest_first)
    lasting = tuple(one.delivery for one in failures if one.duration is None)
    return Figure(tuple(failures), {Excluded.UNRESTORED: lasting} if lasting else {})


def arrivals(candidates: Iterable[Candidate]) -> dict[tuple[UUID, UUID, int], Brought]:
    """Return what each completion brought first, by service, environment and its number.

    A release comes with its own first completion, or earlier with that of a release which has no
    lower version and was not published before it.
    """
    pairs: dict[tuple[UUID, UUID], list[Candidate]] = defaultdict(list)
    for one in candidates:
        pairs[one.service_id, one.environment_id].append(one)
    return {
        (*pair, seq): brought for pair, some in pairs.items() for seq, brought in _arrivals(some)
    }


def _arrivals(of_pair: list[Candidate]) -> Iterable[tuple[int, Brought]]:
    waiting = sorted(of_pair, key=lambda one: (one.version_key, one.published_at))
    carriers = [(one.first_seq, one) for one in of_pair if one.first_seq is not None]
    for seq, carrier in sorted(carriers, key=lambda pair: pair[0]):
        upto = bisect_right(waiting, carrier.version_key, key=lambda one: one.version_key)
        come = [one for one in waiting[:upto] if one.published_at <= carrier.published_at]
        if come:
            waiting[:upto] = [
                one for one in waiting[:upto] if one.published_at > carrier.published_at
            ]
            earliest = min(come, key=lambda one: (one.committed_at, one.version_key))
            yield seq, Brought(earliest, len(come))


def _change(delivery: Delivery, marks: tuple[UUID, ...]) -> Counted:
    found = {
        Failure.FAILED: delivery.failure_class == FailureClass.FAILED,
        Failure.ROLLED_BACK: delivery.status == DeploymentStatus.ROLLED_BACK,
        Failure.MARKED_BAD: bool(marks),
    }
    failures = tuple(failure for failure, is_so in found.items() if is_so)
    return Counted(delivery, failures=failures, marks=marks)


def _in_no_figure(delivery: Delivery) -> Excluded | None:
    """Return why a deployment is in no figure at all."""
    if delivery.kind == DeploymentKind.ROLLBACK:
        return Excluded.ROLLBACK
    if delivery.status in _OPEN:
        return Excluded.OPEN
    return Excluded.NEVER_TOUCHED if delivery.touched_at is None else None


def _not_frequent(delivery: Delivery) -> Excluded | None:
    uncompleted = Excluded.NOT_COMPLETED if delivery.completed_seq is None else None
    return _in_no_figure(delivery) or uncompleted


def _not_a_change(delivery: Delivery) -> Excluded | None:
    if (reason := _in_no_figure(delivery)) is not None:
        return reason
    if delivery.kind == DeploymentKind.REDEPLOY:
        return Excluded.REDEPLOY
    return Excluded.ERRORED if delivery.failure_class == FailureClass.ERRORED else None


def _divide(
    deliveries: Iterable[Delivery], reason_of: Callable[[Delivery], Excluded | None]
) -> tuple[list[Delivery], dict[Excluded, tuple[Delivery, ...]]]:
    counted: list[Delivery] = []
    excluded: dict[Excluded, list[Delivery]] = defaultdict(list)
    for delivery in deliveries:
        reason = reason_of(delivery)
        (counted if reason is None else excluded[reason]).append(delivery)
    return counted, {
        reason: tuple(_latest(excluded[reason])) for reason in Excluded if reason in excluded
    }


def _latest(deliveries: list[Delivery]) -> list[Delivery]:
    return sorted(
        deliveries, key=lambda one: (one.ended_at or one.touched_at, one.id), reverse=True
    )


def _longest_first(one: Counted) -> tuple[bool, timedelta, UUID]:
    """Sort what lasts before what is over, then the longest first."""
    return one.duration is not None, -(one.duration or _NO_TIME), one.delivery.id
