"""bcrypt, and the process that does it for a service: `python -m shared.identity.hashing`.

It reads questions and writes answers, a line of JSON each, one after the other, and ends with its
input. A process and not a thread, because it gives way to all other work: a thread that gives way
while it holds the interpreter's lock would make all other threads wait for it.
"""

import json
import os
import select
import signal
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any, NoReturn

import bcrypt

LONGEST_BYTES = 72
"""bcrypt looks at no more; longer ones are refused rather than cut, so that none is accepted by
its beginning."""
NICENESS = 10
"""Checks give way: whoever is logged in already does not wait for those who try to log in."""
PATIENCE_S = 2.0
"""How long a check of cost 12, or of a lower one, takes only what nobody else wants of the
processors; each further step doubles it, as it doubles the work."""
_LONGEST_ANSWER = 4_096


@dataclass(frozen=True, slots=True)
class PasswordCheck:
    """Whether a password was right, and its new hash where the stored one has another cost.

    `seconds` is how long the process worked on it.
    """

    right: bool
    rehashed: str | None = None
    seconds: float = 0.0


def hash_password(password: str, rounds: int) -> str:
    """Return the bcrypt hash of `password` with `rounds` (a power of two); blocks for its time.

    Raises ValueError for more than 72 bytes of UTF-8.
    """
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(rounds)).decode()


def compare(password: str, stored: str | None, rounds: int, checksum: str) -> PasswordCheck:
    """Compare a password with a hash, or with that of nobody for None, always for as long.

    `checksum` is what no password has. Blocks for the time of one hash with `rounds`, or of two
    when the password is right and hashed anew.
    """
    tried = password.encode()
    possible = stored is not None and len(tried) <= LONGEST_BYTES
    expected = stored if stored is not None and possible else nobody(rounds, checksum)
    equal = bcrypt.checkpw(tried[:LONGEST_BYTES], expected.encode())
    if not (equal and possible):
        _make_up_for(_rounds_of(expected), rounds, tried, checksum)
        return PasswordCheck(right=False)
    if _rounds_of(expected) == rounds:
        return PasswordCheck(right=True)
    return PasswordCheck(right=True, rehashed=hash_password(password, rounds))


def nobody(rounds: int, checksum: str) -> str:
    """Return a hash of nothing: it costs as much to check as a real one and equals no result."""
    return bcrypt.gensalt(rounds).decode() + checksum


def _make_up_for(cost: int, rounds: int, password: bytes, checksum: str) -> None:
    """Work until a check of a hash of `cost` has taken as long as one of today's cost.

    Otherwise a cost that was raised would tell who has an account: by the answers that come
    sooner, until they have logged in again. As 2^c + 2^c + 2^(c+1) + … + 2^(r-1) is 2^r, one
    check of each cost in between does it.
    """
    for between in range(cost, rounds):
        bcrypt.checkpw(password[:LONGEST_BYTES], nobody(between, checksum).encode())


def _rounds_of(stored: str) -> int:
    """Return the cost in a hash, which is spelled `$2b$12$…`."""
    return int(stored.split("$")[2])


def main() -> int:
    """Answer until the input ends, which it does with the service."""
    os.nice(NICENESS)
    for line in sys.stdin.buffer:
        question = json.loads(line)
        answer = _answered_by_a_child(question) or _answer(**question)
        sys.stdout.buffer.write(answer + b"\n")
        sys.stdout.buffer.flush()
    return 0


def patience(rounds: int) -> float:
    """Return for how many seconds a child may try: some eight times what it needs undisturbed."""
    return PATIENCE_S * (1 << max(rounds - 12, 0))


def _answered_by_a_child(question: dict[str, Any]) -> bytes:
    """Return the answer of a child that everybody else goes before, nothing if it takes too long.

    A mere difference in niceness lets others wait until a turn of this process is over. But on
    processors that are never free, the child would never end, and nobody could log in.
    """
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", buffering=0) as answer:
        try:
            child = os.fork()
        except OSError:
            os.close(writing)
            return b""
        if not child:
            _be_the_child(question, writing)
        os.close(writing)
        in_time, _, _ = select.select([answer], [], [], patience(question["rounds"]))
        if not in_time:
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return answer.read(_LONGEST_ANSWER) if in_time else b""


def _be_the_child(question: dict[str, Any], writing: int) -> NoReturn:
    """Write the answer, and end, whatever happens: of what went wrong, the parent tells."""
    try:
        # The pipes are its parent's: whoever waits at them learns at once when that has died. If
        # it has, nobody ends this one later.
        os.closerange(0, 3)
        signal.setitimer(signal.ITIMER_REAL, patience(question["rounds"]))
        with suppress(OSError):  # where this is forbidden it stays as nice as its parent
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        os.write(writing, _answer(**question))
    finally:
        os._exit(0)


def _answer(*, password: str, rounds: int, **known: Any) -> bytes:  # noqa: ANN401
    if not known:
        return json.dumps({"hashed": hash_password(password, rounds)}).encode()
    began = time.perf_counter()
    check = compare(password, rounds=rounds, **known)
    return json.dumps(asdict(replace(check, seconds=time.perf_counter() - began))).encode()


if __name__ == "__main__":
    sys.exit(main())
