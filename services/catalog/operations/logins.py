"""Checking who logs in. No transaction is open while a password is compared."""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from services.catalog.rules.resources import Credentials
from services.catalog.rules.throttling import KNOWN_FOR, account_of, source_of
from services.catalog.store import login_throttles, sessions, users
from shared.db.engine import Database
from shared.errors import LoginRefused
from shared.identity.actor import current_call
from shared.identity.hashing import PasswordCheck
from shared.identity.passwords import Passwords, Place

NOBODY = UUID(int=0)


class Refusal(StrEnum):
    """Why a log-in was refused; for the audit trail, never for the caller."""

    UNKNOWN_USER = "unknown user"
    CANNOT_LOG_IN = "not an active person"
    WRONG_PASSWORD = "wrong password"  # noqa: S105  (a reason)
    TOO_MANY_FAILURES = "too many failures"


@dataclass(frozen=True, slots=True)
class Attempt:
    """A log-in as it was tried, and what came of it.

    `account` and `source` are under what its failure counts. The password was `compared` unless
    too many had failed before. `began` is when it was tried, by the clock of the event loop.
    """

    username: str
    user: Credentials | None
    account: str
    source: str
    compared: bool
    check: PasswordCheck
    began: float

    @property
    def refusal(self) -> Refusal | None:
        """Why it fails, None if it does not."""
        if not self.compared:
            return Refusal.TOO_MANY_FAILURES
        if self.user is None:
            return Refusal.UNKNOWN_USER
        if not self.user.may_log_in:
            return Refusal.CANNOT_LOG_IN
        return None if self.check.right else Refusal.WRONG_PASSWORD

    @asynccontextmanager
    async def refused_in_step(self) -> AsyncIterator[None]:
        """Let LoginRefused out of the block only after a whole number of half comparisons.

        What is read and written differs a little between refusals, by less than a hundredth of a
        comparison; that would tell who asks often enough which accounts exist.
        """
        try:
            yield
        except LoginRefused:
            step = self.check.seconds / 2
            took = _now() - self.began
            await asyncio.sleep(math.ceil(took / step) * step - took)
            raise


class LogIns:
    """Compares passwords, and fewer of them the more have been wrong.

    The passwords that somebody tries for one account are compared one after the other. Each
    counts as a failure before it is compared and no more once it was right, so that neither many
    at the same moment nor callers who go away get more guesses than the rules allow.
    """

    def __init__(self, db: Database, passwords: Passwords) -> None:
        """Read and count in `db`."""
        self._db = db
        self._passwords = passwords
        self._turns = _Turns()

    async def attempt(self, username: str, password: str) -> Attempt:
        """Compare a password, at the same cost whoever it is and whatever comes of it.

        `username` is a user name or a mail address. Raises LoginBusy.
        """
        began = _now()
        with self._passwords.place() as place:
            async with self._db.snapshot() as tx:
                user = await users.credentials(tx, username)
            return await self._compare(place, began, username, user, password)

    async def attempt_of(self, user: Credentials, password: str) -> Attempt:
        """Compare the password of somebody who is logged in already; raises LoginBusy."""
        with self._passwords.place() as place:
            return await self._compare(place, _now(), user.username, user, password)

    async def _compare(
        self, place: Place, began: float, username: str, user: Credentials | None, password: str
    ) -> Attempt:
        user_id = user.user_id if user is not None else None
        account = account_of(user_id, username)
        source = source_of(current_call.get().ip_address)
        async with self._turns.of(account):
            compared, known = await self._admit(account, source, user_id)
            if compared:
                may = user is not None and user.may_log_in
                stored = user.password_hash if user is not None and may else None
                check = await place.check(password, stored)
                if check.right:
                    await self._succeeded(account, source, known=known)
        if not compared:  # the same work, for which nobody has to wait
            check = await place.check(password, None)
        return Attempt(username, user, account, source, compared, check, began)

    async def _admit(self, account: str, source: str, user_id: UUID | None) -> tuple[bool, bool]:
        """Return whether the password is compared, and whether its source is known."""
        async with self._db.transaction() as tx:
            before, now = await login_throttles.locked(tx, account, source)
            addresses = await sessions.addresses(tx, user_id or NOBODY, now - KNOWN_FOR)
            known = source in set(map(source_of, addresses))
            admitted = before.admit(now, known=known)
            after = before.failed(now, known=known) if admitted else before.refused()
            await login_throttles.save(tx, account, source, after)
        return admitted, known

    async def _succeeded(self, account: str, source: str, *, known: bool) -> None:
        async with self._db.transaction() as tx:
            before, _ = await login_throttles.locked(tx, account, source)
            await login_throttles.save(tx, account, source, before.succeeded(known=known))


def _now() -> float:
    return asyncio.get_running_loop().time()


class _Turns:
    """Lets those who want the same thing have it one after the other."""

    def __init__(self) -> None:
        self._wanted: dict[str, tuple[asyncio.Lock, int]] = {}

    @asynccontextmanager
    async def of(self, name: str) -> AsyncIterator[None]:
        lock, waiting = self._wanted.get(name, (asyncio.Lock(), 0))
        self._wanted[name] = (lock, waiting + 1)
        try:
            async with lock:
                yield
        finally:
            _, waiting = self._wanted.pop(name)
            if waiting > 1:
                self._wanted[name] = (lock, waiting - 1)
