"""What the audit trail is told of log-ins that are refused: each one, and of a flood how many."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from services.catalog.operations.logins import Attempt, Refusal
from services.catalog.operations.recording import aggregate
from services.catalog.rules.throttling import Throttle
from services.catalog.store import login_throttles, users
from services.catalog.store.login_throttles import Report, Suppressed
from shared.ids import new_id, parse_id
from shared.outbox.change import Change
from shared.outbox.events import Category, Event

ONE_ENTRY_IN = timedelta(minutes=1)
"""Log-ins refused without comparing get one entry in this time for each account and source."""
BATCH = 100
NOBODY = "unknown"
"""Stands for a name that nobody has: it may be a password, typed into the wrong field."""


async def record(change: Change, attempt: Attempt, refusal: Refusal) -> None:
    """Record a refused log-in, and that it has locked the account when it has.

    Each password that was compared has an entry of its own. A user who was deleted meanwhile is
    nobody, whose failures are forgotten: the ledger takes no entry of somebody whom it cannot know.
    """
    if not await _is_there(change, attempt):
        await login_throttles.forget(change.tx, attempt.account)
        _record(change, "login_refused", None, {"username": NOBODY, "reason": refusal})
        return
    account, told, source = await login_throttles.report(change.tx, attempt.account, attempt.source)
    await _record_lock(change, attempt, account, told)
    details: dict[str, Any] = {"username": _name(attempt), "reason": refusal}
    if refusal is Refusal.TOO_MANY_FAILURES:
        if not _is_due(change, source):
            await login_throttles.note_suppressed(change.tx, attempt.account, attempt.source)
            return
        await login_throttles.note_report(change.tx, attempt.account, attempt.source, change.now)
        details["suppressed"] = source.suppressed
    user_id = attempt.user.user_id if attempt.user is not None else None
    _record(change, "login_refused", user_id, details)


async def record_suppressed(change: Change) -> None:
    """Record what a flood has left unrecorded, once it has been quiet for a while."""
    due = await login_throttles.take_suppressed(
        change.tx, change.now, change.now - ONE_ENTRY_IN, BATCH
    )
    for one in due:
        await _record_rest(change, one)


async def _is_there(change: Change, attempt: Attempt) -> bool:
    """Say whether a user who was found is still there, and keep it so; nobody cannot go away."""
    if attempt.user is None:
        return True
    user_id = attempt.user.user_id
    return await users.credentials_locked(change.tx, user_id, to_change=False) is not None


def _is_due(change: Change, source: Report) -> bool:
    return source.reported_at is None or change.now - source.reported_at >= ONE_ENTRY_IN


async def _record_rest(change: Change, rest: Suppressed) -> None:
    kind, _, name = rest.account.partition(":")
    user_id = parse_id(name) if kind == "user" else None
    user = await users.find(change.tx, name) if user_id is not None else None
    details = {
        "username": user.username if user is not None else NOBODY,
        "reason": Refusal.TOO_MANY_FAILURES,
        "suppressed": rest.count,
        "source": rest.source,
    }
    _record(change, "login_refused", user.id if user is not None else None, details)


async def _record_lock(change: Change, attempt: Attempt, account: Throttle, told: Report) -> None:
    lock = account.lock
    if lock is None or lock == told.recorded:
        return
    await login_throttles.note_lock(change.tx, attempt.account, lock)
    user_id = attempt.user.user_id if attempt.user is not None else None
    details = {"username": _name(attempt), "lock": lock, "failures": account.failures}
    _record(change, "lock", user_id, details)


def _name(attempt: Attempt) -> str:
    return attempt.username if attempt.user is not None else NOBODY


def _record(change: Change, action: str, user_id: UUID | None, details: dict[str, Any]) -> None:
    """Record an event, which is an aggregate of its own with this one version."""
    login_id = new_id()
    change.record(
        Event(
            action=action,
            aggregate=aggregate("login", login_id),
            aggregate_seq=1,
            resource_type="login" if user_id is None or action != "lock" else "user",
            resource_id=str(login_id if user_id is None or action != "lock" else user_id),
            details=details,
            user_id=user_id,
            category=Category.SECURITY,
        )
    )
