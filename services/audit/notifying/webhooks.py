"""Webhooks as people make them: each change is one version, with one entry in the ledger."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from services.audit.notifying.changing import Asked, Changing
from services.audit.notifying.entries import RESOURCE, Entries, Recorded
from services.audit.rules.webhook_signing import secret_key, shown
from services.audit.rules.webhook_targets import TargetRefused, Targets
from services.audit.store import webhooks
from services.audit.store.webhooks import StoredDelivery, StoredWebhook
from shared.clock import Clock
from shared.db.engine import Database
from shared.domain_error import FieldViolation
from shared.errors import (
    EtagMismatch,
    PageTokenInvalid,
    ResourceExists,
    ResourceNotFound,
    ValidationFailed,
    WebhooksTaken,
)
from shared.ids import new_id, parse_id
from shared.paging import PageTokens, page_size

MOST: Final = 100
OVERLAP: Final = timedelta(hours=24)
# What was tried before one of these changed says nothing about the receiver that is there now.
BEGINS_ANEW: Final = frozenset({"paused", "url"})
CONTENT: Final = (
    *("name", "url", "event_types", "environments", "services", "description", "paused"),
)


@dataclass(frozen=True, slots=True)
class Found:
    """A webhook, the entry of what was done to it, and its secret where that is to be shown."""

    webhook: StoredWebhook
    secret: str = field(default="", repr=False)
    recorded: Sequence[Recorded] = ()


Encode = Callable[[Found], bytes]
EncodeReceipt = Callable[[Sequence[Recorded]], bytes]


@dataclass(frozen=True, slots=True)
class ListQuery:
    """A page of a list; `method` and `caller` bind its tokens."""

    method: str
    caller: UUID
    size: int = 0
    token: str = ""
    webhook: str = ""
    state: str = ""


class Webhooks:
    """Creates, changes, deletes and lists webhooks."""

    def __init__(  # noqa: PLR0913  (what it calls)
        self,
        database: Database,
        tokens: PageTokens,
        entries: Entries,
        targets: Targets,
        *,
        secret: bytes,
        clock: Clock,
    ) -> None:
        """Take the database under the notifier's role, and whom it needs."""
        self._database = database
        self.changing = Changing(database)
        self._tokens = tokens
        self._entries = entries
        self._targets = targets
        self._secret = secret
        self._clock = clock

    async def create(self, values: Mapping[str, Any], asked: Asked, encode: Encode) -> bytes:
        """Create a webhook; raises ResourceExists, WebhooksTaken and ValidationFailed."""
        self._check(values)
        webhook_id = new_id()

        async def work(tx: AsyncConnection) -> Found:
            if await webhooks.hold_creations(tx) >= MOST:
                raise WebhooksTaken(most=MOST)
            await _unless_taken(values["name"], webhooks.create(tx, webhook_id, values))
            entry = self._entries.by_caller("create", webhook_id, 1, {"after": dict(values)})
            position = await webhooks.append_in(tx, entry)
            await webhooks.begin_at(tx, webhook_id, position + 1)
            recorded = [Recorded(entry.event_id, position)]
            return await self._found(tx, webhook_id, asked, recorded, secret=True)

        return await self.changing.answer(asked, work, encode)

    async def get(self, reference: str) -> StoredWebhook:
        """Return a webhook by name or id; raises ResourceNotFound."""
        async with self._database.snapshot() as tx:
            return await named(tx, reference)

    async def update(
        self,
        reference: str,
        etag: str,
        values: Mapping[str, Any],
        asked: Asked,
        encode: Encode,
    ) -> bytes:
        """Change what is given; raises what `create` does, ResourceNotFound and EtagMismatch."""

        async def work(tx: AsyncConnection) -> Found:
            # Here, so that a repeat is answered before anything of it is judged.
            self._check(values)
            held = await _held(tx, reference, etag)
            changed = {
                name: value for name, value in values.items() if getattr(held, name) != value
            }
            recorded = [await self._store(tx, held, "update", changed)] if changed else []
            return await self._found(tx, held.id, asked, recorded)

        return await self.changing.answer(asked, work, encode)

    async def rotate(
        self, reference: str, etag: str, overlap: timedelta | None, asked: Asked, encode: Encode
    ) -> bytes:
        """Give a webhook a new secret; raises ResourceNotFound and EtagMismatch."""
        both_for = OVERLAP if overlap is None else overlap

        async def work(tx: AsyncConnection) -> Found:
            held = await _held(tx, reference, etag)
            until = self._clock() + both_for if both_for else None
            values = {
                "secret_generation": held.secret_generation + 1,
                "previous_secret_until": until,
            }
            details = {
                "name": held.name,
                "before": {"generation": held.secret_generation},
                "after": {"generation": held.secret_generation + 1, "both_until": _text(until)},
            }
            recorded = [await self._store(tx, held, "rotate", values, details)]
            return await self._found(tx, held.id, asked, recorded, secret=True)

        return await self.changing.answer(asked, work, encode)

    async def delete(self, reference: str, etag: str, asked: Asked, encode: EncodeReceipt) -> bytes:
        """Delete a webhook; raises ResourceNotFound and EtagMismatch."""

        async def work(tx: AsyncConnection) -> Sequence[Recorded]:
            held = await _held(tx, reference, etag)
            await webhooks.remove(tx, held.id)
            details = {"before": content_of(held), "next_index": held.next_index}
            entry = self._entries.by_caller("delete", held.id, held.row_version + 1, details)
            position = await webhooks.append_in(tx, entry)
            return () if asked.validate_only else [Recorded(entry.event_id, position)]

        return await self.changing.answer(asked, work, encode)

    async def begin_again(
        self, reference: str, etag: str, from_index: int, asked: Asked, encode: Encode
    ) -> bytes:
        """Set a webhook to a position of the ledger; raises ResourceNotFound and EtagMismatch."""

        async def work(tx: AsyncConnection) -> Found:
            held = await _held(tx, reference, etag)
            details = {
                "name": held.name,
                "before": {"next_index": held.next_index},
                "after": {"next_index": from_index},
            }
            at = {"next_index": from_index, "next_part": 0, "failing_since": None}
            await webhooks.set_progress(tx, held.id, at)
            await webhooks.end_retries(tx, held.id)
            recorded = [await self._store(tx, held, "redeliver", {}, details)]
            return await self._found(tx, held.id, asked, recorded)

        return await self.changing.answer(asked, work, encode)

    async def page(self, asked: ListQuery) -> tuple[Sequence[StoredWebhook], str]:
        """Return a page of webhooks and the token of the next; raises PageTokenInvalid."""
        size = page_size(asked.size)
        position = self._position(asked, b"")
        before = UUID(str(position[0])) if position else None
        async with self._database.snapshot() as tx:
            found = await webhooks.page(tx, before, size + 1)
        if len(found) <= size:
            return found, ""
        return found[:size], self._token(asked, b"", [str(found[size - 1].id)])

    async def deliveries(self, asked: ListQuery) -> tuple[Sequence[StoredDelivery], str]:
        """Return a page of deliveries; raises PageTokenInvalid and ResourceNotFound."""
        size = page_size(asked.size)
        async with self._database.snapshot() as tx:
            webhook = await named(tx, asked.webhook)
            query = webhook.id.bytes + asked.state.encode()
            position = self._position(asked, query)
            before = webhooks.Position(*map(int, position)) if position else None
            found = await webhooks.deliveries(tx, webhook.id, before, asked.state, size + 1)
        if len(found) <= size:
            return found, ""
        last = found[size - 1]
        return found[:size], self._token(asked, query, [last.leaf_index, last.part])

    def _position(self, asked: ListQuery, query: bytes) -> Sequence[int | str]:
        if not asked.token:
            return ()
        found = self._tokens.decode(asked.method, asked.caller, query, asked.token)
        if not found:
            raise PageTokenInvalid(method=asked.method)
        return found

    def _token(self, asked: ListQuery, query: bytes, position: Sequence[int | str]) -> str:
        return self._tokens.encode(asked.method, asked.caller, query, position)

    def _check(self, values: Mapping[str, Any]) -> None:
        if "url" in values:
            try:
                self._targets.check_url(values["url"])
            except TargetRefused as refused:
                violation = FieldViolation("url", str(refused), "webhook.url")
                first = f"url: {refused}"
                raise ValidationFailed(count=1, first=first, fields=(violation,)) from None

    async def _store(
        self,
        tx: AsyncConnection,
        held: StoredWebhook,
        action: str,
        values: Mapping[str, Any],
        details: Mapping[str, Any] | None = None,
    ) -> Recorded:
        """Write the next version of a webhook, and its entry."""
        told = details or {
            "name": held.name,
            "before": {name: getattr(held, name) for name in values},
            "after": dict(values),
        }
        version = held.row_version + 1
        # Whoever pauses or resumes it knows better than what the service thought of it.
        why = {"paused_because": ""} if "paused" in values else {}
        again = {"failing_since": None, "last_error": ""}
        written = webhooks.change(tx, held.id, version, {**values, **why})
        await _unless_taken(values.get("name", ""), written)
        if values.keys() & BEGINS_ANEW:
            await webhooks.set_progress(tx, held.id, again)
            await webhooks.end_retries(tx, held.id)
        entry = self._entries.by_caller(action, held.id, version, told)
        return Recorded(entry.event_id, await webhooks.append_in(tx, entry))

    async def _found(
        self,
        tx: AsyncConnection,
        webhook_id: UUID,
        asked: Asked,
        recorded: Sequence[Recorded],
        *,
        secret: bool = False,
    ) -> Found:
        """Return what is answered; of a rehearsal neither entry nor secret, which end with it."""
        found = await named(tx, str(webhook_id))
        if asked.validate_only:
            return Found(found)
        if not secret:
            return Found(found, recorded=recorded)
        key = secret_key(self._secret, found.id, found.secret_generation)
        return Found(found, shown(key), recorded)


