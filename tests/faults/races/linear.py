"""Whether what callers saw of one object fits one order of its versions.

Every write answers with the object's new version, and versions are dense, so the order is known
and checking takes linear time. Calls are repeated until an answer comes, so none is unknown; that
nobody made a version which no answer tells of is held against the ledger elsewhere.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

LOST: Final = "an acknowledged write is lost"
DOUBLE: Final = "two writes have one version"
STALE: Final = "answered with an older version than had been seen"
EARLY: Final = "read before it was written"
OTHER: Final = "one version was told in two states"


@dataclass(frozen=True, slots=True)
class Op:
    """One call about the object, from its first sending to its answer, in seconds.

    `writes` is whether the call made that version.
    """

    sent: float
    answered: float
    version: int
    state: str
    writes: bool


def judged(ops: Sequence[Op], final: tuple[int, str]) -> list[str]:
    """Return what fits no order; `final` are the version and state in the end."""
    return [*_writes(ops, final), *_order(ops)]


def _writes(ops: Sequence[Op], final: tuple[int, str]) -> Iterator[str]:
    last, state = final
    known = {op.version: op for op in ops if op.writes}
    told: dict[int, str] = {last: state}
    for op in ops:
        if op.version > last:
            yield f"{LOST}: version {op.version} of {last}"
        elif told.setdefault(op.version, op.state) != op.state:
            yield f"{OTHER}: version {op.version}, {told[op.version]} and {op.state}"
    doubled = sum(1 for op in ops if op.writes) - len(known)
    if doubled:
        yield f"{DOUBLE}: {doubled} times"


def _order(ops: Sequence[Op]) -> Iterator[str]:
    answered = sorted((op.answered, op.version) for op in ops)
    times = [time for time, _ in answered]
    highest, best = [], 0
    for _, version in answered:
        best = max(best, version)
        highest.append(best)
    sent = {op.version: op.sent for op in ops if op.writes}
    for op in ops:
        before = bisect_left(times, op.sent)
        floor = highest[before - 1] if before else 0
        if op.version < floor or (op.writes and op.version == floor):
            yield f"{STALE}: {op.version} after {floor}"
        if op.version in sent and not op.writes and sent[op.version] > op.answered:
            yield f"{EARLY}: version {op.version}"
