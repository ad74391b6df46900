"""Which earlier completions a rollback may go back to, and why not to the others."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from services.deployment.rules.history import Deployed
from services.deployment.rules.lifecycle import DeploymentKind, DeploymentStatus
from services.deployment.rules.policy import Policy
from services.deployment.rules.promotion import ReleaseFacts
from services.deployment.rules.releases import ReleaseStatus


class Verdict(StrEnum):
    """Why a completion is passed over, as a part of a sentence."""

    ABANDONED = "the release is abandoned"
    ARCHIVED = "the release is archived"
    BAD = "the release is marked bad here"
    ROLLED_BACK = "it was rolled back"
    ROLLED_BACK_SINCE = "a later deployment of the release was rolled back"
    STRICT_STAGE_OMITTED = "a strict stage was skipped or ignored"
    TOO_SHORT = "it was not live long enough"
    SAME_RELEASE = "it is the release being left"
    NOT_EARLIER = "it did not complete earlier than what is undone"
    OLDER = "a newer one is good"
    NOT_NAMED = "another release was named"


UNFIT: Final = frozenset({Verdict.ABANDONED, Verdict.ARCHIVED, Verdict.BAD})
"""What rules a release out even when it is named, or was live a moment ago."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A completion that is not the target, and the reason."""

    deployment_id: UUID
    release_id: UUID
    version: str
    why: Verdict


def judge(
    done: Sequence[Deployed], releases: Mapping[UUID, ReleaseFacts], policy: Policy, now: datetime
) -> dict[UUID, Verdict | None]:
    """Return why each completion is not stable, None if it is; the worst reason of several.

    `done` are all completions of the pair, newest first. A completion lived until the next one
    completed, the newest until now.
    """
    proven = _first_proven(done)
    verdicts: dict[UUID, Verdict | None] = {}
    undone_later: set[UUID] = set()
    until = now
    for entry in done:
        release, since = releases[entry.release_id], entry.completed_at or until
        undone = entry.status is not DeploymentStatus.COMPLETED
        reasons = (
            (release.status is ReleaseStatus.ABANDONED, Verdict.ABANDONED),
            (release.archived, Verdict.ARCHIVED),
            (release.bad_because is not None, Verdict.BAD),
            (undone, Verdict.ROLLED_BACK),
            (entry.release_id in undone_later, Verdict.ROLLED_BACK_SINCE),
            (not _passed_strict_stages(entry, proven), Verdict.STRICT_STAGE_OMITTED),
            (until - since < policy.stable_after, Verdict.TOO_SHORT),
        )
        verdicts[entry.id] = next((verdict for holds, verdict in reasons if holds), None)
        if undone:
            undone_later.add(entry.release_id)
        until = since
    return verdicts


def exclude(
    done: Sequence[Deployed],
    verdicts: Mapping[UUID, Verdict | None],
    *,
    leaving: Collection[UUID],
    below: int | None,
) -> dict[UUID, Verdict | None]:
    """Add to the verdicts what speaks against a candidate in this rollback.

    `leaving` are the releases that are left, `below` the completion the search starts under; None
    searches everything.
    """
    narrowed = dict(verdicts)
    for entry in done:
        if below is not None and (entry.completed_seq or 0) > below:
            narrowed[entry.id] = verdicts[entry.id] or Verdict.NOT_EARLIER
        elif entry.release_id in leaving:
            narrowed[entry.id] = verdicts[entry.id] or Verdict.SAME_RELEASE
    return narrowed


def sentence(candidates: Sequence[Candidate]) -> str:
    """Say of each candidate why it was passed over, in one line."""
    if not candidates:
        return "Nothing has ever completed there."
    reasons = (f"{candidate.version}: {candidate.why}" for candidate in candidates)
    return f"Passed over: {'; '.join(reasons)}."


def _first_proven(done: Sequence[Deployed]) -> dict[UUID, int]:
    """Return for each release when an ordinary pipeline first passed all strict stages."""
    return {
        entry.release_id: entry.completed_seq or 0
        for entry in done  # newest first, so the oldest stays
        if entry.kind is not DeploymentKind.ROLLBACK and not entry.strict_omitted
    }


def _passed_strict_stages(entry: Deployed, proven: Mapping[UUID, int]) -> bool:
    """Tell whether the strict stages passed for this completion.

    A rollback runs only some of the stages, so for the others it stands on an ordinary completion
    of the same release before it. Otherwise going back to a release would launder what its own
    pipeline left out.
    """
    if entry.strict_omitted or entry.kind is not DeploymentKind.ROLLBACK:
        return not entry.strict_omitted
    first = proven.get(entry.release_id)
    return first is not None and first < (entry.completed_seq or 0)
