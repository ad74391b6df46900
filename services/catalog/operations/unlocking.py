"""Unlocking an account, for an operator: there may be no admin left who could do it."""

from sqlalchemy import func, select

from services.catalog.operations import people
from services.catalog.operations.recording import aggregate
from services.catalog.rules.resources import User
from services.catalog.rules.throttling import account_of
from services.catalog.store import login_throttles
from shared.db.engine import Database
from shared.ids import new_id
from shared.outbox.append import append_events
from shared.outbox.events import Category, Event

PRODUCER = "catalog"


async def unlock(db: Database, reference: str) -> User:
    """Forget the failed log-ins of a person, by user name or id, and record that.

    Password, sessions and version of the person stay as they are, so the entry is an aggregate of
    its own, as that of the lock is. Raises ResourceNotFound, and ValidationFailed for a program.
    """
    async with db.transaction() as tx:
        user = await people.find(tx, reference)
        suppressed = await login_throttles.forget(tx, account_of(user.id, user.username))
        now = (await tx.execute(select(func.clock_timestamp()))).scalar_one()
        event = Event(
            action="unlock",
            aggregate=aggregate("login", new_id()),
            aggregate_seq=1,
            resource_type=people.KIND,
            resource_id=str(user.id),
            details={"username": user.username, "log_ins_suppressed": suppressed},
            category=Category.SECURITY,
        )
        await append_events(tx, producer=PRODUCER, call=None, now=now, events=[(new_id(), event)])
    return user
