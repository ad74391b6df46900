"""What stands in the ledger for an event that it cannot take."""

import hashlib
import json
from typing import Any


def tombstone(event: dict[str, Any], reason: str, message: str) -> dict[str, Any]:
    """Return an entry under the same event id and sequence that says what is missing and why.

    The original stays in the column `original` of its outbox row, which the digest in the entry
    identifies; the sequence of the aggregate stays complete. Only what identifies the event is
    carried over, so that there is little left to refuse.
    """
    original = json.dumps(event, sort_keys=True, separators=(",", ":")).encode()
    kept = ("eventId", "occurredAt", "category", "aggregate", "aggregateSeq")
    return {name: event[name] for name in kept if name in event} | {
        "action": "tombstone",
        "resourceType": "audit_event",
        "resourceId": event["eventId"],
        "details": {
            "refused_because": reason,
            "message": message[:500],
            "original_sha256": hashlib.sha256(original).hexdigest(),
            "original_bytes": len(original),
        },
    }
