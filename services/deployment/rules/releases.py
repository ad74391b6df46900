"""The life of a release, and what it is in one environment.

The stored status is the last thing that happened to the release anywhere. Decisions about an
environment use `state_in`, which is derived from the deployments there. What publishing asks for is
decided where releases are published, in the catalog.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import Final
from uuid import UUID

from services.deployment.rules.history import Deployed, live
from services.deployment.rules.lifecycle import HOLDS_SLOT, DeploymentStatus
from shared.errors import IllegalTransition, ReleaseInUse


class ReleaseStatus(StrEnum):
    """Where a release stands; the values are the stored spelling."""

    DRAFT = "draft"
    PUBLISHED = "published"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"
    ABANDONED = "abandoned"


class ReleaseAction(StrEnum):
    """What can be done to a release."""

    PUBLISH = "publish"
    PROMOTE = "promote"
    ROLL_BACK = "roll_back"
    ABANDON = "abandon"


class ReleaseState(StrEnum):
    """What a release is in one environment; of several that are true, the first stands."""

    BAD = "bad"
    DEPLOYING = "deploying"
    LIVE = "live"
    ROLLED_BACK = "rolled_back"
    PREVIOUS = "previous"
    NEVER = "never"


_S = ReleaseStatus
_A = ReleaseAction

TRANSITIONS: Final[Mapping[tuple[ReleaseStatus, ReleaseAction], ReleaseStatus]] = MappingProxyType(
    {
        (_S.DRAFT, _A.PUBLISH): _S.PUBLISHED,
        (_S.PUBLISHED, _A.PROMOTE): _S.PROMOTED,
        (_S.PROMOTED, _A.PROMOTE): _S.PROMOTED,
        (_S.ROLLED_BACK, _A.PROMOTE): _S.PROMOTED,
        (_S.PUBLISHED, _A.ROLL_BACK): _S.ROLLED_BACK,
        (_S.PROMOTED, _A.ROLL_BACK): _S.ROLLED_BACK,
        (_S.ROLLED_BACK, _A.ROLL_BACK): _S.ROLLED_BACK,
        (_S.DRAFT, _A.ABANDON): _S.ABANDONED,
        (_S.PUBLISHED, _A.ABANDON): _S.ABANDONED,
        (_S.PROMOTED, _A.ABANDON): _S.ABANDONED,
        (_S.ROLLED_BACK, _A.ABANDON): _S.ABANDONED,
    }
)


def allowed_actions(status: ReleaseStatus) -> tuple[ReleaseAction, ...]:
    """Return what may be done to a release in `status`, in the order of `ReleaseAction`."""
    return tuple(action for action in ReleaseAction if (status, action) in TRANSITIONS)


def advance(status: ReleaseStatus, action: ReleaseAction, *, release: str) -> ReleaseStatus:
    """Return the status that `action` leads to; raises IllegalTransition if it is not allowed."""
    allowed = allowed_actions(status)
    if action not in allowed:
        raise IllegalTransition(
            subject=f"Release {release}",
            status=status,
            action=action,
            allowed=", ".join(allowed) or "nothing",
        )
    return TRANSITIONS[status, action]


def abandon(
    status: ReleaseStatus, states: Mapping[str, ReleaseState], *, release: str
) -> ReleaseStatus:
    """Return the status after abandoning; `states` is what the release is in each environment.

    Raises IllegalTransition, or ReleaseInUse while it is live or running somewhere. Pass states
    derived without the bad marks, which would hide that a release is live.
    """
    after = advance(status, ReleaseAction.ABANDON, release=release)
    for environment, state in states.items():
        if state in (ReleaseState.LIVE, ReleaseState.DEPLOYING):
            raise ReleaseInUse(release=release, use=state, environment=environment)
    return after


def state_in(history: Sequence[Deployed], release_id: UUID, *, bad: bool) -> ReleaseState:
    """Return what a release is in the environment that `history` tells about."""
    mine = [entry for entry in history if entry.release_id == release_id]
    current = live(history)
    if bad:
        return ReleaseState.BAD
    if any(entry.status in HOLDS_SLOT for entry in mine):
        return ReleaseState.DEPLOYING
    if current is not None and current.release_id == release_id:
        return ReleaseState.LIVE
    newest = max(mine, key=lambda entry: entry.completed_seq or 0, default=None)
    if newest is None or not any(entry.ever_completed for entry in mine):
        undone = any(entry.status is DeploymentStatus.ROLLED_BACK for entry in mine)
        return ReleaseState.ROLLED_BACK if undone else ReleaseState.NEVER
    undone = newest.status is DeploymentStatus.ROLLED_BACK
    return ReleaseState.ROLLED_BACK if undone else ReleaseState.PREVIOUS
