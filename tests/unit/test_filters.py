"""Filter expressions: what is read, what is refused and where, and that reading always ends."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import ExpressionInvalid
from shared.filters import (
    DEEPEST,
    MOST_COMPARISONS,
    All,
    AnyOf,
    Comparison,
    Expression,
    Not,
    parse_filter,
    parse_order,
)


def written(expression: Expression) -> str:
    """Return an expression with every parenthesis that could be needed."""
    if isinstance(expression, Comparison):
        value = expression.value.replace("\\", "\\\\").replace('"', '\\"')
        return f'{".".join(expression.path)}{expression.operator}"{value}"'
    if isinstance(expression, Not):
        return f"NOT ({written(expression.part)})"
    word = " AND " if isinstance(expression, All) else " OR "
    return word.join(f"({written(part)})" for part in expression.parts)


def bare(expression: Expression | None) -> Expression | None:
    """Return an expression without positions."""
    if isinstance(expression, Comparison):
        return Comparison(expression.path, expression.operator, expression.value, True, 0)  # noqa: FBT003
    if isinstance(expression, Not):
        return Not(bare(expression.part) or expression.part)
    if expression is None:
        return None
    return type(expression)(tuple(bare(part) or part for part in expression.parts))


NAMES = st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True)
COMPARISONS = st.builds(
    Comparison,
    st.lists(NAMES, min_size=1, max_size=3).map(tuple),
    st.sampled_from(["=", "!=", "<", "<=", ">", ">=", ":"]),
    st.text(max_size=12),
    st.just(True),  # noqa: FBT003
    st.just(0),
)
EXPRESSIONS = st.recursive(
    COMPARISONS,
    lambda inner: st.one_of(
        inner.map(Not),
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: All(tuple(parts))),
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: AnyOf(tuple(parts))),
    ),
    max_leaves=8,
)


@given(EXPRESSIONS)
def test_what_is_written_is_read_again(expression: Expression) -> None:
    assert bare(parse_filter(written(expression))) == expression


@given(st.text(alphabet="ab.=!<>:()\"'\\ -*ANDORT1", max_size=60))
def test_any_text_is_read_or_refused_with_a_place_inside_it(text: str) -> None:
    place = 1
    try:
        parse_filter(text)
    except ExpressionInvalid as refused:
        place = int(refused.facts["position"])
    assert 1 <= place <= len(text) + 1


def test_or_binds_tighter_than_and() -> None:
    expression = parse_filter("a=1 AND b=2 OR c=3")
    assert isinstance(expression, All)
    assert isinstance(expression.parts[1], AnyOf)


def test_a_time_needs_no_quotation_marks() -> None:
    found = parse_filter("created_at >= 2026-01-31T12:00:00Z")
    assert isinstance(found, Comparison)
    assert found.value == "2026-01-31T12:00:00Z"


@pytest.mark.parametrize("text", ["", " ", "\t\n"])
def test_an_empty_filter_asks_for_everything(text: str) -> None:
    assert parse_filter(text) is None


@pytest.mark.parametrize(
    ("text", "position", "problem"),
    [
        ("name", 5, "must be followed by one of"),
        ("name =", 7, "a value is missing"),
        ('name = "auth', 8, "a value is missing"),
        ("(name = a", 10, "parenthesis is not closed"),
        ("a = 1 b = 2", 7, "write AND or OR"),
        ("a = 1)", 6, "write AND or OR"),
        ("a = 1 or b = 2", 7, "in capitals"),
        ("a == b", 4, "followed by another operator"),
        ("a ==b", 4, "followed by another operator"),
        ("a <> b", 4, "followed by another operator"),
        ("AND a = 1", 1, "a comparison is missing"),
        ("a = 1 AND", 10, "a comparison is missing"),
        ("a = 1 OR AND b = 2", 10, "a comparison is missing"),
        ("NOT", 4, "a comparison is missing"),
        ("()", 2, "a comparison is missing"),
        ("1 = a", 1, "a comparison is missing"),
        ("f(x) = 1", 2, "must be followed by one of"),
        ("(" * (DEEPEST + 2) + "a=1", DEEPEST + 2, "nested deeper"),
        ("-" * (DEEPEST + 2) + "a=1", DEEPEST + 2, "nested deeper"),
        (" AND ".join(["a=1"] * (MOST_COMPARISONS + 1)), 400, "more than 50"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(
    text: str, position: int, problem: str
) -> None:
    with pytest.raises(ExpressionInvalid, match=problem) as refused:
        parse_filter(text)
    assert abs(int(refused.value.facts["position"]) - position) <= 1


def test_an_order_names_fields_and_directions() -> None:
    found = [(one.name, one.descending) for one in parse_order("name desc,  tier ,created_at asc")]
    assert found == [("name", True), ("tier", False), ("created_at", False)]


@pytest.mark.parametrize("text", [",", "name,", "name down", "na me", "name desc desc", "1"])
def test_an_order_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(ExpressionInvalid):
        list(parse_order(text))
