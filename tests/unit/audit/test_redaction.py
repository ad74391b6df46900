"""Redaction: whatever is erased in whatever order, the leaf stays and the values are gone."""

import json
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.audit.rules.events import leaf_values, microseconds
from services.audit.rules.leaf import (
    TAGS,
    commitments,
    digest_of,
    event_digest,
    field_salt,
    leaf_hash,
)
from services.audit.rules.recheck import EntryDiffers, entry_id, recomputed_leaf, values_of
from services.audit.rules.redaction import (
    BLANK,
    ERASABLE,
    Erased,
    commitments_of,
    erased,
    is_ordered,
    orders,
    redact_details,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, 678, UTC)
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
FIELDS = st.lists(st.sampled_from(ERASABLE), min_size=1, unique=True)


def stored(index: int = 7, salt: bytes = b"s" * 16, **changed: Any) -> dict[str, Any]:
    """Return a row as the ledger would have stored it."""
    fields: dict[str, Any] = {
        "event_id": UUID(int=1),
        "occurred_at": NOW,
        "user_id": UUID(int=2),
        "action": "deploy",
        "resource_type": "deployment",
        "resource_id": "d-1",
        "details": '{"n": 1}',
        "ip_address": None,
        "user_agent": "agent",
        "category": "change",
        "producer": "deployment",
        "aggregate": None,
        "aggregate_seq": None,
    } | changed
    values = values_of(fields)
    digest = event_digest(values, salt)
    created = microseconds(NOW)
    return fields | {
        "id": UUID(int=entry_id(created, index)),
        "leaf_index": index,
        "created_at": NOW,
        "updated_at": NOW,
        "leaf_version": 1,
        "salt": salt,
        "event_digest": digest,
        "leaf_hash": leaf_hash(index, created, digest),
        "redactions": None,
    }


def redacted(row: dict[str, Any], fields: list[str], leaf: int) -> dict[str, Any]:
    """Erase fields as the function of the database does."""
    missing = erased(row["redactions"])
    committed = dict(zip(TAGS, commitments_of(values_of(row), row["salt"], missing), strict=True))
    gone = {*fields, *(missing.fields if missing else ())}
    salts = {
        tag: (missing.salts[tag] if missing else field_salt(row["salt"], tag)).hex()
        for tag in TAGS
        if tag not in gone
    }
    known = {tag: value.hex() for tag, value in (missing.commitments if missing else {}).items()}
    redactions = {
        "leaf": leaf,
        "fields": known | {tag: committed[tag].hex() for tag in fields},
        "salts": salts,
    }
    return row | {tag: BLANK[tag] for tag in fields} | {"salt": None, "redactions": redactions}


@given(
    st.lists(FIELDS, min_size=1, max_size=4),
    st.binary(min_size=16, max_size=16),
    TEXT,
    st.none() | TEXT,
)
def test_the_leaf_stays_and_no_value_can_be_tried_out(
    steps: list[list[str]], salt: bytes, resource: str, agent: str | None
) -> None:
    whole = stored(salt=salt, resource_id=resource, user_agent=agent)
    row, gone, leaf = whole, set(), 100
    for step in steps:
        fields = [field for field in step if field not in gone]
        if not fields:
            continue
        row = redacted(row, fields, leaf)
        gone |= set(fields)
        leaf += 1
        assert recomputed_leaf(row) == whole["leaf_hash"]
        missing = erased(row["redactions"])
        assert missing is not None
        assert set(missing.fields) == gone
    kept = json.dumps(row["redactions"])
    assert salt.hex() not in kept
    for tag in gone:
        assert field_salt(salt, tag).hex() not in kept
        assert row[tag] == BLANK[tag]


@given(FIELDS, FIELDS)
def test_the_order_of_erasing_does_not_matter(first: list[str], second: list[str]) -> None:
    def both(one: list[str], other: list[str]) -> dict[str, Any]:
        row = redacted(stored(), one, 100)
        rest = [field for field in other if field not in one]
        return redacted(row, rest, 101) if rest else row | {"redactions": row["redactions"]}

    one, other = both(first, second), both(second, first)
    for part in ("fields", "salts"):
        assert one["redactions"][part] == other["redactions"][part]


