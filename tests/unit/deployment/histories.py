"""Histories of a service in an environment: random ones, the shortest of a kind, what to ask.

Events happen to the reference model alone. One that the product would not allow at that moment has
no effect, so every list of events is a history, also when some are left out of it.
"""

from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import NamedTuple

from tests.support.rollback_model import HOLDS_SLOT, Attempt, Pair

RELEASES = ("v0", "v1", "v2", "v3")
BRIEF, LONG = 3, 15
RARELY, OFTEN = 0.15, 0.75
# A request: number of the subject, named release, whether it preempts, whether a lead asks.
Request = tuple[int, str, bool, bool]


class Event(NamedTuple):
    """Something that happens `after` so many minutes; `release` where it is about one.

    For "back…", `release` is the target that is named, if any; "cleared" without one clears all.
    """

    what: str
    release: str = ""
    after: int = LONG


class Start(NamedTuple):
    """What a history starts from."""

    irreversible: frozenset[str] = frozenset()
    stable_after: int = 10


def told(start: Start, events: Sequence[Event]) -> Pair:
    """Return the pair to which all of that happened."""
    pair = Pair(irreversible=start.irreversible, stable_after=start.stable_after)
    for event in events:
        pair.now += event.after
        happen(pair, event)
    pair.now += LONG
    return pair


def random_history(chance: Random) -> tuple[Start, list[Event]]:
    """Return a history of up to 14 events; most begin with something to go back to."""
    releases = chance.sample(RELEASES, chance.choice((2, 3, 4, 4)))
    irreversible = frozenset(each for each in releases if chance.random() < RARELY / 2)
    start = Start(irreversible, chance.choice((0, 10)))
    opening = chance.choices(_OPENINGS, [6, *(1 for _ in _OPENINGS[1:])])[0]
    events = [
        Event(
            what,
            "" if what in _BACK else releases[which % len(releases)],
            BRIEF if chance.random() < RARELY else LONG,
        )
        for what, which in opening
    ]
    pair = told(start, events)
    for _ in range(chance.choice((0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8))):
        busy = pair.holder() is not None or pair.open_rollback() is not None
        weights = _WHEN_BUSY if busy and chance.random() < OFTEN else _WEIGHTS
        name = chance.choices(list(weights), list(weights.values()))[0]
        silent = name in (*_BACK, "cleared") and chance.random() < OFTEN
        release = "" if silent else chance.choice(releases)
        events.append(Event(name, release, BRIEF if chance.random() < RARELY else LONG))
        happen(pair, events[-1])
    return start, events


def requests(pair: Pair) -> Iterator[Request]:
    """Give every request there is: each attempt plainly, the subject in every way."""
    for each in pair.attempts:
        yield each.number, "", False, False
    subject = pair.subject()
    if subject is None:
        return
    yield subject.number, "", True, False
    for release in RELEASES:
        yield subject.number, release, True, True
    yield subject.number, RELEASES[0], True, False
    yield subject.number, RELEASES[1], False, True


def shortest(
    start: Start, events: Sequence[Event], shows: Callable[[Start, Sequence[Event]], bool]
) -> list[Event]:
    """Return what is left of a history when every event that `shows` can do without is gone."""
    kept, position = list(events), 0
    while position < len(kept):
        without = kept[:position] + kept[position + 1 :]
        if shows(start, without):
            kept, position = without, 0
        else:
            position += 1
    return kept


