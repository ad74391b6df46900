"""Passwords: hashed with bcrypt, checked by a few threads, and never a way to learn who exists.

A check costs a quarter of a second of one core on purpose. So only some threads do it, a short
queue waits for them, and whoever comes after that is refused at once instead of slowing everybody.
"""

import asyncio
import os
import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from threading import BoundedSemaphore
from typing import Any, TypeVar

import bcrypt

from shared.errors import LoginBusy

LONGEST_BYTES = 72
"""bcrypt looks at no more; longer ones are refused rather than cut, so that none is accepted by
its beginning."""
LONGEST_QUEUE = 20
RETRY_AFTER = timedelta(seconds=1)

T = TypeVar("T")

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


class Place:
    """A place in the queue of checks, for one piece of work after another."""

    def __init__(
        self, pool: ThreadPoolExecutor, compare: Callable[[bytes, str | None], PasswordCheck]
    ) -> None:
        """Work in the threads of `pool`."""
        self._pool = pool
        self._compare = compare
        self._last: Future[Any] | None = None

    async def check(self, password: str, stored: str | None) -> PasswordCheck:
        """Compare `password` like `Passwords.check`."""
        return await self.run(lambda: self._compare(password.encode(), stored))

    async def run(self, work: Callable[[], T]) -> T:
        """Do some work in a thread."""
        future = self._pool.submit(work)
        self._last = future
        return await asyncio.wrap_future(future)

    def leave(self, release: Callable[[], None]) -> None:
        """Give the place back once the thread is free, even if the caller went away before."""
        if self._last is None:
            release()
        else:
            self._last.add_done_callback(lambda _done: release())


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
        with self.place() as place:
            return await place.check(password, stored)

    async def hash(self, password: str) -> str:
        """Return the hash under which a new password is stored.

        Raises LoginBusy when too many checks are waiting, ValueError for more than 72 bytes.
        """
        with self.place() as place:
            return await place.run(lambda: hash_password(password, self._rounds))

    @contextmanager
    def place(self) -> Iterator["Place"]:
        """Provide a place in the queue for as long as the block and what it has begun take.

        Raises LoginBusy when there is none.
        """
        if not self._places.acquire(blocking=False):
            raise LoginBusy(retry_after=RETRY_AFTER)
        place = Place(self._pool, self._compare)
        try:
            yield place
        finally:
            place.leave(self._places.release)

    def close(self) -> None:
        """Let the running checks end and drop the waiting ones."""
        self._pool.shutdown(wait=False, cancel_futures=True)

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
