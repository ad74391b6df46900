"""Redactions, retirements and legal holds as wire messages."""

import json
from datetime import datetime
from typing import Any
from uuid import UUID

from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp
from release_manager.audit.v1 import audit_pb2
from release_manager.audit.v1 import retention_pb2 as pb

from services.audit import messages
from services.audit.retention.holds import HoldsPage, StoredHold
from services.audit.retention.redacting import Redacted
from services.audit.retention.retiring import Retired
from services.audit.rules.masking import masked
from services.audit.store.queries import Filter
from services.audit.store.retention import Hold
from shared.ids import new_id

_CATEGORY_ENUM = {stored: number for number, stored in messages.CATEGORIES.items()}


def redacted(done: Redacted) -> pb.RedactAuditLogResponse:
    """Return a redacted entry and the one that says so."""
    order = None if done.order is None else messages.entry(done.order)
    return pb.RedactAuditLogResponse(audit_log=messages.entry(done.entry), redaction=order)


def retired(done: Retired) -> pb.RetireAuditLogsResponse:
    """Return what was dropped, or would be."""
    entry = None if done.entry is None else messages.entry(done.entry)
    return pb.RetireAuditLogsResponse(
        first_index=done.span.first, end_index=done.span.end, retirement=entry
    )


def new_hold(request: pb.CreateLegalHoldRequest, wanted: Filter, placed_by: UUID) -> Hold:
    """Return the hold of a request, whose filter was made before; its categories do not count."""
    category = messages.CATEGORIES.get(request.filter.category)
    return Hold(
        id=new_id(),
        name=request.name,
        user_id=wanted.user_id,
        action=wanted.action,
        resource_type=wanted.resource_type,
        resource_id=wanted.resource_id,
        start_at=wanted.start,
        end_at=wanted.end,
        producer=wanted.producer,
        category=category,
        details=None if wanted.details is None else json.loads(wanted.details),
        reason=request.reason,
        placed_by=placed_by,
    )


def told(wanted: Hold) -> dict[str, Any]:
    """Return the filter of a hold as its entry tells it."""
    told: dict[str, Any] = MessageToDict(_filter(wanted), preserving_proto_field_name=True)
    if wanted.details is not None:
        # As text: inside of other details they might be nested too deeply.
        told["details"] = json.dumps(masked(wanted.details))
    return told


def hold(stored: StoredHold | Hold) -> pb.LegalHold:
    """Return a hold, also one that is not placed."""
    told = pb.LegalHold(
        id=str(stored.id),
        name=stored.name,
        filter=_filter(stored),
        reason=stored.reason,
        placed_by=str(stored.placed_by),
    )
    if isinstance(stored, Hold):
        return told
    rest = pb.LegalHold(
        created_at=_timestamp(stored.created_at),
        released_at=_timestamp(stored.released_at),
        released_by="" if stored.released_by is None else str(stored.released_by),
        released_because=stored.released_because or "",
    )
    told.MergeFrom(rest)
    return told


def holds(found: HoldsPage) -> pb.ListLegalHoldsResponse:
    """Return a page of holds."""
    return pb.ListLegalHoldsResponse(
        legal_holds=[hold(one) for one in found.holds], next_page_token=found.next_token
    )


def _filter(one: Hold | StoredHold) -> audit_pb2.AuditLogFilter:
    found = audit_pb2.AuditLogFilter(
        user="" if one.user_id is None else str(one.user_id),
        action=one.action or "",
        resource_type=one.resource_type or "",
        resource_id=one.resource_id or "",
        start_date=_timestamp(one.start_at),
        end_date=_timestamp(one.end_at),
        producer=one.producer or "",
        category=_CATEGORY_ENUM[one.category] if one.category else audit_pb2.AUDIT_CATEGORY_ALL,
    )
    if one.details is not None:
        details = Struct()
        details.update(one.details)
        found.details.CopyFrom(details)
    return found


def _timestamp(moment: datetime | None) -> Timestamp | None:
    if moment is None:
        return None
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp
