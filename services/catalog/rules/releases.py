"""What publishing does to a release: it freezes version, commit, its time and digest, once."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from services.catalog.rules.resources import Release, ReleaseStatus
from shared.domain_error import FieldViolation
from shared.errors import (
    IllegalTransition,
    ReleaseContentDiffers,
    ReleaseIncomplete,
    ValidationFailed,
)

CLOCKS_APART: Final = timedelta(minutes=5)
"""How far the clock of whoever tells the time of a commit may be ahead."""

_SPOKEN: Final = {"commit_sha": "commit"}
_PARTS: Final = ("commit_sha", "commit_time", "artifact_digest", "irreversible")


@dataclass(frozen=True, slots=True)
class Content:
    """What a release is made of. Empty, or None, says nothing about a part."""

    commit_sha: str = ""
    artifact_digest: str = ""
    irreversible: bool | None = None
    commit_time: datetime | None = None


def publish(release: Release, wanted: Content) -> Content | None:
    """Return the content to freeze, or None when the release is published with it already.

    A draft may lack what `wanted` gives, and must not contradict it. Raises ValidationFailed for
    such a contradiction, ReleaseIncomplete for what both lack, ReleaseContentDiffers for a release
    that is published with something else, and IllegalTransition for an abandoned one.
    """
    if release.status == ReleaseStatus.ABANDONED:
        raise IllegalTransition(
            subject=f"Release {release.name}",
            status=release.status,
            action="publish",
            allowed="nothing",
        )
    differing = _differing(release, wanted)
    if release.status != ReleaseStatus.DRAFT:
        if wanted.commit_time and not release.commit_time:
            differing.append("commit_time")  # it was frozen without, and cannot get one
        if differing:
            raise ReleaseContentDiffers(release=release.name, parts=", ".join(differing))
        return None
    return _complete(release, wanted, [name for name in differing if name != "irreversible"])


def _differing(release: Release, wanted: Content) -> list[str]:
    """Name the parts that both say something about, and not the same."""
    pairs = {
        "commit": (release.commit_sha, wanted.commit_sha),
        "artifact_digest": (release.artifact_digest, wanted.artifact_digest),
        "commit_time": (release.commit_time, wanted.commit_time),
    }
    names = [name for name, (has, wants) in pairs.items() if has and wants and has != wants]
    if wanted.irreversible is not None and wanted.irreversible != release.irreversible:
        names.append("irreversible")
    return names


def _complete(release: Release, wanted: Content, contradicted: list[str]) -> Content:
    if contradicted:
        why = f"must equal what the draft {release.name} has; create a release of its own for it"
        raise ValidationFailed(
            count=len(contradicted),
            first=f"{contradicted[0]}: {why}",
            fields=tuple(FieldViolation(name, why) for name in contradicted),
        )
    content = Content(
        release.commit_sha or wanted.commit_sha,
        release.artifact_digest or wanted.artifact_digest,
        release.irreversible if wanted.irreversible is None else wanted.irreversible,
        release.commit_time or wanted.commit_time,
    )
    parts = {"commit": content.commit_sha, "artifact_digest": content.artifact_digest}
    missing = [name for name, value in parts.items() if not value]
    if missing:
        raise ReleaseIncomplete(release=release.name, missing=", ".join(missing))
    return content


def update(release: Release, values: Mapping[str, Any], people: Collection[UUID]) -> Release:
    """Return a release with new values; of a published one only the notes can have others.

    Whoever changes what a draft is made of, as `people` behind the call do, is among its authors.
    The time of a commit goes with it: another commit has none unless it is given too. Raises
    ReleaseContentDiffers.
    """
    changed = replace(release, **values)
    if changed.commit_sha != release.commit_sha and release.commit_sha:
        changed = replace(changed, commit_time=values.get("commit_time"))
    differing = [name for name in _PARTS if getattr(changed, name) != getattr(release, name)]
    if not differing:
        return changed
    if release.status != ReleaseStatus.DRAFT:
        names = ", ".join(_SPOKEN.get(name, name) for name in differing)
        raise ReleaseContentDiffers(release=release.name, parts=names)
    return replace(changed, authors=tuple(sorted({*release.authors, *people})))


def check_commit_time(commit_time: datetime | None, now: datetime) -> None:
    """Return when a commit may have been made then; raises ValidationFailed for the future."""
    if commit_time is not None and commit_time > now + CLOCKS_APART:
        why = "must not be in the future"
        violation = FieldViolation("commit_time", why)
        raise ValidationFailed(count=1, first=f"commit_time {why}", fields=(violation,))


def check_deletable(release: Release) -> None:
    """Return when a release may be deleted: as a draft; raises IllegalTransition."""
    if release.status != ReleaseStatus.DRAFT:
        raise IllegalTransition(
            subject=f"Release {release.name}",
            status=release.status,
            action="delete",
            allowed="to abandon it",
        )


def check_comparable(start: Release, end: Release) -> None:
    """Return when two releases are of one service; raises ValidationFailed."""
    if start.service_id != end.service_id:
        why = f"must be a release of {start.service}, as from_release is"
        violation = FieldViolation("to_release", why)
        raise ValidationFailed(count=1, first=f"to_release: {why}", fields=(violation,))
