"""Whether a release may go to an environment: what it is, and where it has been before."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from services.deployment.rules.releases import ReleaseStatus


@dataclass(frozen=True, slots=True)
class ReleaseFacts:
    """A release as one environment sees it; `bad_because` is the reason it is marked bad here.

    `published_at` orders releases: versions are free text, so older means published earlier.
    """

    id: UUID
    version: str
    status: ReleaseStatus
    digest: str
    published_at: datetime | None
    bad_because: str | None = None
    irreversible: bool = False
    archived: bool = False


@dataclass(frozen=True, slots=True)
class Predecessor:
    """An earlier environment, and how the newest completion of the same digest stands there.

    `completed` is whether there is one, `rolled_back` whether it was undone since. `live_since` is
    since when the digest has been live there without a break, None if it is not; `lived` is for
    how long it once was, before something else came.
    """

    environment: str
    completed: bool
    rolled_back: bool = False
    live_since: datetime | None = None
    lived: timedelta = timedelta()


@dataclass(frozen=True, slots=True)
class Need:
    """A service that another one depends on, and what of it is live in the same environment.

    `minimum` is the lowest version that will do, empty for any. `live` is the version that is live,
    empty for none; `met` is whether it will do.
    """

    service: str
    minimum: str
    live: str
    met: bool


def release_refusal(
    release: ReleaseFacts, current: ReleaseFacts | None, *, backwards: bool
) -> str | None:
    """Return why this release may not be deployed here, None if it may.

    `current` is the live release; `backwards` allows one that is older (a rollback, or a request
    that says so).
    """
    if release.status is ReleaseStatus.DRAFT:
        return "it is a draft"
    if release.status is ReleaseStatus.ABANDONED:
        return "it is abandoned"
    if release.archived:
        return "it is archived"
    if release.bad_because is not None:
        return f"it is marked bad here ({release.bad_because})"
    if current is not None and not backwards and is_older(release, current):
        return f"it is older than {current.version}, which is live"
    return None


def is_older(release: ReleaseFacts, other: ReleaseFacts) -> bool:
    """Tell whether `release` was published before `other`; never if either moment is unknown."""
    if release.published_at is None or other.published_at is None:
        return False
    return release.published_at < other.published_at


def missing_before(predecessors: Iterable[Predecessor]) -> tuple[str, ...]:
    """Return what the promotion order still asks for, one sentence part per environment."""
    return tuple(
        f"it was rolled back in {place.environment}"
        if place.completed
        else f"it has not completed in {place.environment}"
        for place in predecessors
        if place.rolled_back or not place.completed
    )
