"""The quick recheck says of a row what the thorough one says, or nothing."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from ipaddress import ip_address
from typing import Any
from uuid import UUID

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from services.audit.rules.events import Event, microseconds, seal
from services.audit.rules.leaf import LEAF_VERSION, TAGS, leaf_hash
from services.audit.rules.quick_recheck import plain_leaf, plain_values
from services.audit.rules.recheck import EntryDiffers, entry_id, recomputed_leaf
from shared.errors import ValidationFailed

NOW = datetime(2026, 3, 4, 5, 6, 7, 890123, tzinfo=UTC)
OF_POSTGRES = datetime(2000, 1, 1, tzinfo=UTC)
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=20)
NUMBERS = st.one_of(
    st.integers(-(2**53) + 1, 2**53 - 1),
    st.floats(-1e15, 1e15).filter(lambda number: not number.is_integer()),
)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXT),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
EVENTS = st.builds(
    Event,
    action=st.just("deploy"),
    resource_type=st.just("deployment"),
    resource_id=TEXT.filter(bool),
    user=st.none() | st.just("somebody"),
    details=st.dictionaries(TEXT, JSON, max_size=5),
    ip_address=st.none() | st.ip_addresses().map(str),
    user_agent=st.none() | TEXT,
    occurred_at=st.integers(-(6 * 10**16), 2 * 10**17).map(
        lambda micros: OF_POSTGRES + timedelta(microseconds=micros)
    ),
    aggregate=st.none() | st.just("deployment:1"),
    aggregate_seq=st.none() | st.integers(1, 2**63 - 1),
)


def jsonb(value: object) -> str:
    """Spell a value as jsonb does: shorter keys first, no exponents, a space after separators."""
    if isinstance(value, dict):
        items = sorted(value.items(), key=lambda item: (len(item[0].encode()), item[0].encode()))
        return "{" + ", ".join(f"{jsonb(key)}: {jsonb(inner)}" for key, inner in items) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(jsonb, value)) + "]"
    if isinstance(value, float):
        return format(Decimal(repr(value)), "f")
    return json.dumps(value, ensure_ascii=False)


def row_of(event: Event, leaf_index: int = 5) -> dict[str, Any]:
    """Return the row that the ledger stores, as the driver returns it."""
    user_id = None if event.user is None else UUID(int=7)
    sealed = seal(event, producer="deployment", user_id=user_id, now=NOW, mac_key=b"k")
    row = {name: getattr(sealed, name) for name in (*TAGS, "salt", "event_digest")}
    created_us = microseconds(NOW)
    return row | {
        "id": UUID(int=entry_id(created_us, leaf_index)),
        "leaf_index": leaf_index,
        "details": jsonb(json.loads(sealed.details)),
        "ip_address": sealed.ip_address and ip_address(sealed.ip_address),
        "created_at": NOW,
        "updated_at": NOW,
        "leaf_version": LEAF_VERSION,
        "redactions": None,
        "leaf_hash": leaf_hash(leaf_index, created_us, sealed.event_digest),
    }


def sent(moment: datetime) -> bytes:
    return ((moment - OF_POSTGRES) // timedelta(microseconds=1)).to_bytes(8, signed=True)


def quick(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the columns of a row as `plain_rows` reads them."""
    plain = (row["leaf_version"], row["redactions"], row["updated_at"])
    return (
        row["leaf_index"],
        row["id"].bytes,
        sent(row["created_at"]),
        plain == (LEAF_VERSION, None, row["created_at"]),
        *(row["salt"], row["event_digest"], row["leaf_hash"]),
        row["event_id"].bytes,
        sent(row["occurred_at"]),
        row["user_id"] and str(row["user_id"]),
        *(row["action"], row["resource_type"], row["resource_id"], row["details"]),
        row["ip_address"] and str(row["ip_address"]),
        *(row["user_agent"], row["category"], row["producer"], row["aggregate"]),
        None if row["aggregate_seq"] is None else str(row["aggregate_seq"]),
    )


