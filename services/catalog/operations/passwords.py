"""Passwords set anew: by their owner, who knows the old one, or by an admin."""

from dataclasses import replace

from services.catalog.operations import changing, people, refusals, sessions
from services.catalog.operations.logins import Attempt, LogIns, Refusal
from services.catalog.rules.passwords import check_password, refused_password
from services.catalog.rules.resources import User
from services.catalog.rules.throttling import account_of
from services.catalog.store import login_throttles, users
from shared.db.engine import Database
from shared.errors import LoginRefused, NotPermitted, ResourceNotFound
from shared.identity.actor import Actor, ActorKind
from shared.identity.passwords import Passwords
from shared.outbox.change import Change
from shared.outbox.events import Category

REHEARSED = "never stored"


async def hash_of(
    passwords: Passwords, password: str, *, username: str, email: str, rehearsal: bool
) -> str:
    """Return the hash of somebody's new password, after checking it; a rehearsal needs no hash.

    Raises ValidationFailed and LoginBusy.
    """
    check_password("password", password, username=username, email=email)
    return REHEARSED if rehearsal else await passwords.hash(password)


async def hash_for(
    db: Database, passwords: Passwords, reference: str, password: str, *, rehearsal: bool
) -> str | None:
    """Return the hash of a new password for a person, None when there is none of that name.

    Then the change says so, unless it is the repeat of one that was made while they were there.
    Raises ValidationFailed and LoginBusy.
    """
    try:
        async with db.snapshot() as tx:
            user = await people.find(tx, reference)
    except ResourceNotFound:
        return None
    return await hash_of(
        passwords, password, username=user.username, email=user.email, rehearsal=rehearsal
    )


async def reset(change: Change, reference: str, hashed: str | None) -> User:
    """Give a person a first password, end all sessions, and forget failed log-ins.

    Raises ResourceNotFound, also without a hash: there was nobody whose password could be hashed.
    """
    if hashed is None:
        raise ResourceNotFound(resource_type=people.KIND, resource=reference)
    user = await people.to_change(change, reference)
    changed = replace(user, password_change_required=True)
    stored = await _store(change, "reset_password", user, changed, hashed)
    await sessions.end_all(change, user.id, "password_reset")
    return stored


class PasswordChange:
    """The caller's own password, changed."""

    def __init__(self, db: Database, passwords: Passwords, log_ins: LogIns) -> None:
        """Compare the old one by `log_ins`, hash the new one by `passwords`."""
        self._db = db
        self._passwords = passwords
        self._log_ins = log_ins

    async def attempt(self, actor: Actor, current: str, new: str) -> tuple[Attempt, str]:
        """Compare the current password and hash the new one, which is done only if that is right.

        Raises NotPermitted for a program, ValidationFailed for the new one, and LoginBusy.
        """
        if actor.kind is not ActorKind.PERSON:
            raise NotPermitted(action="change a password", because="a program has none")
        async with self._db.snapshot() as tx:
            user = await people.find(tx, str(actor.user_id))
            credentials = await users.credentials_of(tx, user.id)
        check_password("new_password", new, username=user.username, email=user.email)
        if new == current:
            raise refused_password("new_password", "must be another one", "password.same")
        attempt = await self._log_ins.attempt_of(credentials, current)
        hashed = "" if attempt.refusal is not None else await self._passwords.hash(new)
        return attempt, hashed

    async def store(self, change: Change, attempt: Attempt, hashed: str) -> None:
        """Store the new password, and end all sessions but the one of this call.

        A wrong one is recorded, and answered with LoginRefused.
        """
        refusal = attempt.refusal or await sessions.refusal_now(
            change, replace(attempt, check=replace(attempt.check, rehashed=hashed))
        )
        if refusal is not None or attempt.user is None:
            await refusals.record(change, attempt, refusal or Refusal.UNKNOWN_USER)
            change.refuse(LoginRefused())
            return
        user = await people.to_change(change, str(attempt.user.user_id))
        changed = replace(user, password_change_required=False)
        await _store(change, "change_password", user, changed, hashed)
        await sessions.end_all(change, user.id, "password_changed", but=change.actor.session_id)


async def _store(change: Change, action: str, user: User, changed: User, hashed: str) -> User:
    suppressed = await login_throttles.forget(change.tx, account_of(user.id, user.username))
    return await changing.store(
        change,
        people.KIND,
        action,
        user,
        changed,
        category=Category.SECURITY,
        details={"log_ins_suppressed": suppressed} if suppressed else None,
        unsaid={"password_hash": hashed},
    )
