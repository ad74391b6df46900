"""Which passwords may be set: long ones that nobody tries first, and no rules about characters."""

from functools import cache
from importlib.resources import files

from shared.domain_error import FieldViolation
from shared.errors import ValidationFailed

SHORTEST = 8
"""Characters."""
LONGEST_BYTES = 72
"""Bytes of UTF-8: bcrypt looks at no more, so that a longer one would count by its beginning."""
SHORTEST_NAME = 3
"""A name shorter than this is in too many words to be forbidden."""

_COMMON = "common_passwords.txt"


def check_password(field: str, password: str, *, username: str, email: str) -> None:
    """Return when somebody with this name and mail address may have this password.

    Raises ValidationFailed for the request's `field`, with each rule that it breaks.
    """
    broken = _broken(password, (username, email.partition("@")[0]))
    if broken:
        raise ValidationFailed(
            count=len(broken),
            first=f"{field}: {broken[0].description}",
            fields=tuple(FieldViolation(field, one.description, one.rule) for one in broken),
        )


def refused_password(field: str, why: str, rule: str) -> ValidationFailed:
    """Return the error for a password that is refused for another reason than itself."""
    violation = FieldViolation(field, why, rule)
    return ValidationFailed(count=1, first=f"{field}: {why}", fields=(violation,))


@cache
def common_passwords() -> frozenset[str]:
    """Return the passwords that everybody tries first, in lower case."""
    lines = files(__package__ or "").joinpath(_COMMON).read_text(encoding="utf-8").splitlines()
    return frozenset(line for line in lines if line and not line.startswith("#"))


def _broken(password: str, names: tuple[str, ...]) -> list[FieldViolation]:
    folded = password.casefold()
    named = any(len(name) >= SHORTEST_NAME and name.casefold() in folded for name in names)
    rules = (
        ("short", len(password) < SHORTEST, f"must have at least {SHORTEST} characters"),
        (
            "long",
            len(password.encode()) > LONGEST_BYTES,
            f"must have at most {LONGEST_BYTES} bytes of UTF-8",
        ),
        ("nul", "\0" in password, "must not contain the character NUL"),
        ("common", folded in common_passwords(), "is one of those that everybody tries first"),
        ("name", named, "must not contain the user name or the mail address"),
    )
    return [
        FieldViolation("", description, f"password.{rule}")
        for rule, breaks, description in rules
        if breaks
    ]
