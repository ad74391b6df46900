"""What a rollback does, told a second time and in the plainest way.

A reference for the rules of the product, written from the description of their behaviour and
sharing no code with them. It keeps one list of attempts for one service in one environment, goes
through all of it for every question, and knows neither identifiers nor the database. Statuses,
failure classes and reasons are spelled as the product spells them.

Where the description leaves a choice, this is what an operator would expect:

* Of several refusals, the one that no waiting cures comes first. Whoever names an older attempt
  while a rollback runs hears of that rollback. A taken slot comes before the search for a target,
  which may end differently once the slot is free.
* When what ran before a broken attempt may not be used, the search goes on below it, and never
  reaches a release that is being left.
* A redeploy that fails does not condemn the release that the rollback restores.
* A rollback skips stages by design. It stands on an ordinary completion of its release that did
  not.
* Only the completion that is gone back to proves what lies on the way, so an irreversible release
  counts as crossed if it touched the environment after that one.
"""

from collections.abc import Collection
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

HOLDS_SLOT = ("in-progress", "paused", "cancelling")
OPEN = ("pending", *HOLDS_SLOT)
NOBODY = -1


@dataclass
class Attempt:
    """One deployment; numbered from 0 in the order of creation."""

    number: int
    release: str
    is_rollback: bool = False
    status: str = "pending"
    # "failed" speaks about the release, "errored" about the machinery; only of failed ones.
    failure: str = ""
    # An executor runs it, and must confirm that it has stopped.
    claimed: bool = False
    # Places in the order of touching and of completing, from 1; 0 is not (yet).
    touched: int = 0
    completed: int = 0
    # In minutes.
    completed_at: int = 0
    # A strict stage was skipped or ignored.
    strict_missed: bool = False
    # Numbers of the attempt that is undone, and of the rollback that undid this one.
    rollback_of: int = NOBODY
    rolled_back_by: int = NOBODY


@dataclass(frozen=True)
class Answer:
    """What a request for a rollback gets: a refusal's reason, or a target and what follows."""

    reason: str = ""
    target: int = NOBODY
    rollback_of: int = NOBODY
    # Whether the target would not have been chosen by itself.
    unproven: bool = False
    marks_bad: bool = False
    supersedes: tuple[int, ...] = ()
    # Who is stopped to make room, and what that makes of them; empty if it stops already.
    stops: int = NOBODY
    stopped: str = ""
    # Whether the subject becomes rolled back only when it has stopped.
    subject_waits: bool = False


