"""Legal holds: what must stay as it is until somebody says otherwise."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from services.audit.retention.announcing import Announcer
from services.audit.store import retention
from services.audit.store.retention import Hold
from shared.db.engine import Database
from shared.errors import PageTokenInvalid, ResourceExists, ResourceNotFound
from shared.identity.actor import caller
from shared.ids import parse_id
from shared.paging import PageTokens, page_size

RESOURCE = "legal_hold"
TITLE = "legal hold"
_CONTENT = tuple(name for name in Hold.__slots__ if name not in {"id", "name", "placed_by"})

StoredHold = Row[Any]


@dataclass(frozen=True, slots=True)
class HoldsQuery:
    """A page of holds that somebody asks for; `method` and `caller` bind its tokens."""

    method: str
    caller: UUID
    size: int = 0
    token: str = ""
    released: bool = False


@dataclass(frozen=True, slots=True)
class HoldsPage:
    """Holds, the newest first, and the token of the next page ("" at the end)."""

    holds: Sequence[StoredHold]
    next_token: str = ""


class Holds:
    """Places, releases and lists holds."""

    def __init__(
        self, keeper: Database, reader: Database, tokens: PageTokens, announcer: Announcer
    ) -> None:
        """Take databases under the keeper's and the reader's role, and whom it needs."""
        self._keeper = keeper
        self._reader = reader
        self._tokens = tokens
        self._announcer = announcer

    async def place(
        self, wanted: Hold, told: dict[str, Any], *, validate_only: bool = False
    ) -> StoredHold | Hold:
        """Place a hold, or return the one in force with the same name and content.

        With `validate_only`, return what would be placed. `told` is the filter as the entry tells
        it. Raises ResourceExists.
        """
        details = {"name": wanted.name, "filter": told, "reason": wanted.reason}
        entry = self._announcer.entry("create", RESOURCE, str(wanted.id), details)
        async with retention.rehearsal(self._keeper, validate_only=validate_only) as driver:
            outcome, hold_id = await retention.place_hold(driver, entry, wanted)
        if validate_only and outcome == "placed":
            return wanted
        stored = await self._named(str(hold_id))
        is_same = all(getattr(stored, name) == getattr(wanted, name) for name in _CONTENT)
        if outcome == "known" and (not is_same or stored.released_at is not None):
            raise ResourceExists(resource_type=TITLE, resource=wanted.name)
        return stored

    async def release(self, name: str, because: str, *, validate_only: bool = False) -> StoredHold:
        """Release a hold by name or id; one that was released already stays as it is.

        Raises ResourceNotFound.
        """
        found = await self._named(name)
        if found.released_at is None:
            details = {"name": found.name, "reason": because}
            entry = self._announcer.entry("release", RESOURCE, str(found.id), details)
            async with retention.rehearsal(self._keeper, validate_only=validate_only) as driver:
                await retention.release_hold(driver, entry, found.id, caller().user_id, because)
        return await self._named(str(found.id))

    async def _named(self, name: str) -> StoredHold:
        hold_id = parse_id(name)
        found: StoredHold | None = None
        async with self._reader.snapshot() as tx:
            if hold_id is not None:
                found = await retention.hold_with_id(tx, hold_id)
            if found is None:  # a name may have the form of an id
                found = await retention.hold_named(tx, name)
        if found is None:
            raise ResourceNotFound(resource_type=TITLE, resource=name)
        return found

    async def page(self, asked: HoldsQuery) -> HoldsPage:
        """Return a page; raises PageTokenInvalid."""
        query = b"released" * asked.released
        size = page_size(asked.size)
        before = None
        if asked.token:
            match self._tokens.decode(asked.method, asked.caller, query, asked.token):
                case [str(text)]:
                    before = UUID(text)
                case _:
                    raise PageTokenInvalid(method=asked.method)
        async with self._reader.snapshot() as tx:
            found = await retention.holds(
                tx, before=before, released=asked.released, limit=size + 1
            )
        if len(found) <= size:
            return HoldsPage(found)
        position = [str(found[size - 1].id)]
        token = self._tokens.encode(asked.method, asked.caller, query, position)
        return HoldsPage(found[:size], token)
