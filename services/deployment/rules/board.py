"""What the board says about one service in one environment."""

from collections.abc import Collection
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from services.deployment.rules.history import (
    Deployed,
    latest_touched,
    live,
    open_rollback,
    slot_holder,
)
from services.deployment.rules.lifecycle import OPEN, DeploymentKind, DeploymentStatus


class Health(StrEnum):
    """How the pair is; of several that are true, the first stands."""

    ROLLING_BACK = "rolling_back"
    DEGRADED = "degraded"
    DEPLOYING = "deploying"
    HEALTHY = "healthy"
    NOTHING_DEPLOYED = "nothing_deployed"


class PairState(NamedTuple):
    """One cell of the board.

    `live` is the newest completed deployment; `probable` is the one whose release probably runs,
    which differs while a rollback is under way or after a failure. `target` is the rollback that
    is under way or did not succeed. `waiting` is every other pending deployment, oldest first.
    `last_failure` is what failed last, also when it was rolled back since.
    """

    health: Health
    live: Deployed | None
    probable: Deployed | None
    running: Deployed | None
    target: Deployed | None
    waiting: tuple[Deployed, ...]
    last_failure: Deployed | None

    @property
    def runs(self) -> Deployed | None:
        """What counts as live: as long as a rollback has not replaced it, what it undoes."""
        undone = self.probable
        if self.health is Health.ROLLING_BACK and undone is not None and undone.ever_completed:
            return undone
        return self.live


def pair_state(history: Collection[Deployed]) -> PairState:
    """Return what the board shows for the pair that `history` tells about."""
    on_the_way: list[Deployed] = []
    ended: list[Deployed] = []
    for entry in history:
        (on_the_way if entry.status in OPEN else ended).append(entry)
    current, broken = live(ended), _broken(ended)
    # Nothing is on its way in most pairs of a board.
    rollback = open_rollback(on_the_way) if on_the_way else None
    running = slot_holder(on_the_way) if on_the_way else None
    if rollback is None and broken is not None and broken.kind is DeploymentKind.ROLLBACK:
        target: Deployed | None = broken
    else:
        target = rollback
    pending = [entry for entry in on_the_way if entry.status is DeploymentStatus.PENDING]
    failures = [entry for entry in history if _failed(entry)]
    return PairState(
        health=_health(current, rollback, broken, running),
        live=current,
        probable=_undone(history, target) or broken or current,
        running=running,
        target=target,
        waiting=tuple(sorted(pending, key=lambda entry: (entry.created_at, entry.id))),
        last_failure=max(failures, key=_end, default=None),
    )


def _health(
    current: Deployed | None,
    rollback: Deployed | None,
    broken: Deployed | None,
    running: Deployed | None,
) -> Health:
    if rollback is not None:
        return Health.ROLLING_BACK
    if broken is not None:
        return Health.DEGRADED
    if running is not None:
        return Health.DEPLOYING
    return Health.HEALTHY if current is not None else Health.NOTHING_DEPLOYED


def _broken(ended: Collection[Deployed]) -> Deployed | None:
    """Return the last deployment that reached the environment and ended badly since a completion.

    What runs meanwhile does not mend the pair; only the next completion does.
    """
    latest = latest_touched(ended)
    return None if latest is None or latest.ever_completed else latest


def _failed(entry: Deployed) -> bool:
    return entry.status is DeploymentStatus.FAILED or entry.failure_class is not None


def _end(entry: Deployed) -> tuple[datetime, UUID]:
    return entry.completed_at or entry.created_at, entry.id


def _undone(history: Collection[Deployed], target: Deployed | None) -> Deployed | None:
    if target is None:
        return None
    return next((entry for entry in history if entry.id == target.rollback_of), None)
