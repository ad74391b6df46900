"""Wire messages to commands and back."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from math import isfinite
from typing import Any
from uuid import UUID

from google.protobuf.struct_pb2 import ListValue, Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp
from release_manager.audit.v1 import audit_pb2 as pb

from services.audit.appending.ledger import Logged, Refused
from services.audit.exporting.export import Chunk
from services.audit.reading.entries import Page
from services.audit.reading.searching import Entry
from services.audit.rules.canonical import MAX_EXACT
from services.audit.rules.events import Event, address_text
from services.audit.rules.manifest import Form
from services.audit.rules.redaction import erased
from services.audit.rules.wanted_details import wanted_details
from services.audit.store.queries import ALL_CATEGORIES, DEFAULT_CATEGORIES, Filter
from shared.rpc.message_checks import DEEPEST, Unusable

CATEGORIES = {
    pb.AUDIT_CATEGORY_CHANGE: "change",
    pb.AUDIT_CATEGORY_ACCESS: "access",
    pb.AUDIT_CATEGORY_SECURITY: "security",
}
FORMS = {
    pb.EXPORT_FORMAT_UNSPECIFIED: Form.CSV,
    pb.EXPORT_FORMAT_CSV_EXACT: Form.CSV,
    pb.EXPORT_FORMAT_CSV_SPREADSHEET: Form.SPREADSHEET,
    pb.EXPORT_FORMAT_NDJSON: Form.NDJSON,
    pb.EXPORT_FORMAT_OCSF: Form.OCSF,
}
_WANTED_CATEGORIES = {number: (stored,) for number, stored in CATEGORIES.items()} | {
    pb.AUDIT_CATEGORY_UNSPECIFIED: DEFAULT_CATEGORIES,
    pb.AUDIT_CATEGORY_ALL: ALL_CATEGORIES,
}
# The interceptor leaves it to `new_event` to check these while it reads them.
READ_HERE = frozenset({"release_manager.audit.v1.AuditEvent.details"})
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CATEGORY_ENUM = {stored: number for number, stored in CATEGORIES.items()}


def new_event(event: pb.AuditEvent) -> Event:
    """Return the event of a request; raises Unusable for details that the contract refuses."""
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
    return _EPOCH + timedelta(seconds=timestamp.seconds, microseconds=timestamp.nanos // 1000)


def _timestamp(moment: datetime) -> Timestamp:
    since = moment - _EPOCH
    return Timestamp(seconds=since.days * 86_400 + since.seconds, nanos=since.microseconds * 1000)


def _object(struct: Struct, depth: int = 1) -> dict[str, object]:
    """Return the object, which `READ_HERE` leaves to be checked here; raises Unusable."""
    if depth > DEEPEST:
        raise Unusable
    fields = struct.fields
    found: dict[str, object] = {}
    for key in fields:
        value = fields[key]
        text = value.string_value  # most values are texts, and asking what one is takes longer
        if "\0" in text or "\0" in key:
            raise Unusable
        found[key] = text or _json(value, depth)
    return found


def _json(value: Value, depth: int) -> object:
    """Return a JSON value; whole numbers become int, as long as a double holds them exactly.

    What JSON has no spelling of its own for becomes in the message, too, what is stored: a value
    of no kind null, and minus zero zero.
    """
    match value.WhichOneof("kind"):
        case "string_value":
            if "\0" in value.string_value:
                raise Unusable
            return value.string_value
        case "number_value":
            return _number(value)
        case "bool_value":
            return value.bool_value
        case "struct_value":
            return _object(value.struct_value, depth + 1)
        case "list_value":
            if depth == DEEPEST:
                raise Unusable
            return [_json(item, depth + 1) for item in value.list_value.values]
        case _:
            value.null_value = 0  # type: ignore[assignment]
            return None


def _number(value: Value) -> float:
    number = value.number_value
    if not isfinite(number):
        raise Unusable
    if number == 0:
        value.number_value = 0
    exact = number.is_integer() and abs(number) <= MAX_EXACT
    return int(number) if exact else number


def new_filter(wanted: pb.AuditLogFilter, user_id: UUID | None) -> Filter:
    """Return the filter of a request, whose user was looked up before; raises ValidationFailed."""
    return Filter(
        user_id=user_id,
        action=wanted.action or None,
        resource_type=wanted.resource_type or None,
        resource_id=wanted.resource_id or None,
        start=_moment(wanted.start_date) if wanted.HasField("start_date") else None,
        end=_moment(wanted.end_date) if wanted.HasField("end_date") else None,
        producer=wanted.producer or None,
        categories=_WANTED_CATEGORIES[wanted.category],
        details=wanted_details(_object(wanted.details)),
    )


def logged(outcome: Logged, sent: pb.AuditEvent) -> pb.AuditLog:
    """Return the entry that a new event became, with the details as they are stored.

    Those are the details that were sent, as `new_event` left them, unless there were secrets.
    """
    event, place = outcome.event, outcome.place
    sent.details.DiscardUnknownFields()
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
        details=_struct(event.stored_details()) if event.masked else sent.details,
        ip_address=event.ip_address or "",
        user_agent=event.user_agent or "",
        category=_CATEGORY_ENUM[event.category],
        producer=event.producer,
        aggregate=event.aggregate or "",
        aggregate_seq=event.aggregate_seq or 0,
        leaf_hash=outcome.leaf_hash,
        salt=event.salt,
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
        redaction=_redaction(row.redactions),
        salt=row.salt,
    )


def _redaction(redactions: object) -> pb.Redaction | None:
    missing = None if redactions is None else erased(redactions)
    if missing is None:
        return None
    return pb.Redaction(
        fields=missing.fields,
        leaf_index=missing.leaf,
        commitments=missing.commitments,
        salts=missing.salts,
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
        manifest=sent.manifest,
        problem=sent.problem,
    )