def thorough(row: Mapping[str, Any]) -> bytes | None:
    try:
        return recomputed_leaf(row)
    except EntryDiffers:
        return None


@given(EVENTS, st.integers(0, 2**62))
def test_a_genuine_row_has_its_leaf(event: Event, leaf_index: int) -> None:
    try:
        row = row_of(event, leaf_index)
    except ValidationFailed:  # numbers and nesting that no event may have
        return
    assert thorough(row) == row["leaf_hash"]
    assert plain_leaf(quick(row)) in {None, row["leaf_hash"]}


@pytest.mark.parametrize(
    "details",
    [
        {},
        {"n": 1, "text": "Zürich", "list": [None, True, {"b": -5}], "a": {}},
        {"時": "間", "é": 0},
    ],
)
def test_ordinary_rows_are_plain(details: dict[str, object]) -> None:
    row = row_of(Event("a", "b", "c", details=details, ip_address="2001:db8::7"))
    assert plain_leaf(quick(row)) == row["leaf_hash"] == recomputed_leaf(row)


@given(EVENTS, st.data())
def test_a_changed_row_has_none(event: Event, data: st.DataObject) -> None:
    try:
        row = row_of(event)
    except ValidationFailed:
        return
    changes = {
        **dict.fromkeys(("action", "resource_type", "resource_id", "category", "producer"), "x"),
        **dict.fromkeys(("event_id", "id", "user_id"), UUID(int=9)),
        **dict.fromkeys(("occurred_at", "created_at"), NOW + timedelta(microseconds=1)),
        **dict.fromkeys(("salt", "event_digest", "leaf_hash"), b"\x07" * 32),
        "updated_at": NOW + timedelta(days=1),
        "details": '{"some": "thing"}',
        "ip_address": ip_address("192.0.2.1"),
        "user_agent": "changed",
        "aggregate": "changed:1",
        "leaf_version": 2,
        "leaf_index": 6,
        "redactions": "{}",
    }
    column = data.draw(st.sampled_from(sorted(changes)))
    changed = row | {column: changes[column]}
    assume(changed != row)
    assert plain_leaf(quick(changed)) is None
    assert thorough(changed) is None


def _deep(levels: int) -> str:
    return '{"a": ' * levels + "1" + "}" * levels


@pytest.mark.parametrize(
    "details",
    [
        '{"n": 0.5}',
        '{"n": 1000000000000000}',
        '{"\U0001f680": 1, "\ufb33": 2}',
        _deep(21),
        "{" + ", ".join(f'"{number}": 1' for number in range(1_001)) + "}",
        '{"a": "' + "x" * 65_530 + '"}',
    ],
)
def test_what_has_a_rule_of_its_own_is_not_plain(details: str) -> None:
    """So that whoever computes digests by the quick rules gets nothing past the thorough ones."""
    row = row_of(Event("a", "b", "c")) | {"details": details}
    assert plain_values(quick(row)[7:]) is None


@pytest.mark.parametrize("address", ["::ffff:192.0.2.7", "::192.0.2.7"])
def test_addresses_with_two_spellings_are_not_plain(address: str) -> None:
    columns = list(quick(row_of(Event("a", "b", "c"))))
    columns[14] = address
    assert plain_values(columns[7:]) is None


@pytest.mark.parametrize("moment", [2**63 - 1, -(2**63), -65_000_000 * 10**9])
def test_times_that_nothing_else_can_read_are_not_plain(moment: int) -> None:
    columns = list(quick(row_of(Event("a", "b", "c"))))
    columns[8] = moment.to_bytes(8, signed=True)
    assert plain_values(columns[7:]) is None
    columns = list(quick(row_of(Event("a", "b", "c"))))
    columns[2] = moment.to_bytes(8, signed=True)
    assert plain_leaf(columns) is None
