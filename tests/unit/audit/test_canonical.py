"""Details have one spelling, and nothing gets in that would not keep it."""

import json
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from services.audit.rules.canonical import canonical
from shared.errors import ValidationFailed

text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
numbers = st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(-1e15, 1e15)
json_values = st.recursive(
    st.none() | st.booleans() | numbers | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(text, json_values, max_size=5))
def test_it_is_the_canonical_form_of_rfc_8785(details: dict[str, Any]) -> None:
    assert canonical(details) == rfc8785.dumps(details)


@given(st.dictionaries(text, json_values, max_size=5))
def test_reading_and_writing_again_changes_nothing(details: dict[str, Any]) -> None:
    once = canonical(details)
    assert canonical(json.loads(once)) == once


def test_whole_numbers_have_one_spelling() -> None:
    assert canonical({"n": 3}) == canonical({"n": 3.0}) == b'{"n":3}'
    assert canonical({"n": -0.0}) == b'{"n":0}'


def test_keys_are_ordered_by_utf_16() -> None:
    details = {"\ufb33": 1, "\U0001f600": 2, "a": 3}
    assert canonical(details) == '{"a":3,"\U0001f600":2,"\ufb33":1}'.encode()


def nested(levels: int) -> dict[str, Any]:
    return {"a": nested(levels - 1)} if levels > 1 else {}


@pytest.mark.parametrize(
    "details",
    [
        {"n": 2**53},
        {"n": -(2**53)},
        {"n": 1e300},
        {"n": float("nan")},
        {"n": float("inf")},
        {"s": "a\0b"},
        {"a\0b": 1},
        {"s": "\ud800"},
        {"s": ["\ud800", 1.5]},
        {"o": object()},
        {"s": "x" * 65_536},
        {str(number): 1 for number in range(1_001)},
        {"a": {str(number): 1 for number in range(1_000)}},
        nested(21),
    ],
    ids=lambda details: str(details)[:20],
)
def test_what_would_not_survive_is_refused(details: dict[str, Any]) -> None:
    with pytest.raises(ValidationFailed) as refused:
        canonical(details)
    assert refused.value.fields[0].field == "details"


def test_the_limits_themselves_are_allowed() -> None:
    canonical({"s": "x" * (65_536 - 8)})
    canonical({str(number): 1 for number in range(1_000)})
    canonical(nested(20))
    canonical({"n": 2**53 - 1})
