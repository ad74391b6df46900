"""Details in a filter: their spelling, their limits, and what tokens know of them."""

import itertools
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.audit.rules.canonical import canonical
from services.audit.rules.wanted_details import MAX_BYTES, has_values, wanted_details
from services.audit.store.queries import ALL_CATEGORIES, Filter
from shared.errors import ValidationFailed
from shared.ids import new_id

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=5)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(TEXTS, VALUES, max_size=4)


@given(OBJECTS)
def test_they_are_spelled_as_the_ledger_spells_details(details: dict[str, Any]) -> None:
    spelled = wanted_details(details)
    assert (spelled or "{}") == canonical(details).decode()
    shuffled = dict(reversed(details.items()))
    assert wanted_details(shuffled) == spelled


def test_whole_numbers_have_one_spelling() -> None:
    assert wanted_details({"n": 1.0}) == wanted_details({"n": 1}) == '{"n":1}'


def test_an_empty_object_narrows_nothing() -> None:
    assert wanted_details({}) is None


def nested(levels: int) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for _ in range(levels - 1):
        made = {"a": made}
    return made


@pytest.mark.parametrize(
    "details",
    [
        {"a": "x" * (MAX_BYTES - 7)},
        nested(21),
        {"n": 2**53},
        {"n": float("nan")},
        {"a": "\0"},
        {str(number): 0 for number in range(1_001)},
    ],
)
def test_what_the_ledger_could_not_hold_is_refused_by_name(details: dict[str, Any]) -> None:
    with pytest.raises(ValidationFailed) as refused:
        wanted_details(details)
    assert [violation.field for violation in refused.value.fields] == ["filter.details"]
    assert "filter.details" in str(refused.value)


def test_the_limits_themselves_are_allowed() -> None:
    assert len(wanted_details({"a": "x" * (MAX_BYTES - 8)}) or "") == MAX_BYTES
    assert wanted_details(nested(20)) is not None


@pytest.mark.parametrize(
    ("spelled", "answer"),
    [
        ('{"a":1}', True),
        ('{"a":null}', True),
        ('{"a":{}}', False),
        ('{"a":[],"b":{"c":[{}]}}', False),
        ('{"a":[],"b":{"c":[{"d":""}]}}', True),
    ],
)
def test_only_values_are_in_the_inverted_index(spelled: str, answer: bool) -> None:  # noqa: FBT001
    assert has_values(spelled) is answer


def test_every_part_of_a_filter_is_bound_by_its_encoding() -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    changes: list[dict[str, Any]] = [
        {},
        {"user_id": new_id()},
        {"action": "deploy"},
        {"resource_type": "deploy"},
        {"resource_id": "deploy"},
        {"producer": "deploy"},
        {"start": moment},
        {"end": moment},
        {"categories": ALL_CATEGORIES},
        {"categories": ("access",)},
        {"details": '{"a":1}'},
        {"details": '{"a":2}'},
    ]
    encoded = [replace(Filter(), **change).encoded() for change in changes]
    encoded += [
        replace(replace(Filter(), **one), **two).encoded()
        for one, two in itertools.combinations(changes[1:7], 2)
    ]
    assert len(set(encoded)) == len(encoded)
