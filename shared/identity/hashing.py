"""bcrypt, and the process that does it for a service: `python -m shared.identity.hashing`.

It reads questions and writes answers, a line of JSON each, one after the other, and ends with its
input. A process and not a thread, because it gives way to all other work: a thread that gives way
while it holds the interpreter's lock would make all other threads wait for it.
"""

import json
import os
import sys
import time
from dataclasses import asdict, dataclass, replace
from typing import Any

import bcrypt

LONGEST_BYTES = 72
"""bcrypt looks at no more; longer ones are refused rather than cut, so that none is accepted by
its beginning."""
NICENESS = 10
"""Checks give way: whoever is logged in already does not wait for those who try to log in."""


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
        sys.stdout.write(json.dumps(_answer(**json.loads(line))) + "\n")
        sys.stdout.flush()
    return 0


def _answer(*, password: str, rounds: int, **known: Any) -> dict[str, Any]:  # noqa: ANN401
    if not known:
        return {"hashed": hash_password(password, rounds)}
    began = time.perf_counter()
    check = compare(password, rounds=rounds, **known)
    return asdict(replace(check, seconds=time.perf_counter() - began))


if __name__ == "__main__":
    sys.exit(main())
