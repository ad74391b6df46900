"""Webhooks and deliveries as wire messages."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from release_manager.audit.v1 import notifications_pb2 as pb
from release_manager.common.v1 import audit_receipt_pb2

from services.audit.notifying.entries import Recorded
from services.audit.notifying.trying import SentAgain, Tried
from services.audit.notifying.webhooks import Found
from services.audit.rules.happenings import EventType
from services.audit.store.webhooks import StoredWebhook

_PREFIX = "WEBHOOK_EVENT_TYPE_"
_TYPES = {kind.value: pb.WebhookEventType.Value(_PREFIX + kind.name) for kind in EventType}
_STORED_TYPES = {number: stored for stored, number in _TYPES.items()}
STATES: Mapping[pb.WebhookDeliveryState.ValueType, str] = {
    pb.WEBHOOK_DELIVERY_STATE_UNSPECIFIED: "",
    pb.WEBHOOK_DELIVERY_STATE_DELIVERED: "delivered",
    pb.WEBHOOK_DELIVERY_STATE_RETRYING: "retrying",
    pb.WEBHOOK_DELIVERY_STATE_GIVEN_UP: "given-up",
    pb.WEBHOOK_DELIVERY_STATE_REFUSED: "refused",
}
_STATE_ENUM = {stored: number for number, stored in STATES.items()}


def content(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields of a request as they are stored."""
    values = dict(given)
    if "event_types" in values:
        values["event_types"] = [_STORED_TYPES[number] for number in values["event_types"]]
    for name in ("environments", "services"):
        if name in values:
            values[name] = list(values[name])
    return values


def new(request: pb.CreateWebhookRequest) -> dict[str, Any]:
    """Return what a new webhook is."""
    names = ("name", "url", "event_types", "environments", "services", "description", "paused")
    return content({name: getattr(request, name) for name in names})


def webhook(stored: StoredWebhook) -> pb.Webhook:
    """Return a webhook."""
    return pb.Webhook(
        id=str(stored.id),
        name=stored.name,
        url=stored.url,
        event_types=[_TYPES[kind] for kind in stored.event_types],
        environments=stored.environments,
        services=stored.services,
        description=stored.description,
        paused=stored.paused,
        state=_state(stored),
        paused_because=stored.paused_because,
        next_index=stored.next_index,
        first_failed_at=_timestamp(stored.failing_since),
        delivered_at=_timestamp(stored.delivered_at),
        last_error=stored.last_error,
        previous_key_ends_at=_timestamp(stored.previous_secret_until),
        etag=str(stored.row_version),
        created_at=_timestamp(stored.created_at),
        updated_at=_timestamp(stored.updated_at),
    )


def created(found: Found) -> bytes:
    """Return a new webhook with its secret."""
    answer = pb.CreateWebhookResponse(
        webhook=webhook(found.webhook), secret=found.secret, audit=_receipt(found.recorded)
    )
    return answer.SerializeToString(deterministic=True)


def updated(found: Found) -> bytes:
    """Return a webhook after a change."""
    answer = pb.UpdateWebhookResponse(
        webhook=webhook(found.webhook), audit=_receipt(found.recorded)
    )
    return answer.SerializeToString(deterministic=True)


def deleted(recorded: Sequence[Recorded]) -> bytes:
    """Return where the entry of a deletion is."""
    answer = pb.DeleteWebhookResponse(audit=_receipt(recorded))
    return answer.SerializeToString(deterministic=True)


def rotated(found: Found) -> bytes:
    """Return a webhook with its new secret."""
    answer = pb.RotateWebhookSecretResponse(
        webhook=webhook(found.webhook), secret=found.secret, audit=_receipt(found.recorded)
    )
    return answer.SerializeToString(deterministic=True)


def begun_again(found: Found) -> bytes:
    """Return a webhook that was set to a position."""
    answer = pb.RedeliverWebhookEventResponse(
        webhook=webhook(found.webhook), audit=_receipt(found.recorded)
    )
    return answer.SerializeToString(deterministic=True)


def sent_again(
    stored: StoredWebhook, deliveries: Sequence[SentAgain]
) -> pb.RedeliverWebhookEventResponse:
    """Return what came back for the events of an entry."""
    return pb.RedeliverWebhookEventResponse(
        webhook=webhook(stored),
        deliveries=[delivery(sent.row) for sent in deliveries],
        audit=_receipt([sent.recorded for sent in deliveries if sent.recorded is not None]),
    )


def tried(test: Tried) -> pb.TestWebhookResponse:
    """Return what came back for a test."""
    taken = test.answer.is_taken
    return pb.TestWebhookResponse(
        delivery=pb.WebhookDelivery(
            event_id=test.event_id,
            state=_STATE_ENUM["delivered" if taken else "refused"],
            attempts=1,
            first_attempt_at=_timestamp(test.at),
            last_attempt_at=_timestamp(test.at),
            status_code=test.answer.status,
            error=test.answer.error,
            latency=_duration(int(test.answer.latency.total_seconds() * 1000)),
        )
    )


def delivery(row: Any) -> pb.WebhookDelivery:  # noqa: ANN401  (a row, by names)
    """Return a delivery."""
    return pb.WebhookDelivery(
        event_id=row["event_id"],
        leaf_index=row["leaf_index"],
        event_type=_TYPES[row["event_type"]],
        state=_STATE_ENUM[row["state"]],
        attempts=row["attempts"],
        first_attempt_at=_timestamp(row["first_attempt_at"]),
        last_attempt_at=_timestamp(row["last_attempt_at"]),
        next_attempt_at=_timestamp(row["next_attempt_at"]),
        status_code=row["status_code"],
        error=row["error"],
        latency=_duration(row["latency_ms"]),
    )


def _receipt(recorded: Sequence[Recorded]) -> audit_receipt_pb2.AuditReceipt | None:
    """Return where entries are; they are in the ledger, since the change was made with them."""
    if not recorded:
        return None
    return audit_receipt_pb2.AuditReceipt(
        state=audit_receipt_pb2.AUDIT_STATE_RECORDED,
        event_ids=[str(entry.event_id) for entry in recorded],
        leaf_indexes=[entry.leaf_index for entry in recorded],
    )


def _state(stored: StoredWebhook) -> pb.WebhookState.ValueType:
    if stored.paused:
        return pb.WEBHOOK_STATE_PAUSED
    failing = stored.failing_since is not None
    return pb.WEBHOOK_STATE_FAILING if failing else pb.WEBHOOK_STATE_ACTIVE


def _timestamp(moment: datetime | None) -> Timestamp | None:
    if moment is None:
        return None
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp


def _duration(milliseconds: int) -> Duration:
    duration = Duration()
    duration.FromMilliseconds(milliseconds)
    return duration
