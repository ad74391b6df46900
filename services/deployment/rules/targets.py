"""What a rollback goes back to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NoReturn
from uuid import UUID

from services.deployment.rules.candidates import (
    UNFIT,
    Candidate,
    Verdict,
    exclude,
    judge,
    sentence,
)
from services.deployment.rules.history import Deployed, completions, live
from services.deployment.rules.lifecycle import DeploymentKind
from services.deployment.rules.policy import Policy
from services.deployment.rules.promotion import ReleaseFacts
from shared.domain_error import GateViolation
from shared.errors import (
    GateUnsatisfied,
    NoStableRelease,
    NotPermitted,
    RollbackBlocked,
    TargetNeverDeployed,
)
from shared.identity.actor import Role


@dataclass(frozen=True, slots=True)
class Place:
    """The pair a rollback is about, with all it knows: deployments and their releases."""

    service: str
    environment: str
    history: tuple[Deployed, ...]
    releases: Mapping[UUID, ReleaseFacts]
    policy: Policy


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked: undo `subject`, going to `target_release` if one is named.

    `preempt` cancels whatever holds the slot; `holder_claimed` says that an executor must confirm
    that. `cross_irreversible` is an override, which is recorded. `role` is the caller's.
    """

    subject: UUID
    role: Role
    target_release: UUID | None = None
    preempt: bool = False
    holder_claimed: bool = False
    cross_irreversible: bool = False


@dataclass(frozen=True, slots=True)
class Choice:
    """The completion to go back to, whether it is less than stable, and why no other."""

    target: Deployed
    unproven: bool
    passed_over: tuple[Candidate, ...]


def choose(place: Place, wish: Wish, subject: Deployed, now: datetime, *, retried: bool) -> Choice:
    """Choose what replaces `subject`; `retried` says that it is an unsuccessful rollback.

    An attempt that did not complete gives way to what was live, a retried rollback to its own
    target, both even if not stable. If that one may not be used (bad, abandoned, or live only
    because a later deployment of it was rolled back), and for a subject that did complete, it is
    the newest stable completion before it of another release.
    Raises TargetNeverDeployed, NotPermitted or GateUnsatisfied for a named target, else
    NoStableRelease.
    """
    done = completions(place.history)
    verdicts = judge(done, place.releases, place.policy, now)
    if wish.target_release is not None:
        named = _named(place, wish, subject, done, verdicts)
        return _choice(named, done, verdicts, Verdict.NOT_NAMED)
    first = _before(place, subject, done, retried=retried)
    # What somebody undid is not brought back silently, even when its bad mark has been cleared.
    if first is not None and verdicts[first.id] not in {*UNFIT, Verdict.ROLLED_BACK_SINCE}:
        return _choice(first, done, verdicts, Verdict.OLDER)
    leaving = {subject.release_id, *_undone_release(place, subject)}
    start = subject if first is None else first
    narrowed = exclude(done, verdicts, leaving=leaving, below=start.completed_seq)
    for entry in done:
        if narrowed[entry.id] is None:
            return _choice(entry, done, narrowed, Verdict.OLDER)
    raise NoStableRelease(
        service=place.service,
        environment=place.environment,
        candidates=sentence(_candidates(done, narrowed, Verdict.OLDER)),
    )


def crossed(place: Place, wish: Wish, target: Deployed) -> tuple[str, ...]:
    """Return the irreversible releases that reached the environment since `target`, the last first.

    One that failed on its way counts too: its migration may have run. Raises RollbackBlocked
    unless it is wished to cross them, and NotPermitted for whoever may not wish that.
    """
    since = (
        place.releases[entry.release_id]
        for entry in sorted(place.history, key=lambda entry: entry.touched_seq or 0, reverse=True)
        if (entry.touched_seq or 0) > (target.touched_seq or 0)
        and entry.release_id != target.release_id
    )
    found = tuple(dict.fromkeys(release.version for release in since if release.irreversible))
    if found and not wish.cross_irreversible:
        raise RollbackBlocked(release=found[0])
    if found and wish.role < Role.LEAD:
        raise NotPermitted(
            action=f"go back from {found[0]}, which is irreversible",
            because="that needs a lead or an admin, who calls with cross_irreversible and a reason",
        )
    return found


def _before(
    place: Place, subject: Deployed, done: Sequence[Deployed], *, retried: bool
) -> Deployed | None:
    """Return what ran, or was to run, before an attempt that did not complete."""
    if subject.ever_completed:
        return None
    if retried:
        return next((entry for entry in done if entry.release_id == subject.release_id), None)
    return live(place.history)


def _undone_release(place: Place, subject: Deployed) -> tuple[UUID, ...]:
    """Return the release that an unsuccessful rollback was leaving."""
    if subject.kind is not DeploymentKind.ROLLBACK or subject.ever_completed:
        return ()
    return tuple(entry.release_id for entry in place.history if entry.id == subject.rollback_of)


def _named(
    place: Place,
    wish: Wish,
    subject: Deployed,
    done: Sequence[Deployed],
    verdicts: Mapping[UUID, Verdict | None],
) -> Deployed:
    release = wish.target_release
    chosen = next((entry for entry in done if entry.release_id == release), None)
    if chosen is None:
        known = place.releases.get(release) if release is not None else None
        raise TargetNeverDeployed(
            release=known.version if known is not None else release, environment=place.environment
        )
    if wish.role < place.policy.explicit_target_role:
        raise NotPermitted(
            action="name the release to go back to",
            because=f"that needs the role {place.policy.explicit_target_role.stored} or higher",
        )
    verdict = verdicts[chosen.id]
    if verdict is not None and verdict in UNFIT:
        _refuse_named(chosen, verdict)
    if chosen.release_id == subject.release_id and not _restores(place, subject):
        _refuse_named(chosen, Verdict.SAME_RELEASE)
    return chosen


def _restores(place: Place, subject: Deployed) -> bool:
    """Tell whether the subject's own release can be what a rollback of it goes back to.

    True of an unsuccessful rollback, and of a broken attempt to deploy again what is live.
    """
    if subject.ever_completed:
        return False
    runs = live(place.history)
    redeployed = runs is not None and runs.release_id == subject.release_id
    return redeployed or subject.kind is DeploymentKind.ROLLBACK


def _refuse_named(chosen: Deployed, why: Verdict) -> NoReturn:
    summary = f"release {chosen.version} cannot be the target, because {why}"
    fix = "Name another release, or none to go to the previous stable one."
    violation = GateViolation("release", chosen.version, f"{why}. {fix}")
    raise GateUnsatisfied(summary=summary, gates=(violation,))


def _choice(
    target: Deployed,
    done: Sequence[Deployed],
    verdicts: Mapping[UUID, Verdict | None],
    otherwise: Verdict,
) -> Choice:
    others = [entry for entry in done if entry.id != target.id]
    unproven = verdicts[target.id] is not None
    return Choice(target, unproven, _candidates(others, verdicts, otherwise))


def _candidates(
    done: Sequence[Deployed], verdicts: Mapping[UUID, Verdict | None], otherwise: Verdict
) -> tuple[Candidate, ...]:
    return tuple(
        Candidate(entry.id, entry.release_id, entry.version, verdicts[entry.id] or otherwise)
        for entry in done
    )
