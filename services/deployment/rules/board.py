"""What the board says about one service in one environment."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from services.deployment.rules.history import (
    Deployed,
    latest_touched,
    live,
    open_rollback,
    slot_holder,
)
from services.deployment.rules.lifecycle import FINAL, DeploymentKind, DeploymentStatus


class Health(StrEnum):
    """How the pair is; of several that are true, the first stands."""

    ROLLING_BACK = "rolling_back"
    DEGRADED = "degraded"
    DEPLOYING = "deploying"
    HEALTHY = "healthy"
    NOTHING_DEPLOYED = "nothing_deployed"


@dataclass(frozen=True, slots=True)
class PairState:
    """One cell of the board.

    `live` is the newest completed deployment; `probable` is the one whose release probably runs,
    which differs while a rollback is under way or after a failure. `target` is the rollback that
    is under way or did not succeed. `waiting` is every other pending deployment, oldest first.
    """

    health: Health
    live: Deployed | None
    probable: Deployed | None
    running: Deployed | None
    target: Deployed | None
    waiting: tuple[Deployed, ...]
    last_failure: Deployed | None


def pair_state(history: Sequence[Deployed]) -> PairState:
    """Return what the board shows for the pair that `history` tells about."""
    current, broken = live(history), _broken(history)
    rollback, running = open_rollback(history), slot_holder(history)
    if rollback is None and broken is not None and broken.kind is DeploymentKind.ROLLBACK:
        target: Deployed | None = broken
    else:
        target = rollback
    pending = [entry for entry in history if entry.status is DeploymentStatus.PENDING]
    failures = [entry for entry in history if entry.status is DeploymentStatus.FAILED]
    return PairState(
        health=_health(current, rollback, broken, running),
        live=current,
        probable=_undone(history, target) or broken or current,
        running=running,
        target=target,
        waiting=tuple(sorted(pending, key=lambda entry: (entry.created_at, entry.id))),
        last_failure=max(failures, key=lambda entry: (entry.created_at, entry.id), default=None),
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


def _broken(history: Sequence[Deployed]) -> Deployed | None:
    """Return the last deployment that reached the environment and ended badly since a completion.

    What runs meanwhile does not mend the pair; only the next completion does.
    """
    ended = [entry for entry in history if entry.status in FINAL]
    latest = latest_touched(ended)
    return None if latest is None or latest.ever_completed else latest


def _undone(history: Sequence[Deployed], target: Deployed | None) -> Deployed | None:
    if target is None:
        return None
    return next((entry for entry in history if entry.id == target.rollback_of), None)
