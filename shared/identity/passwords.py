"""Passwords: hashed with bcrypt, checked by a few processes, and never a way to learn who exists.

A check costs a quarter of a second of one core on purpose. So only some processes do it, a short
queue waits for them, and whoever comes after that is refused at once instead of slowing everybody.
"""

import asyncio
import json
import os
import secrets
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from threading import BoundedSemaphore
from typing import Any

from shared.errors import LoginBusy
from shared.identity import hashing
from shared.identity.hashing import PasswordCheck

LONGEST_QUEUE = 20
RETRY_AFTER = timedelta(seconds=1)

_BCRYPT_ALPHABET = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_CHECKSUM_LENGTH = 31


class Place:
    """A place in the queue of checks, for one piece of work after another."""

    def __init__(self, passwords: "Passwords") -> None:
        """Have the processes of `passwords` work."""
        self._passwords = passwords
        self._last: Future[dict[str, Any]] | None = None

    async def check(self, password: str, stored: str | None) -> PasswordCheck:
        """Compare `password` like `Passwords.check`."""
        checksum = self._passwords.checksum
        return PasswordCheck(**await self._ask(password, stored=stored, checksum=checksum))

    async def hash(self, password: str) -> str:
        """Hash `password` like `Passwords.hash`."""
        if len(password.encode()) > hashing.LONGEST_BYTES:
            raise ValueError("longer than 72 bytes")
        hashed: str = (await self._ask(password))["hashed"]
        return hashed

    async def _ask(self, password: str, **known: str | None) -> dict[str, Any]:
        future = self._passwords.submit({"password": password, **known})
        self._last = future
        return await asyncio.wrap_future(future)

    def leave(self, release: Callable[[], None]) -> None:
        """Give the place back once the process is free, even if the caller went away before."""
        if self._last is None:
            release()
        else:
            self._last.add_done_callback(lambda _done: release())


class Passwords:
    """Checks passwords in a bounded number of processes; one instance serves one service."""

    def __init__(
        self, rounds: int, *, workers: int | None = None, queue: int = LONGEST_QUEUE
    ) -> None:
        """Use as many processes as half the cores at most, with room for `queue` waiting checks.

        They are started when they are needed first.
        """
        self._rounds = rounds
        workers = workers or max(1, (os.cpu_count() or 1) // 2)
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="bcrypt")
        self._places = BoundedSemaphore(workers + queue)
        self._mine = threading.local()
        self._lock = threading.Lock()
        self._closed = False
        self._processes: set[subprocess.Popen[bytes]] = set()
        self.checksum = "".join(secrets.choice(_BCRYPT_ALPHABET) for _ in range(_CHECKSUM_LENGTH))

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
            return await place.hash(password)

    @contextmanager
    def place(self) -> Iterator["Place"]:
        """Provide a place in the queue for as long as the block and what it has begun take.

        Raises LoginBusy when there is none.
        """
        if not self._places.acquire(blocking=False):
            raise LoginBusy(retry_after=RETRY_AFTER)
        place = Place(self)
        try:
            yield place
        finally:
            place.leave(self._places.release)

    def submit(self, question: dict[str, str | None]) -> "Future[dict[str, Any]]":
        """Have a process answer, when one is free; for whoever has a place."""
        return self._pool.submit(self._answered, {**question, "rounds": self._rounds})

    def close(self) -> None:
        """End the processes, and drop what waits."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            self._closed = True
            for process in self._processes:
                _end(process)

    def _answered(self, question: dict[str, Any]) -> dict[str, Any]:
        """Ask the process of this thread; one that has died is replaced once."""
        line = json.dumps(question).encode() + b"\n"
        for _attempt in range(2):
            if answer := self._asked(line):
                given: dict[str, Any] = json.loads(answer)
                return given
        raise HashingEnded

    def _asked(self, line: bytes) -> bytes:
        """Return the line that answers a line, nothing when the process has ended.

        Whatever hinders it, a process that owes an answer is never asked again: the next one would
        be told what became of this password.
        """
        process, answer = self._process(), b""
        try:
            with suppress(OSError, ValueError):  # it has ended, or was ended and its pipes closed
                _pipe(process.stdin).write(line)
                _pipe(process.stdin).flush()
                answer = _pipe(process.stdout).readline()
        finally:
            if not answer.endswith(b"\n"):
                answer = b""
                self._drop(process)
        return answer

    def _process(self) -> "subprocess.Popen[bytes]":
        """Return the process of this thread, which does its work while the thread waits."""
        with self._lock:
            if self._closed:
                raise HashingEnded
            found: subprocess.Popen[bytes] | None = getattr(self._mine, "process", None)
            if found is None:
                found = self._mine.process = _started()
                self._processes.add(found)
            return found

    def _drop(self, process: "subprocess.Popen[bytes]") -> None:
        """End the process of this thread; the next question starts another."""
        self._mine.process = None
        with self._lock:
            self._processes.discard(process)
            _end(process)


class HashingEnded(Exception):
    """The process that hashes ended twice while it was asked, or the service is ending."""


def _started() -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", hashing.__name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        # Signals of a terminal are for the service, with which this process ends.
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    with suppress(OSError), process:  # which closes the pipes
        pass


def _pipe(pipe: Any) -> Any:  # noqa: ANN401  (None only where no pipe was asked for)
    return pipe
