"""Checking who logs in. No transaction is open while a password is compared."""

from dataclasses import dataclass
from enum import StrEnum

from services.catalog.rules.resources import Credentials
from services.catalog.store import users
from shared.db.engine import Database
from shared.identity.passwords import PasswordCheck, Passwords


class Refusal(StrEnum):
    """Why a log-in was refused; for the audit trail, never for the caller."""

    UNKNOWN_USER = "unknown user"
    CANNOT_LOG_IN = "not an active person"
    WRONG_PASSWORD = "wrong password"  # noqa: S105  (a reason)


@dataclass(frozen=True, slots=True)
class Attempt:
    """A log-in as it was tried, and what came of it."""

    username: str
    user: Credentials | None
    check: PasswordCheck

    @property
    def refusal(self) -> Refusal | None:
        """Why it fails, None if it does not."""
        if self.user is None:
            return Refusal.UNKNOWN_USER
        if not self.user.may_log_in:
            return Refusal.CANNOT_LOG_IN
        return None if self.check.right else Refusal.WRONG_PASSWORD


async def attempt(db: Database, passwords: Passwords, username: str, password: str) -> Attempt:
    """Compare a password, at the same cost for a user who does not exist or cannot log in.

    `username` is a user name or a mail address. Raises LoginBusy.
    """
    async with db.snapshot() as tx:
        user = await users.credentials(tx, username)
    stored = user.password_hash if user is not None and user.may_log_in else None
    return Attempt(username, user, await passwords.check(password, stored))
