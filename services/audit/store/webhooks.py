"""Webhooks in the database: what they are, how far they are, what came back."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import Row, delete, func, select, text, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from services.audit.rules.events import Sealed
from services.audit.store.appending import append
from shared.db.models.webhooks import Webhook, WebhookDelivery, WebhookProgress

# The key space of the advisory locks of senders; the other half of the key is that of a webhook.
SENDERS: Final = 0x77686F6B
_CREATIONS: Final = 0x77686F6B63726561
NAME_INDEX: Final = "uq_webhooks_name"

StoredWebhook = Row[Any]
StoredDelivery = Row[Any]

_WHOLE = (
    select(
        Webhook.__table__,
        *(column for column in WebhookProgress.__table__.columns if column.name != "webhook_id"),
    )
    .select_from(Webhook)
    .join(WebhookProgress, WebhookProgress.webhook_id == Webhook.id)
)


class Position(NamedTuple):
    """A place in the ledger: an entry, and an event of it."""

    leaf_index: int
    part: int = 0


async def append_in(tx: AsyncConnection, entry: Sealed) -> int:
    """Append an entry in the transaction of what it tells; return its position.

    Nothing slow may follow: until the commit nobody else appends.
    """
    raw = await tx.get_raw_connection()
    driver: Any = raw.driver_connection
    (placed,) = await append(driver, [entry])
    return placed.leaf_index


async def hold_creations(tx: AsyncConnection) -> int:
    """Let nobody else create a webhook before this transaction ends; return how many there are."""
    await tx.execute(select(func.pg_advisory_xact_lock(_CREATIONS)))
    return int((await tx.execute(select(func.count()).select_from(Webhook))).scalar_one())


async def create(tx: AsyncConnection, webhook_id: UUID, values: Mapping[str, Any]) -> None:
    """Insert a webhook of version 1."""
    await tx.execute(
        insert(Webhook).values(id=webhook_id, row_version=1, created_at=_NOW, **values)
    )


async def begin_at(tx: AsyncConnection, webhook_id: UUID, next_index: int) -> None:
    """Say where a new webhook begins."""
    await tx.execute(insert(WebhookProgress).values(webhook_id=webhook_id, next_index=next_index))


async def find(
    tx: AsyncConnection, *, webhook_id: UUID | None = None, name: str = "", hold: bool = False
) -> StoredWebhook | None:
    """Return a webhook by id or by name, in whatever case; with `hold` nobody else changes it."""
    matching = Webhook.id == webhook_id if webhook_id else func.lower(Webhook.name) == name.lower()
    statement = _WHOLE.where(matching)
    if hold:
        statement = statement.with_for_update(of=(Webhook.__table__, WebhookProgress.__table__))
    return (await tx.execute(statement)).one_or_none()


async def page(tx: AsyncConnection, before: UUID | None, limit: int) -> Sequence[StoredWebhook]:
    """Return webhooks, the newest first, from the one before `before` on."""
    statement = _WHOLE.order_by(Webhook.id.desc()).limit(limit)
    if before is not None:
        statement = statement.where(Webhook.id < before)
    return (await tx.execute(statement)).all()


async def change(
    tx: AsyncConnection, webhook_id: UUID, version: int, values: Mapping[str, Any]
) -> None:
    """Write the next version of a webhook that is held."""
    await tx.execute(
        update(Webhook).where(Webhook.id == webhook_id).values(row_version=version, **values)
    )


async def remove(tx: AsyncConnection, webhook_id: UUID) -> None:
    """Delete a webhook with all that belongs to it."""
    await tx.execute(delete(Webhook).where(Webhook.id == webhook_id))


async def advance(
    tx: AsyncConnection, webhook_id: UUID, before: Position, values: Mapping[str, Any]
) -> bool:
    """Write how far a webhook is, unless it is not where this sender left it."""
    done = await tx.execute(
        update(WebhookProgress)
        .where(
            WebhookProgress.webhook_id == webhook_id,
            WebhookProgress.next_index == before.leaf_index,
            WebhookProgress.next_part == before.part,
        )
        .values(**values)
    )
    return bool(done.rowcount)


async def set_progress(tx: AsyncConnection, webhook_id: UUID, values: Mapping[str, Any]) -> None:
    """Write how far a webhook that is held is."""
    await tx.execute(
        update(WebhookProgress).where(WebhookProgress.webhook_id == webhook_id).values(**values)
    )


async def delivery(tx: AsyncConnection, webhook_id: UUID, at: Position) -> StoredDelivery | None:
    """Return what is known of an event that was sent."""
    statement = select(WebhookDelivery.__table__).where(
        WebhookDelivery.webhook_id == webhook_id,
        WebhookDelivery.leaf_index == at.leaf_index,
        WebhookDelivery.part == at.part,
    )
    return (await tx.execute(statement)).one_or_none()


async def put_delivery(tx: AsyncConnection, values: Mapping[str, Any]) -> None:
    """Write what came back for an event, in the place of what came back before."""
    statement = insert(WebhookDelivery).values(**values)
    changed = {name: statement.excluded[name] for name in values if name not in _DELIVERY_KEY}
    await tx.execute(
        statement.on_conflict_do_update(index_elements=list(_DELIVERY_KEY), set_=changed)
    )


async def end_retries(tx: AsyncConnection, webhook_id: UUID) -> None:
    """Let nothing of a webhook be on its way, since it begins elsewhere."""
    await tx.execute(
        update(WebhookDelivery)
        .where(WebhookDelivery.webhook_id == webhook_id, WebhookDelivery.state == "retrying")
        .values(state="refused", next_attempt_at=None)
    )


async def deliveries(
    tx: AsyncConnection, webhook_id: UUID, before: Position | None, state: str, limit: int
) -> Sequence[StoredDelivery]:
    """Return deliveries, the newest event first, from the one before `before` on."""
    keys = tuple_(WebhookDelivery.leaf_index, WebhookDelivery.part)
    statement = (
        select(WebhookDelivery.__table__)
        .where(WebhookDelivery.webhook_id == webhook_id)
        .order_by(WebhookDelivery.leaf_index.desc(), WebhookDelivery.part.desc())
        .limit(limit)
    )
    if state:
        statement = statement.where(WebhookDelivery.state == state)
    if before is not None:
        statement = statement.where(keys < tuple_(*before))
    return (await tx.execute(statement)).all()


async def forget_deliveries(
    tx: AsyncConnection, now: datetime, kept: timedelta, given_up_kept: timedelta, limit: int
) -> int:
    """Delete old deliveries, at most `limit` of them; return how many."""
    old = (
        select(WebhookDelivery.webhook_id, WebhookDelivery.leaf_index, WebhookDelivery.part)
        .where(
            WebhookDelivery.last_attempt_at < now - kept,
            WebhookDelivery.state != "retrying",
            (WebhookDelivery.state != "given-up")
            | (WebhookDelivery.last_attempt_at < now - given_up_kept),
        )
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    key = tuple_(WebhookDelivery.webhook_id, WebhookDelivery.leaf_index, WebhookDelivery.part)
    return (await tx.execute(delete(WebhookDelivery).where(key.in_(old)))).rowcount


async def sending(tx: AsyncConnection) -> dict[UUID, int]:
    """Return the webhooks that are not paused, with their versions."""
    found = await tx.execute(select(Webhook.id, Webhook.row_version).where(~Webhook.paused))
    return {row.id: row.row_version for row in found}


async def take(tx: AsyncConnection, webhook_id: UUID) -> bool:
    """Become the one sender of a webhook, until the connection ends or `give_back`."""
    return bool((await tx.execute(_TAKE, {"space": SENDERS, "key": _key(webhook_id)})).scalar_one())


async def give_back(tx: AsyncConnection, webhook_id: UUID) -> None:
    """Let another process become the sender."""
    await tx.execute(_GIVE_BACK, {"space": SENDERS, "key": _key(webhook_id)})


def _key(webhook_id: UUID) -> int:
    """Return 32 random bits of an id; two webhooks that share them share a sender."""
    return int.from_bytes(webhook_id.bytes[-4:], signed=True)


_NOW = func.clock_timestamp()
_DELIVERY_KEY = ("webhook_id", "leaf_index", "part")
_TAKE = text("SELECT pg_try_advisory_lock(CAST(:space AS integer), CAST(:key AS integer))")
_GIVE_BACK = text("SELECT pg_advisory_unlock(CAST(:space AS integer), CAST(:key AS integer))")
