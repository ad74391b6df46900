"""Write audit events into the outbox, in the transaction of the change they tell of."""

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.db.models.outbox import OutboxEvent
from shared.db.violations import constraint_name
from shared.identity.actor import Call
from shared.outbox.announcing import announce
from shared.outbox.events import Event, jsonable

PARTITIONS = 8
_CATEGORIES = {"change": "AUDIT_CATEGORY_CHANGE", "security": "AUDIT_CATEGORY_SECURITY"}


class VersionToldTwice(Exception):
    """Two changes claim to have made the same version of an aggregate: a fault of ours."""


def partition_of(aggregate: str) -> int:
    """Return the partition that keeps the events of an aggregate in order."""
    return hashlib.sha256(aggregate.encode()).digest()[0] % PARTITIONS


async def append_events(
    tx: AsyncConnection,
    *,
    producer: str,
    call: Call | None,
    now: datetime,
    events: Sequence[tuple[UUID, Event]],
) -> None:
    """Insert the events, each under its id; `call` is None for what the system does by itself.

    Raises VersionToldTwice when a version of an aggregate has an event already.
    """
    if not events:
        return
    rows = [
        {
            "event_id": event_id,
            "producer": producer,
            "aggregate": event.aggregate,
            "aggregate_seq": event.aggregate_seq,
            "partition": partition_of(event.aggregate),
            "event": _envelope(event_id, event, call, now),
        }
        for event_id, event in events
    ]
    try:
        await tx.execute(insert(OutboxEvent), rows)
    except IntegrityError as broken:
        if constraint_name(broken) != "uq_outbox_producer_aggregate_aggregate_seq":
            raise
        told = ", ".join(f"{event.aggregate} {event.aggregate_seq}" for _, event in events)
        # Not `from broken`: to a caller a broken constraint would mean that theirs exists already.
        raise VersionToldTwice(f"One of these versions was told twice: {told}") from None
    await announce(tx, [event.aggregate for _, event in events])


def _envelope(event_id: UUID, event: Event, call: Call | None, now: datetime) -> dict[str, Any]:
    """Return the event in the JSON form of `AuditEvent`, which is what the relay sends."""
    actor = call.actor if call else None
    user_id = event.user_id or (actor.user_id if actor else None)
    details = dict(event.details)
    if call is not None:
        details["request_id"] = call.request_id
    if actor is not None and actor.on_behalf_of is not None:
        details["on_behalf_of"] = actor.on_behalf_of
    envelope = {
        "eventId": event_id,
        "occurredAt": now,
        "user": user_id,
        "action": event.action,
        "resourceType": event.resource_type,
        "resourceId": event.resource_id,
        "details": details,
        "ipAddress": call.ip_address if call else None,
        "userAgent": call.user_agent if call else None,
        "category": _CATEGORIES[event.category],
        "aggregate": event.aggregate,
        "aggregateSeq": event.aggregate_seq,
    }
    present = {name: value for name, value in envelope.items() if value not in (None, "")}
    result: dict[str, Any] = jsonable(present)
    return result
