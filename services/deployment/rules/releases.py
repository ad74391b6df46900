"""The life of a release: the last thing that happened to it anywhere.

What publishing and abandoning ask for is decided where that is done, in the catalog.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from shared.errors import IllegalTransition


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
