"""Secrets in details: masked before anything is hashed or stored, because a ledger cannot forget.

Only names of keys are looked at. A key is secret when it contains one of SECRET, whatever its case
and separators, unless its last word says that the value is about a secret rather than one itself
(`token_id`, `password_changed`).
"""

import re
from functools import lru_cache

MASK = "[masked]"
SECRET = re.compile(
    "passw|passphrase|passcode|pwd|secret|token|apikey|authorization|privatekey|signingkey"
    "|encryptionkey|accesskey|credential|cookie|bearer|otp(?:code)?$|mfacode|connectionstring"
)
ABOUT = re.compile(
    "ids?|counts?|names?|types?|kind|at|until|version|changed|expired|expires|expiry|revoked"
    "|rotated|required|enabled|length|scopes|seconds|days"
)
_SEPARATORS = re.compile(r"[^a-z0-9]+")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


@lru_cache(maxsize=4_096)
def is_secret(key: str) -> bool:
    """Tell whether the value under `key` must not be stored."""
    words = [word for word in _SEPARATORS.split(_HUMP.sub("_", key).lower()) if word]
    if not words or (len(words) > 1 and ABOUT.fullmatch(words[-1])):
        return False
    return SECRET.search("".join(words)) is not None


def masked(value: object) -> object:
    """Return a JSON value with every secret in it replaced by MASK, of whatever type it is.

    A value without secrets is returned itself.
    """
    return _masked(value) if _has_secret(value) else value


def _has_secret(value: object) -> bool:
    if isinstance(value, dict):
        for key, item in value.items():
            if is_secret(key):
                return True
            if isinstance(item, dict | list) and _has_secret(item):
                return True
        return False
    return isinstance(value, list) and any(map(_has_secret, value))


def _masked(value: object) -> object:
    if isinstance(value, dict):
        return {key: MASK if is_secret(key) else _masked(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_masked(item) for item in value]
    return value
