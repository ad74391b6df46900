"""Which passwords may be set."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.catalog.rules.passwords import check_password, common_passwords
from shared.errors import ValidationFailed


def broken(password: str, username: str = "dev1", email: str = "maria@example.com") -> set[str]:
    """Return the rules that a password breaks."""
    try:
        check_password("password", password, username=username, email=email)
    except ValidationFailed as error:
        return {
            violation.rule.removeprefix(f"{violation.field}.")
            for violation in error.fields[: int(error.facts["count"])]
        }
    return set()


@pytest.mark.parametrize(
    "password",
    [
        "k7#vQ2xz",
        "        ",
        " leading and trailing ",
        "x" * 72,
        "\N{GRINNING FACE}" * 18,
        "aaaaaaaaaaaaab",
        "correct horse battery staple",
    ],
)
def test_long_ones_may_consist_of_anything(password: str) -> None:
    assert broken(password) == set()


@pytest.mark.parametrize(
    ("password", "rule"),
    [
        ("", "short"),
        ("k7#vQ2x", "short"),
        ("x" * 73, "long"),
        ("\N{GRINNING FACE}" * 18 + "x", "long"),
        ("é" * 37, "long"),
        ("k7#vQ2\0xz", "nul"),
        ("password", "common"),
        ("PassWord123", "common"),
        ("I-am-DEV1-always", "name"),
        ("xMariaxxxx", "name"),
    ],
)
def test_what_breaks_a_rule_is_refused_by_that_rule(password: str, rule: str) -> None:
    assert broken(password) == {rule}


def test_a_short_name_is_in_too_many_words_to_be_forbidden() -> None:
    assert broken("wonderful days", username="er", email="d@example.com") == set()


def test_no_common_password_is_too_short_to_matter() -> None:
    known = common_passwords()
    assert len(known) == 5_000
    assert min(map(len, known)) >= 8
    assert all(word == word.casefold() for word in known)


@given(st.text(max_size=100))
def test_length_is_counted_as_characters_from_below_and_bytes_from_above(password: str) -> None:
    found = broken(password)
    assert ("short" in found) == (len(password) < 8)
    assert ("long" in found) == (len(password.encode()) > 72)
