"""What happened to one service in one environment, as the rules read it.

A history is every deployment of the pair, in any order. Positions, not clocks, say what came
after what: `touched_seq` and `completed_seq` rise in the transactions that touch and complete.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from services.deployment.rules.lifecycle import (
    HOLDS_SLOT,
    OPEN,
    DeploymentKind,
    DeploymentStatus,
    FailureClass,
)
from shared.errors import DeploymentExists


class Deployed(NamedTuple):
    """One deployment of the pair, a tuple because a board has thousands of them.

    `completed_seq` stays when a completed deployment is rolled back. `touched_seq` is any number
    that rises in the order in which deployments reached the environment (one slot makes that an
    order), None if this one never did. `strict_omitted`: see `stages.strict_omitted`.
    """

    id: UUID
    release_id: UUID
    version: str
    kind: DeploymentKind
    status: DeploymentStatus
    created_at: datetime
    touched_seq: int | None = None
    completed_seq: int | None = None
    completed_at: datetime | None = None
    failure_class: FailureClass | None = None
    rollback_of: UUID | None = None
    strict_omitted: bool = False
    started_at: datetime | None = None

    @property
    def ever_completed(self) -> bool:
        """Whether it completed, even if it was rolled back since."""
        return self.completed_seq is not None


def completions(history: Iterable[Deployed]) -> list[Deployed]:
    """Return what ever completed, newest first."""
    done = [entry for entry in history if entry.completed_seq is not None]
    return sorted(done, key=lambda entry: entry.completed_seq or 0, reverse=True)


def live(history: Iterable[Deployed]) -> Deployed | None:
    """Return the newest completed deployment that was not rolled back."""
    done = [entry for entry in history if entry.status is DeploymentStatus.COMPLETED]
    return max(done, key=lambda entry: entry.completed_seq or 0, default=None)


def latest_touched(history: Iterable[Deployed]) -> Deployed | None:
    """Return the deployment that reached the environment last, however it ended."""
    reached = (entry for entry in history if entry.touched_seq is not None)
    return max(reached, key=lambda entry: entry.touched_seq or 0, default=None)


def slot_holder(history: Iterable[Deployed]) -> Deployed | None:
    """Return the deployment that occupies the pair."""
    return next((entry for entry in history if entry.status in HOLDS_SLOT), None)


def open_rollback(history: Iterable[Deployed]) -> Deployed | None:
    """Return the rollback that waits or runs."""
    rollbacks = (entry for entry in history if entry.kind is DeploymentKind.ROLLBACK)
    return next((entry for entry in rollbacks if entry.status in OPEN), None)


def refuse_duplicate(history: Sequence[Deployed], release_id: UUID, *, environment: str) -> None:
    """Raise DeploymentExists if the same release already waits or runs here."""
    for entry in history:
        if entry.release_id == release_id and entry.status in OPEN:
            raise DeploymentExists(
                release=entry.version,
                status=entry.status,
                environment=environment,
                deployment=entry.id,
            )