def content_of(webhook: StoredWebhook) -> dict[str, Any]:
    """Return what an entry tells of a webhook."""
    return {name: getattr(webhook, name) for name in CONTENT}


async def named(tx: AsyncConnection, reference: str, *, hold: bool = False) -> StoredWebhook:
    """Return a webhook by id or by name; raises ResourceNotFound."""
    webhook_id = parse_id(reference)
    found = None
    if webhook_id is not None:
        found = await webhooks.find(tx, webhook_id=webhook_id, hold=hold)
    if found is None:  # a name may have the form of an id
        found = await webhooks.find(tx, name=reference, hold=hold)
    if found is None:
        raise ResourceNotFound(resource_type=RESOURCE, resource=reference)
    return found


async def _held(tx: AsyncConnection, reference: str, etag: str) -> StoredWebhook:
    held = await named(tx, reference, hold=True)
    if etag and etag != str(held.row_version):
        raise EtagMismatch(resource_type=RESOURCE, current=held.row_version)
    return held


async def _unless_taken(name: str, written: Any) -> None:  # noqa: ANN401  (a coroutine)
    try:
        await written
    except IntegrityError as error:
        if webhooks.NAME_INDEX in str(error.orig):
            raise ResourceExists(resource_type=RESOURCE, resource=name) from error
        raise


def _text(moment: Any) -> str | None:  # noqa: ANN401  (a time or None)
    return None if moment is None else moment.isoformat()