@dataclass
class Pair:
    """One service in one environment, and what happened to it so far.

    `irreversible` are the releases that were published so; `stable_after` is in minutes.
    """

    irreversible: AbstractSet[str] = frozenset()
    stable_after: int = 0
    now: int = 0
    attempts: list[Attempt] = field(default_factory=list)
    bad: set[str] = field(default_factory=set)
    abandoned: set[str] = field(default_factory=set)

    # What happens. Each of these is only called when the product would allow it.

    def deploy(self, release: str) -> Attempt:
        """Ask for a deployment: a first one, the same again, or an older one on purpose."""
        attempt = Attempt(len(self.attempts), release)
        self.attempts.append(attempt)
        return attempt

    def touch(self, attempt: Attempt) -> None:
        """Begin the stage `deploy`."""
        if not attempt.touched:
            attempt.touched = 1 + max(each.touched for each in self.attempts)

    def complete(self, attempt: Attempt) -> None:
        """End well: from now on this is what runs."""
        self.touch(attempt)
        attempt.status = "completed"
        attempt.completed = 1 + max(each.completed for each in self.attempts)
        attempt.completed_at = self.now

    def cancel(self, attempt: Attempt) -> None:
        """End without a result; whoever was undone while it stopped is rolled back now."""
        undone = attempt.rolled_back_by != NOBODY
        attempt.status = "rolled_back" if undone else "cancelled"

    def start_rollback(self, subject: Attempt, answer: Answer) -> Attempt:
        """Carry out what `rollback` has answered; the new attempt waits for its start."""
        if answer.marks_bad:
            self.bad.add(subject.release)
        for number in answer.supersedes:
            self.attempts[number].status = "superseded"
        if answer.stopped:
            self.attempts[answer.stops].status = answer.stopped
        if not answer.subject_waits:
            subject.status = "rolled_back"
        target = self.attempts[answer.target].release
        new = self.deploy(target)
        new.is_rollback, new.rollback_of = True, answer.rollback_of
        subject.rolled_back_by = new.number
        self.touch(new)
        return new

    # What is asked.

    def live(self) -> Attempt | None:
        """Return the newest completed attempt."""
        completed = [each for each in self.attempts if each.status == "completed"]
        return max(completed, key=lambda each: each.completed, default=None)

    def subject(self) -> Attempt | None:
        """Return the latest attempt that touched the environment."""
        touched = [each for each in self.attempts if each.touched]
        return max(touched, key=lambda each: each.touched, default=None)

    def holder(self) -> Attempt | None:
        """Return the attempt that holds the slot."""
        return next((each for each in self.attempts if each.status in HOLDS_SLOT), None)

    def open_rollback(self) -> Attempt | None:
        """Return the rollback that waits or runs."""
        rollbacks = [each for each in self.attempts if each.is_rollback and each.status in OPEN]
        return rollbacks[0] if rollbacks else None

    def health(self) -> str:
        """Return how the pair is."""
        last = max((each.touched for each in self.attempts if each.completed), default=0)
        broken = any(each.touched > last and each.status not in OPEN for each in self.attempts)
        if self.open_rollback() is not None:
            return "rolling_back"
        if broken:
            return "degraded"
        if self.holder() is not None:
            return "deploying"
        return "nothing_deployed" if self.live() is None else "healthy"

    def completions(self, release: str = "") -> list[Attempt]:
        """Return what ever completed, of one release or of all, newest first."""
        done = [e for e in self.attempts if e.completed and release in ("", e.release)]
        return sorted(done, key=lambda each: each.completed, reverse=True)

    def rolled_back_since(self, attempt: Attempt) -> bool:
        """Tell whether a later completion of the same release was undone."""
        return any(
            later.completed > attempt.completed and later.status == "rolled_back"
            for later in self.completions(attempt.release)
        )

    def lived(self, attempt: Attempt) -> int:
        """Return the minutes from its completion to the next completion of anything, or to now."""
        later = [e.completed_at for e in self.completions() if e.completed > attempt.completed]
        return min(later, default=self.now) - attempt.completed_at

    def strict_passed(self, attempt: Attempt) -> bool:
        """Tell whether every strict stage passed for this completion."""
        if not attempt.is_rollback or attempt.strict_missed:
            return not attempt.strict_missed
        return any(
            not earlier.is_rollback
            and not earlier.strict_missed
            and earlier.completed < attempt.completed
            for earlier in self.completions(attempt.release)
        )

    def usable(self, release: str) -> bool:
        """Tell whether a rollback may deploy the release at all."""
        return release not in self.bad and release not in self.abandoned

    def stable(self, attempt: Attempt) -> bool:
        """Tell whether a rollback may choose this attempt by itself."""
        return (
            attempt.status == "completed"
            and self.usable(attempt.release)
            and not self.rolled_back_since(attempt)
            and self.strict_passed(attempt)
            and self.lived(attempt) >= self.stable_after
        )

    def rollback(
        self, subject: Attempt, wanted: str = "", *, preempt: bool = False, may_name: bool = True
    ) -> Answer:
        """Answer a request to undo the subject, going back to `wanted` if it is given.

        `may_name` says whether the caller's role is enough to name the release to go back to.
        """
        refused = self._refused(subject, preempt=preempt)
        if refused:
            return Answer(refused)
        target = self._named(subject, wanted, may_name=may_name) if wanted else self._found(subject)
        if isinstance(target, str):
            return Answer(target)
        touched_since = {e.release for e in self.attempts if e.touched > target.touched}
        if (touched_since - {target.release}) & self.irreversible:
            return Answer("ROLLBACK_BLOCKED")
        return self._follows(subject, target)

    def _refused(self, subject: Attempt, *, preempt: bool) -> str:
        if not subject.touched:
            return "NOTHING_DEPLOYED"
        if self.open_rollback() is not None:
            return "ROLLBACK_EXISTS"
        if subject is not self.subject():
            return "STALE_ROLLBACK"
        return "SLOT_TAKEN" if self.holder() is not None and not preempt else ""

    def _named(self, subject: Attempt, wanted: str, *, may_name: bool) -> Attempt | str:
        done, live = self.completions(wanted), self.live()
        if not done:
            return "TARGET_NEVER_DEPLOYED"
        if not may_name:
            return "NOT_PERMITTED"
        if not self.usable(wanted):
            return "GATE_UNSATISFIED"
        restored = subject.is_rollback or (live is not None and live.release == wanted)
        if wanted == subject.release and (subject.completed or not restored):
            return "GATE_UNSATISFIED"
        return done[0]

    def _found(self, subject: Attempt) -> Attempt | str:
        if subject.completed:
            return self._below(subject, {subject.release})
        if subject.is_rollback:
            same = self.completions(subject.release)[0]
            if self.usable(same.release):
                return same
            return self._below(same, {self.attempts[subject.rollback_of].release})
        live = self.live()
        if live is None:
            return "NO_STABLE_RELEASE"
        if self.usable(live.release) and not self.rolled_back_since(live):
            return live
        return self._below(live, {subject.release})

    def _below(self, start: Attempt, left: Collection[str]) -> Attempt | str:
        for each in self.completions():
            if each.completed < start.completed and each.release not in left and self.stable(each):
                return each
        return "NO_STABLE_RELEASE"

    def _follows(self, subject: Attempt, target: Attempt) -> Answer:
        retried = subject.is_rollback and not subject.completed
        condemned = not retried and subject.release != target.release
        waiting = [
            each.number
            for each in self.attempts
            if each.status == "pending" and each.release == subject.release
        ]
        holder, stops, stopped = self.holder(), NOBODY, ""
        if holder is not None and holder.status != "cancelling":
            stops = holder.number
            stopped = "cancelling" if holder.claimed else "cancelled"
        return Answer(
            target=target.number,
            rollback_of=subject.rollback_of if retried else subject.number,
            unproven=not self.stable(target),
            marks_bad=condemned and (subject.completed > 0 or subject.failure == "failed"),
            supersedes=tuple(waiting) if condemned else (),
            stops=stops,
            stopped=stopped,
            subject_waits=subject is holder and stopped != "cancelled",
        )
