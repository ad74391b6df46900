"""Passwords: hashed with bcrypt, checked by a few threads, and never a way to learn who exists.

A check costs a quarter of a second of one core on purpose. So only some threads do it, a short
queue waits for them, and whoever comes after that is refused at once instead of slowing everybody.
"""

import asyncio
import os
import secrets
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from threading import BoundedSemaphore

import bcrypt

from shared.errors import LoginBusy

LONGEST_BYTES = 72
"""bcrypt looks at no more; longer ones are refused rather than cut, so that none is accepted by
its beginning."""
LONGEST_QUEUE = 20
RETRY_AFTER = timedelta(seconds=1)

_BCRYPT_ALPHABET = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_CHECKSUM_LENGTH = 31


@dataclass(frozen=True, slots=True)
class PasswordCheck:
    """Whether a password was right, and its new hash where the stored one has another cost."""

    right: bool
    rehashed: str | None = None


def hash_password(password: str, rounds: int) -> str:
    """Return the bcrypt hash of `password` with `rounds` (a power of two); blocks for its time.

    Raises ValueError for more than 72 bytes of UTF-8.
    """
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(rounds)).decode()


class Passwords:
    """Checks passwords in a bounded pool of threads; one instance serves one process."""

    def __init__(
        self, rounds: int, *, workers: int | None = None, queue: int = LONGEST_QUEUE
    ) -> None:
        """Make a pool of at most half the cores, with room for `queue` waiting checks."""
        self._rounds = rounds
        workers = workers or max(1, (os.cpu_count() or 1) // 2)
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="bcrypt")
        self._places = BoundedSemaphore(workers + queue)
        # A hash of nothing: it costs the same to check as a real one and equals no result.
        checksum = "".join(secrets.choice(_BCRYPT_ALPHABET) for _ in range(_CHECKSUM_LENGTH))
        self._nobody = bcrypt.gensalt(rounds).decode() + checksum

    async def check(self, password: str, stored: str | None) -> PasswordCheck:
        """Compare `password` with the hash of a user, or of None for a user who cannot log in.

        Does the same work in each case. Raises LoginBusy when too many checks are waiting.
        """
        if not self._places.acquire(blocking=False):
            raise LoginBusy(retry_after=RETRY_AFTER)
        future = self._pool.submit(self._compare, password.encode(), stored)
        # The place is free when the thread is, even if the caller has gone away long before.
        future.add_done_callback(self._leave)
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Let the running checks end and drop the waiting ones."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _leave(self, _future: Future[PasswordCheck]) -> None:
        self._places.release()

    def _compare(self, password: bytes, stored: str | None) -> PasswordCheck:
        possible = stored is not None and len(password) <= LONGEST_BYTES
        expected = stored if stored is not None and possible else self._nobody
        equal = bcrypt.checkpw(password[:LONGEST_BYTES], expected.encode())
        if not (equal and possible):
            return PasswordCheck(right=False)
        if _rounds_of(expected) == self._rounds:
            return PasswordCheck(right=True)
        return PasswordCheck(right=True, rehashed=hash_password(password.decode(), self._rounds))


def _rounds_of(stored: str) -> int:
    """Return the cost in a hash, which is spelled `$2b$12$…`."""
    return int(stored.split("$")[2])
