"""Retirement: a month of entries that leaves the ledger, while the tree keeps their leaves.

An entry announces it with the interval and the hashes that stand for it: those of the largest whole
subtrees that make up the interval, from left to right.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

from services.audit.rules.redaction import is_about_the_ledger
from shared.merkle.tree import Span

RETIRE, RESOURCE = "retire", "audit_log_month"
KEPT_FOR = timedelta(days=90)


def month_named(name: str) -> date:
    """Return the first day of the month that is spelled as `2026-01`."""
    return date.fromisoformat(f"{name}-01")


def name_of(month: date) -> str:
    """Return the spelling of a month."""
    return f"{month:%Y-%m}"


def after(month: date) -> date:
    """Return the first day of the next month."""
    return (month + timedelta(days=31)).replace(day=1)


def may_be_over(month: date, now: datetime) -> bool:
    """Tell whether a month is over for as long as its entries must be kept."""
    if month.year > now.year:  # the last ones have no next month
        return False
    end = after(month)
    return datetime(end.year, end.month, 1, tzinfo=UTC) + KEPT_FOR <= now


def retire_details(span: Span, hashes: Sequence[bytes], reason: str) -> dict[str, object]:
    """Return the details of the entry that announces a retirement."""
    return {
        "first_index": span.first,
        "end_index": span.end,
        "entries": span.end - span.first,
        "hashes": [one.hex() for one in hashes],
        "reason": reason,
    }


def announces(entry: Mapping[str, Any]) -> bool:
    """Tell whether an entry announces any retirement."""
    told = (entry["action"], entry["resource_type"])
    about_it = is_about_the_ledger(entry["producer"], entry["category"])
    return about_it and told == (RETIRE, RESOURCE)


def is_announced(
    entry: Mapping[str, Any], month: date, span: Span, hashes: Sequence[bytes]
) -> bool:
    """Tell whether an entry announces just this retirement; `details` as object or its text."""
    details = entry["details"]
    if isinstance(details, str):
        details = json.loads(details)
    told = (entry["action"], entry["resource_type"], entry["resource_id"])
    return (
        is_about_the_ledger(entry["producer"], entry["category"])
        and told == (RETIRE, RESOURCE, name_of(month))
        and entry["leaf_index"] >= span.end
        and isinstance(details, dict)
        and details.get("first_index") == span.first
        and details.get("end_index") == span.end
        and details.get("hashes") == [one.hex() for one in hashes]
    )
