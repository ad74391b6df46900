"""How failed log-ins slow down further ones, and never the right person at a known place for long.

Failures are counted for an account as a whole and for each source of log-ins to it. After five in a
row the next password is compared only after a second, then after two, four, up to 15 minutes; after
a hundred none is, until the password is set anew or an operator unlocks the account. What the whole
account suffers from does not concern a source from which its owner has logged in before: otherwise
any stranger could lock anybody out. In 15 minutes ten passwords are compared from all other sources
together, and ten from each source that is known.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from ipaddress import ip_address, ip_network
from uuid import UUID

FREE_FAILURES = 5
MOST_FAILURES = 100
LONGEST_DELAY = timedelta(minutes=15)
WINDOW = timedelta(minutes=15)
MOST_IN_WINDOW = 10
KNOWN_FOR = timedelta(days=30)
"""How long after a log-in its source counts as known."""
ALL_SOURCES = ""
_LOCAL = "local"
_IPV6 = 6


class Lock(StrEnum):
    """How an account is locked; the values are the stored spelling."""

    DELAY = "delay"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Throttle:
    """Log-ins to an account, from one source or from all.

    `failures` are passwords compared since the last right one; `refused` log-ins were refused
    without comparing. `compared_at` has the last of those: of an account that strangers have tried,
    of a source all.
    """

    failures: int = 0
    refused: int = 0
    compared_at: tuple[datetime, ...] = ()
    delayed_until: datetime | None = None
    locked_at: datetime | None = None

    def admits(self, now: datetime) -> bool:
        """Say whether a password may be compared now."""
        delayed = self.delayed_until is not None and now < self.delayed_until
        return self.locked_at is None and not delayed

    def has_room(self, now: datetime) -> bool:
        """Say whether one more password may be compared in this quarter of an hour."""
        recent = [moment for moment in self.compared_at if moment > now - WINDOW]
        return len(recent) < MOST_IN_WINDOW

    @property
    def lock(self) -> Lock | None:
        """How the account is locked at this point."""
        if self.locked_at is not None:
            return Lock.STOP
        return Lock.DELAY if self.failures >= FREE_FAILURES else None


@dataclass(frozen=True, slots=True)
class Throttles:
    """What is known of an account as a whole, and of one source."""

    account: Throttle
    source: Throttle

    def admit(self, now: datetime, *, known: bool) -> bool:
        """Say whether a password from this source, `known` or not, may be compared now."""
        if not (self.source.admits(now) and self.source.has_room(now)):
            return False
        return known or (self.account.admits(now) and self.account.has_room(now))

    def refused(self) -> "Throttles":
        """Return what is known after a log-in that was refused without comparing."""
        return Throttles(
            replace(self.account, refused=self.account.refused + 1),
            replace(self.source, refused=self.source.refused + 1),
        )

    def failed(self, now: datetime, *, known: bool) -> "Throttles":
        """Return what is known after a wrong password; told before it is compared.

        So passwords that are tried at the same moment cannot all be compared.
        """
        account = _failed(self.account, now)
        if not known:
            account = _compared(account, now)
        return Throttles(account, _compared(_failed(self.source, now), now))

    def succeeded(self, *, known: bool) -> "Throttles":
        """Return what is known once that password was right after all.

        An account that is locked for good stays so for strangers.
        """
        earlier = self.account.compared_at
        account = replace(self.account, compared_at=earlier if known else earlier[:-1])
        if account.locked_at is None:
            account = replace(account, failures=0, refused=0, delayed_until=None)
        return Throttles(account, Throttle())


def delay_after(failures: int) -> timedelta:
    """Return how long nothing is compared after so many failures in a row."""
    if failures < FREE_FAILURES:
        return timedelta()
    doublings = min(failures - FREE_FAILURES, 20)
    return min(timedelta(seconds=1 << doublings), LONGEST_DELAY)


def source_of(address: str | None) -> str:
    """Return where a log-in comes from: an address, the /64 of an IPv6 one, or this machine."""
    if address is None:
        return _LOCAL
    parsed = ip_address(address)
    if parsed.version == _IPV6:
        return str(ip_network((parsed, 64), strict=False))
    return str(parsed)


def account_of(user_id: UUID | None, username: str) -> str:
    """Return under what failures are counted: a user, or a name that nobody has."""
    if user_id is not None:
        return f"user:{user_id}"
    return f"name:{sha256(username.lower().encode()).hexdigest()}"


def _compared(throttle: Throttle, now: datetime) -> Throttle:
    return replace(throttle, compared_at=(*throttle.compared_at, now)[-MOST_IN_WINDOW:])


def _failed(throttle: Throttle, now: datetime) -> Throttle:
    failures = throttle.failures + 1
    delay = delay_after(failures)
    stopped = throttle.locked_at or (now if failures >= MOST_FAILURES else None)
    return replace(
        throttle,
        failures=failures,
        delayed_until=now + delay if delay else None,
        locked_at=stopped,
    )
