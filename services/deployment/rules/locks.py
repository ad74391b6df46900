"""Locks: what may be locked and for how long, and which locks hold a deployment up."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from services.deployment.rules.lifecycle import DeploymentKind
from shared.domain_error import FieldViolation
from shared.errors import ValidationFailed

LONGEST: Final = timedelta(days=366)


@dataclass(frozen=True, slots=True)
class Lock:
    """A lock that concerns a deployment; `place` says in words what it locks.

    `ends_at` is when it expires or was released, None while nothing ends it.
    """

    id: UUID
    place: str
    reason: str
    locked_by: str
    includes_rollbacks: bool
    ends_at: datetime | None = None

    def holds(self, now: datetime) -> bool:
        """Tell whether it has not ended."""
        return self.ends_at is None or now < self.ends_at


def place(service: str | None, environment: str | None) -> str:
    """Return in words what a lock on these locks; None is all."""
    if environment is None:
        return "everything" if service is None else f"{service} everywhere"
    return f"{service or 'everything'} in {environment}"


def holding(locks: Iterable[Lock], now: datetime) -> tuple[Lock, ...]:
    """Return the locks that have not ended."""
    return tuple(lock for lock in locks if lock.holds(now))


def against(locks: Iterable[Lock], kind: DeploymentKind) -> tuple[Lock, ...]:
    """Return those that stop a deployment of this kind: a rollback passes most of them."""
    rollback = kind is DeploymentKind.ROLLBACK
    return tuple(lock for lock in locks if lock.includes_rollbacks or not rollback)


def check_new(
    *, anything_named: bool, everything: bool, expires_at: datetime | None, now: datetime
) -> None:
    """Raise ValidationFailed for a lock on more or on longer than was meant."""
    violations = []
    if not anything_named and not everything:
        why = "name a service or an environment, or say that everything is to be locked"
        violations.append(FieldViolation("everything", why))
    if anything_named and everything:
        why = "leave it out, or name neither a service nor an environment"
        violations.append(FieldViolation("everything", why))
    if expires_at is not None and expires_at <= now:
        violations.append(FieldViolation("expires_at", "it must lie in the future"))
    if expires_at is not None and expires_at > now + LONGEST:
        why = f"it must lie within {LONGEST.days} days"
        violations.append(FieldViolation("expires_at", why))
    if violations:
        first = f"{violations[0].field}: {violations[0].description}"
        raise ValidationFailed(count=len(violations), first=first, fields=tuple(violations))
