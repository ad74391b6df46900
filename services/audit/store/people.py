"""Who is meant by a user name or id; what was looked up is believed for a moment."""

import time
from collections.abc import Iterable
from uuid import UUID

from sqlalchemy import func, or_, select

from shared.db.engine import Database
from shared.db.models.identity import User
from shared.errors import ResourceNotFound
from shared.ids import parse_id

MAXIMUM = 10_000
BELIEVED_S = 2.0


class People:
    """Users by name or id, each looked up at most once in two seconds."""

    def __init__(self, database: Database) -> None:
        """Prepare a look-up in the database's users."""
        self._database = database
        self._known: dict[str, tuple[UUID, float]] = {}

    async def resolve(self, names: Iterable[str]) -> dict[str, UUID]:
        """Return the id of each user that exists, by the name or id under which it was asked for.

        Names compare without regard to case, as they are unique.
        """
        now = time.monotonic()
        found: dict[str, UUID] = {}
        missing: set[str] = set()
        for name in set(names):
            user, until = self._known.get(name, (None, 0.0))
            if user is not None and until > now:
                found[name] = user
            else:
                missing.add(name)
        if missing:
            looked_up = await self._look_up(missing)
            if len(self._known) + len(looked_up) > MAXIMUM:
                self._known.clear()
            self._known |= {name: (user, now + BELIEVED_S) for name, user in looked_up.items()}
            found |= looked_up
        return found

    async def one(self, name: str) -> UUID:
        """Return the id of one user; raises ResourceNotFound."""
        user = (await self.resolve([name])).get(name)
        if user is None:
            raise unknown_user(name)
        return user

    async def _look_up(self, names: set[str]) -> dict[str, UUID]:
        ids = {name: parse_id(name) for name in names}
        wanted = [user for user in ids.values() if user is not None]
        lowered = [name.lower() for name, user in ids.items() if user is None]
        query = select(User.id, func.lower(User.username)).where(
            or_(User.id.in_(wanted), func.lower(User.username).in_(lowered))
        )
        async with self._database.snapshot() as tx:
            rows = (await tx.execute(query)).all()
        by_id = {row[0] for row in rows}
        by_name = {row[1]: row[0] for row in rows}
        return {
            name: user
            for name in names
            if (user := by_name.get(name.lower()) if ids[name] is None else ids[name]) is not None
            and user in by_id
        }


def unknown_user(name: str) -> ResourceNotFound:
    """Return the error for a user that does not exist."""
    return ResourceNotFound(resource_type="user", resource=name)
