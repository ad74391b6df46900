"""Retirement: which months may go, and which entry announces which of them."""

import json
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from services.audit.rules.retirement import (
    after,
    is_announced,
    may_be_over,
    month_named,
    name_of,
    retire_details,
)
from shared.merkle.tree import Span

SPAN, HASHES = Span(5, 9), [b"a" * 32, b"b" * 32]
MONTH = date(2026, 1, 1)


@pytest.mark.parametrize(
    ("name", "following"), [("2026-01", "2026-02"), ("2025-12", "2026-01"), ("2024-02", "2024-03")]
)
def test_months_have_names(name: str, following: str) -> None:
    assert name_of(month_named(name)) == name
    assert name_of(after(month_named(name))) == following


def test_a_month_is_over_after_ninety_days_more() -> None:
    over = datetime(2026, 2, 1, tzinfo=UTC) + timedelta(days=90)
    assert may_be_over(MONTH, over)
    assert not may_be_over(MONTH, over - timedelta(microseconds=1))
    assert not may_be_over(date(9999, 12, 1), over)


def announcement(**changed: Any) -> dict[str, Any]:
    return {
        "leaf_index": 20,
        "producer": "audit",
        "category": "change",
        "action": "retire",
        "resource_type": "audit_log_month",
        "resource_id": "2026-01",
        "details": retire_details(SPAN, HASHES, "x"),
    } | changed


def test_an_announcement_is_for_one_month_one_interval_and_its_hashes() -> None:
    assert is_announced(announcement(), MONTH, SPAN, HASHES)
    as_text = json.dumps(retire_details(SPAN, HASHES, "x"))
    assert is_announced(announcement(details=as_text), MONTH, SPAN, HASHES)
    assert not is_announced(announcement(), date(2026, 2, 1), SPAN, HASHES)
    assert not is_announced(announcement(), MONTH, Span(5, 10), HASHES)
    assert not is_announced(announcement(), MONTH, Span(4, 9), HASHES)
    assert not is_announced(announcement(), MONTH, SPAN, HASHES[::-1])
    changes: tuple[dict[str, Any], ...] = (
        {"leaf_index": 8},
        {"producer": "catalog"},
        {"category": "security"},
        {"action": "redact"},
        {"resource_type": "audit_log"},
        {"resource_id": "2026-1"},
        {"details": "[]"},
        {"details": {}},
    )
    for change in changes:
        assert not is_announced(announcement(**change), MONTH, SPAN, HASHES)