def test_a_guess_cannot_be_confirmed_by_what_is_left() -> None:
    """With the entry's salt it could; each other field's own salt does not lead to it."""
    whole = stored(user_agent="guessed")
    row = redacted(whole, ["user_agent"], 100)
    commitment = row["redactions"]["fields"]["user_agent"]
    guesses = [bytes.fromhex(salt) for salt in row["redactions"]["salts"].values()]
    guesses += [row["event_digest"][:16], row["leaf_hash"][:16], bytes(16)]
    for salt in guesses:
        values = values_of(whole)
        for derived in (commitments(values, salt),):
            assert commitment not in {one.hex() for one in derived}
    assert commitment in {one.hex() for one in commitments(values_of(whole), whole["salt"])}


WRONG: list[Any] = [
    [],
    7,
    {},
    {"leaf": 1, "fields": {}},
    {"leaf": -1},
    {"leaf": True},
    {"leaf": "1"},
    {"leaf": 1.0},
    {"more": 1},
    {"fields": {}},
    {"fields": []},
    {"fields": {"action": "00" * 32}},
    {"fields": {"user_agent": "00" * 31}},
    {"fields": {"user_agent": "0G" * 32}},
    {"fields": {"user_agent": "AB" * 32}},
    {"fields": {"user_agent": 7}},
    {"salts": {}},
    {"salts": None},
]


@pytest.mark.parametrize("change", WRONG, ids=str)
def test_what_no_redaction_writes_is_refused(change: Any) -> None:
    row = redacted(stored(), ["user_agent"], 100)
    is_part = isinstance(change, dict) and len(change) == 1
    wrong = row["redactions"] | change if is_part else change
    with pytest.raises(ValueError):  # noqa: PT011  (any will do)
        erased(wrong)
    with pytest.raises(EntryDiffers):
        recomputed_leaf(row | {"redactions": wrong})
    with pytest.raises(EntryDiffers):
        recomputed_leaf(row | {"redactions": json.dumps(wrong)})


@pytest.mark.parametrize("tag", ERASABLE)
def test_an_erased_field_must_be_empty_and_the_salt_gone(tag: str) -> None:
    row = redacted(stored(), [tag], 100)
    assert recomputed_leaf(row | {"redactions": json.dumps(row["redactions"])})
    for change in ({tag: "x"}, {"salt": b"s" * 16}, {"redactions": None}):
        with pytest.raises(EntryDiffers):
            recomputed_leaf(row | change)


def order_of(row: dict[str, Any], fields: list[str], leaf: int) -> dict[str, Any]:
    details = redact_details(row["leaf_index"], fields, erased(row["redactions"]), "x")
    return {
        "leaf_index": leaf,
        "producer": "audit",
        "category": "change",
        "action": "redact",
        "resource_type": "audit_log",
        "resource_id": str(row["id"]),
        "details": json.dumps(details),
    }


def test_only_its_own_order_speaks_for_an_erasure() -> None:
    whole = stored()
    first = redacted(whole, ["details"], 100)
    second = redacted(first, ["user_id"], 101)
    one, two = order_of(whole, ["details"], 100), order_of(first, ["user_id"], 101)
    assert orders(one) == (7, frozenset({"details"}))
    assert orders(two) == (7, frozenset({"details", "user_id"}))

    def speaks(row: dict[str, Any], order: dict[str, Any]) -> bool:
        missing = erased(row["redactions"])
        assert missing is not None
        return is_ordered(row, missing, order)

    assert speaks(first, one)
    assert speaks(second, two)
    assert not speaks(second, one)
    assert not speaks(first, two)
    for change in (
        {"leaf_index": 99},
        {"producer": "deployment"},
        {"category": "access"},
        {"action": "retire"},
        {"resource_type": "team"},
        {"resource_id": str(UUID(int=5))},
        {"details": "[]"},
        {"details": "{}"},
        {"details": '{"leaf_index": 8, "erased": ["details"]}'},
        {"details": '{"leaf_index": 7, "erased": []}'},
    ):
        assert not speaks(first, one | change)
    later = stored(index=100)
    assert not speaks(redacted(later, ["details"], 100), order_of(later, ["details"], 100))


def test_the_digest_is_that_of_all_commitments() -> None:
    row = stored()
    values = leaf_values(**{tag: row[tag] for tag in TAGS if tag != "details"}, details=b'{"n":1}')
    assert digest_of(commitments_of(values, row["salt"], None)) == row["event_digest"]
    with pytest.raises(ValueError, match="no salt"):
        commitments_of(values, None, None)
    missing = Erased(1, {"details": sha256(b"x").digest()}, {})
    with pytest.raises(KeyError):
        commitments_of(values, None, missing)
