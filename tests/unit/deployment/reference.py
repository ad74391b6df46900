"""A second, slow telling of the rollback rules, to hold the real ones against.

It keeps no rows and no statuses, only the list of what happened, and answers by reading that list
again from the start, in the words in which the rules are written down.
"""

from dataclasses import dataclass, field
from enum import Enum, auto

MINUTES_TO_STABLE = 10


class Happened(Enum):
    """The kinds of event."""

    TOUCHED = auto()
    COMPLETED = auto()
    UNDONE = auto()


@dataclass
class Attempt:
    """One deployment: its release, the attempt it was to undo, whether a verdict blamed it."""

    number: int
    release: str
    undoes: int | None = None
    blamed: bool = False


@dataclass
class Reference:
    """Everything that happened to one pair, in order, and what people said about releases."""

    attempts: list[Attempt] = field(default_factory=list)
    events: list[tuple[Happened, int, int]] = field(default_factory=list)
    bad: set[str] = field(default_factory=set)
    abandoned: set[str] = field(default_factory=set)

    def attempt(self, release: str, undoes: int | None = None) -> int:
        """Record a new attempt and return its number."""
        self.attempts.append(Attempt(len(self.attempts), release, undoes))
        return len(self.attempts) - 1

    def note(self, what: Happened, number: int, minute: int) -> None:
        """Record that something happened to an attempt."""
        self.events.append((what, number, minute))

    def subject(self) -> int | None:
        """Return the attempt that touched the environment last."""
        touched = [number for what, number, _ in self.events if what is Happened.TOUCHED]
        return touched[-1] if touched else None

    def completed(self) -> list[int]:
        """Return all attempts that completed, oldest first, undone ones included."""
        return [number for what, number, _ in self.events if what is Happened.COMPLETED]

    def undone(self, number: int) -> bool:
        """Tell whether an attempt was rolled back."""
        return any(what is Happened.UNDONE and of == number for what, of, _ in self.events)

    def live(self) -> str | None:
        """Return the release of the newest completed attempt that was not rolled back."""
        standing = [number for number in self.completed() if not self.undone(number)]
        return self.attempts[standing[-1]].release if standing else None

    def usable(self, release: str) -> bool:
        """Tell whether nothing was said against a release."""
        return release not in self.bad and release not in self.abandoned

    def stable(self, number: int, minute: int) -> bool:
        """Tell whether a completed attempt is stable."""
        order = self.completed()
        position = order.index(number)
        release = self.attempts[number].release
        times = [at for what, _, at in self.events if what is Happened.COMPLETED]
        replaced = times[position + 1] if position + 1 < len(times) else minute
        since = [n for n in order[position:] if self.attempts[n].release == release]
        return (
            self.usable(release)
            and not any(self.undone(later) for later in since)
            and replaced - times[position] >= MINUTES_TO_STABLE
        )

    def target(self, minute: int) -> str | None:
        """Return the release that undoing the subject goes back to; None if there is none."""
        number = self.subject()
        if number is None:
            return None
        order = self.completed()
        release = self.attempts[number].release
        if number in order:
            return self._walk(order[: order.index(number)], {release}, minute)
        origin = self.attempts[number].undoes
        if origin is not None:
            first: str | None = release
            left = {release, self.attempts[origin].release}
        else:
            first, left = self.live(), {release}
        if first is not None and self.usable(first):
            return first
        return self._walk(self._before(first, origin), left, minute)

    def _before(self, release: str | None, origin: int | None) -> list[int]:
        """Return what completed before the newest completion of a release that may not be used.

        For a retry that is any completion of it, otherwise the one that is live.
        """
        order = self.completed()
        matching = [
            position
            for position, number in enumerate(order)
            if self.attempts[number].release == release
            and (origin is not None or not self.undone(number))
        ]
        return order[: matching[-1]] if matching else order

    def _walk(self, earlier: list[int], left: set[str], minute: int) -> str | None:
        for number in reversed(earlier):
            release = self.attempts[number].release
            if release not in left and self.stable(number, minute):
                return release
        return None

    def request_rollback(self, target: str, minute: int) -> int:
        """Record the request and return the attempt that carries it out."""
        number = self.subject()
        if number is None:
            message = "nothing to undo"
            raise ValueError(message)
        subject = self.attempts[number]
        retry = subject.undoes is not None and number not in self.completed()
        self.note(Happened.UNDONE, number, minute)
        blamed = number in self.completed() or subject.blamed
        if not retry and blamed and subject.release != target:
            self.bad.add(subject.release)
        undoes = subject.undoes if retry else number
        made = self.attempt(target, undoes)
        self.note(Happened.TOUCHED, made, minute)
        return made