# How a deployment goes: its status in the end, class of failure, whether it touched.
_ENDS = {
    "ok": ("completed", "", True),
    "ok, strict stage ignored": ("completed", "", True),
    "fails in test": ("failed", "failed", False),
    "fails": ("failed", "failed", True),
    "errs": ("failed", "errored", True),
    "is cancelled": ("cancelled", "", True),
    "is cancelled in test": ("cancelled", "", False),
    "waits": ("pending", "", False),
    "builds": ("in-progress", "", False),
    "deploys": ("in-progress", "", True),
    "pauses": ("paused", "", True),
}
# What becomes of what holds the slot, or of the rollback that waits for it.
_HOLDER_ENDS = {
    "holder completes": "completed",
    "holder fails": "failed",
    "holder is cancelled": "cancelled",
    "holder pauses": "paused",
}
# A rollback is asked for, and what becomes of it.
_BACK = {
    "back": "completed",
    "back fails": "failed",
    "back errs": "failed",
    "back is cancelled": "cancelled",
    "back waits": "pending",
    "back runs": "in-progress",
}
_SAID = ("bad", "cleared", "abandoned")
_WEIGHTS = {
    **dict.fromkeys(_ENDS, 2),
    **dict.fromkeys(_BACK, 3),
    "ok": 14,
    "fails": 4,
    "back": 8,
    "claimed": 2,
    "waiting starts": 3,
    "bad": 2,
    "cleared": 4,
    "abandoned": 1,
}
_WHEN_BUSY = {**dict.fromkeys(_HOLDER_ENDS, 4), "claimed": 4, "waiting starts": 2, "back waits": 1}
# How histories begin from which every answer is a few events away; numbers stand for releases.
_OPENINGS: tuple[tuple[tuple[str, int], ...], ...] = (
    (("ok", 0), ("ok", 1)),
    (),
    (("ok", 0), ("ok", 1), ("ok", 1), ("back fails", 0), ("cleared", 1), ("errs", 2)),
    (("ok", 0), ("ok", 1), ("ok", 2), ("ok", 2), ("back", 0), ("cleared", 2)),
    (("ok", 0), ("ok, strict stage ignored", 1), ("fails", 2), ("back", 0), ("ok", 3)),
    (("ok", 0), ("ok", 1), ("ok", 2), ("back errs", 0), ("bad", 1)),
    (("ok", 0), ("ok", 1), ("bad", 1), ("errs", 2)),
    (("ok", 0), ("ok", 1), ("waits", 1)),
    (("ok", 0), ("ok", 1), ("deploys", 2), ("claimed", 2)),
    (("ok", 0), ("ok", 1), ("builds", 2), ("claimed", 2), ("back waits", 0)),
)


def happen(pair: Pair, event: Event) -> None:
    """Let an event happen to a pair, or nothing if the product would not allow it now."""
    holder = pair.holder()
    if event.what in _ENDS:
        _deploy(pair, event)
    elif event.what in _BACK:
        _roll_back(pair, event)
    elif event.what in _SAID:
        _say(pair, event.what, event.release)
    elif event.what in _HOLDER_ENDS:
        last = holder or pair.open_rollback()
        if last is not None:
            _end(pair, last, _HOLDER_ENDS[event.what], "failed")
    elif event.what == "claimed":
        if holder is not None and holder.status == "in-progress":
            holder.claimed = True
    else:
        waiting = [each for each in pair.attempts if each.status == "pending"]
        first = pair.open_rollback() or (waiting[0] if waiting else None)
        if holder is None and first is not None and pair.usable(first.release):
            first.status = "in-progress"
            pair.touch(first)


def _deploy(pair: Pair, event: Event) -> None:
    """Deploy, if the release may be and, unless it waits, nothing else has or gets the slot."""
    busy = pair.holder() is not None or pair.open_rollback() is not None
    status, failure, touches = _ENDS[event.what]
    asked_already = any(
        each.release == event.release and each.status in ("pending", *HOLDS_SLOT)
        for each in pair.attempts
    )
    if not pair.usable(event.release) or asked_already or (busy and status != "pending"):
        return
    attempt = pair.deploy(event.release)
    attempt.strict_missed = event.what == "ok, strict stage ignored"
    if status == "completed":
        pair.complete(attempt)
        return
    attempt.status, attempt.failure = status, failure
    if touches:
        pair.touch(attempt)


def _roll_back(pair: Pair, event: Event) -> None:
    subject = pair.subject()
    if subject is None:
        return
    answer = pair.rollback(subject, event.release, preempt=True)
    if answer.reason:
        return
    made = pair.start_rollback(subject, answer)
    status = _BACK[event.what]
    if status == "cancelled" or pair.holder() is None:
        _end(pair, made, status, "errored" if event.what == "back errs" else "failed")


def _end(pair: Pair, attempt: Attempt, status: str, failure: str) -> None:
    """Let one that runs or is to run take another status, as far as its present one allows."""
    if attempt.status == "cancelling" and status != "cancelled":
        return
    if attempt.status == "in-progress" and attempt.claimed and status == "cancelled":
        attempt.status = "cancelling"
    elif status == "cancelled":
        pair.cancel(attempt)
    elif status == "completed":
        pair.complete(attempt)
    else:
        attempt.status = status
        attempt.failure = failure if status == "failed" else ""
        attempt.claimed = attempt.claimed and status != "paused"


def _say(pair: Pair, what: str, release: str) -> None:
    """Mark a release; one that is live or on its way cannot be abandoned."""
    live = pair.live()
    busy = any(e.release == release and e.status in ("pending", *HOLDS_SLOT) for e in pair.attempts)
    if what == "bad":
        pair.bad.add(release)
    elif what == "cleared":
        pair.bad -= {release} if release else set(RELEASES)
    elif not busy and (live is None or live.release != release):
        pair.abandoned.add(release)
