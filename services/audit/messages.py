"""Wire messages to commands and back."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from google.protobuf.struct_pb2 import ListValue, Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp
from release_manager.audit.v1 import audit_pb2 as pb

from services.audit.export import Chunk
from services.audit.ledger import Logged, Refused
from services.audit.reading import Entry, Page
from services.audit.rules.canonical import MAX_EXACT
from services.audit.rules.events import Event, address_text, microseconds
from services.audit.store.queries import DEFAULT_CATEGORIES, Filter

CATEGORIES = {
    pb.AUDIT_CATEGORY_CHANGE: "change",
    pb.AUDIT_CATEGORY_ACCESS: "access",
    pb.AUDIT_CATEGORY_SECURITY: "security",
}
_CATEGORY_ENUM = {stored: number for number, stored in CATEGORIES.items()}


def new_event(event: pb.AuditEvent) -> Event:
    """Return the event of a request."""
    return Event(
        action=event.action,
        resource_type=event.resource_type,
        resource_id=event.resource_id,
        event_id=UUID(event.event_id) if event.event_id else None,
        occurred_at=_moment(event.occurred_at) if event.HasField("occurred_at") else None,
        user=event.user or None,
        details=_object(event.details),
        ip_address=event.ip_address or None,
        user_agent=event.user_agent or None,
        category=CATEGORIES.get(event.category, "change"),
        aggregate=event.aggregate or None,
        aggregate_seq=event.aggregate_seq or None,
    )


def _moment(timestamp: Timestamp) -> datetime:
    """Return the time to the microsecond, cutting off what is finer."""
    moment = datetime.fromtimestamp(timestamp.seconds, UTC)
    return moment.replace(microsecond=timestamp.nanos // 1000)


def _timestamp(moment: datetime) -> Timestamp:
    seconds, micros = divmod(microseconds(moment), 1_000_000)
    return Timestamp(seconds=seconds, nanos=micros * 1000)


def _object(struct: Struct | Mapping[str, Value]) -> dict[str, object]:
    fields = struct.fields if isinstance(struct, Struct) else struct
    return {key: _json(value) for key, value in fields.items()}


def _json(value: Value) -> object:
    """Return a JSON value; whole numbers become int, as long as a double holds them exactly."""
    match value.WhichOneof("kind"):
        case "string_value":
            return value.string_value
        case "number_value":
            number = value.number_value
            exact = number.is_integer() and abs(number) <= MAX_EXACT
            return int(number) if exact else number
        case "bool_value":
            return value.bool_value
        case "struct_value":
            return _object(value.struct_value)
        case "list_value":
            return [_json(item) for item in value.list_value.values]
        case _:
            return None


def new_filter(wanted: pb.AuditLogFilter, user_id: UUID | None) -> Filter:
    """Return the filter of a request, whose user was looked up before."""
    category = CATEGORIES.get(wanted.category)
    return Filter(
        user_id=user_id,
        action=wanted.action or None,
        resource_type=wanted.resource_type or None,
        resource_id=wanted.resource_id or None,
        start=_moment(wanted.start_date) if wanted.HasField("start_date") else None,
        end=_moment(wanted.end_date) if wanted.HasField("end_date") else None,
        producer=wanted.producer or None,
        categories=DEFAULT_CATEGORIES if category is None else (category,),
    )


def logged(outcome: Logged) -> pb.AuditLog:
    """Return the entry that a new event became, with the details as they are stored."""
    event, place = outcome.event, outcome.place
    return pb.AuditLog(
        id=str(place.audit_log_id),
        leaf_index=place.leaf_index,
        event_id=str(event.event_id),
        created_at=_timestamp(place.created_at),
        occurred_at=_timestamp(event.occurred_at),
        user_id="" if event.user_id is None else str(event.user_id),
        action=event.action,
        resource_type=event.resource_type,
        resource_id=event.resource_id,
        details=_struct(event.stored_details()),
        ip_address=event.ip_address or "",
        user_agent=event.user_agent or "",
        category=_CATEGORY_ENUM[event.category],
        producer=event.producer,
        aggregate=event.aggregate or "",
        aggregate_seq=event.aggregate_seq or 0,
        leaf_hash=outcome.leaf_hash,
    )


def entry(row: Entry) -> pb.AuditLog:
    """Return a stored entry."""
    return pb.AuditLog(
        id=str(row.id),
        leaf_index=row.leaf_index,
        event_id=str(row.event_id),
        created_at=_timestamp(row.created_at),
        occurred_at=_timestamp(row.occurred_at),
        user_id="" if row.user_id is None else str(row.user_id),
        action=row.action,
        resource_type=row.resource_type,
        resource_id=row.resource_id,
        details=_struct(row.details),
        ip_address="" if row.ip_address is None else address_text(row.ip_address),
        user_agent=row.user_agent,
        category=_CATEGORY_ENUM[row.category],
        producer=row.producer,
        aggregate=row.aggregate,
        aggregate_seq=row.aggregate_seq,
        leaf_hash=row.leaf_hash,
    )


def _struct(details: Mapping[str, Any]) -> Struct:
    struct = Struct()
    for key, value in details.items():
        _fill(struct.fields[key], value)
    return struct


def _fill(target: Value, value: object) -> None:
    if value is None:
        target.null_value = 0  # type: ignore[assignment]
    elif isinstance(value, bool):
        target.bool_value = value
    elif isinstance(value, int | float):
        target.number_value = value
    elif isinstance(value, str):
        target.string_value = value
    elif isinstance(value, Mapping):
        target.struct_value.CopyFrom(_struct(value))
    elif isinstance(value, list):
        target.list_value.CopyFrom(ListValue())
        for item in value:
            _fill(target.list_value.values.add(), item)


def results(outcomes: Sequence[Logged | Refused]) -> pb.LogActionsResponse:
    """Return what became of each event of a batch."""
    return pb.LogActionsResponse(results=[_result(outcome) for outcome in outcomes])


def _result(outcome: Logged | Refused) -> pb.AppendResult:
    if isinstance(outcome, Refused):
        return pb.AppendResult(
            event_id="" if outcome.event_id is None else str(outcome.event_id),
            outcome=pb.APPEND_OUTCOME_REFUSED,
            reason=outcome.error.reason,
            message=str(outcome.error),
        )
    return pb.AppendResult(
        event_id=str(outcome.event.event_id),
        outcome=(pb.APPEND_OUTCOME_DUPLICATE if outcome.duplicate else pb.APPEND_OUTCOME_APPENDED),
        leaf_index=outcome.place.leaf_index,
        audit_log_id=str(outcome.place.audit_log_id),
    )


def page(found: Page) -> pb.ListAuditLogsResponse:
    """Return a page of entries."""
    return pb.ListAuditLogsResponse(
        audit_logs=[entry(row) for row in found.entries],
        next_page_token=found.next_token,
        total=found.total,
        total_is_estimate=found.total_is_estimate,
    )


def chunk(sent: Chunk) -> pb.ExportAuditLogsResponse:
    """Return a piece of an export."""
    return pb.ExportAuditLogsResponse(
        data=sent.data,
        resume_token=sent.resume_token,
        rows=sent.rows,
        complete=sent.complete,
        tree_size=sent.tree_size,
    )
