"""Secrets do not enter the ledger."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.audit.rules.masking import MASK, is_secret, masked

SECRETS = [
    "password",
    "PASSWORD",
    "Passwd",
    "db_password",
    "dbPassword",
    "user-password",
    "password_hash",
    "secret",
    "client.secret",
    "clientSecret",
    "token",
    "access_token",
    "accessToken",
    "refreshToken",
    "api_key",
    "apiKey",
    "API-KEY",
    "x-api-key",
    "Authorization",
    "private_key",
    "privateKey",
    "privatekey",
    "credential",
    "credentials",
    "Set-Cookie",
    "bearer",
    "otp",
    "passphrase",
]
HARMLESS = [
    "environment",
    "release",
    "token_id",
    "tokenId",
    "token_count",
    "password_changed",
    "secret_name",
    "api_key_ids",
    "token_expires",
    "key",
    "keys",
    "author",
    "reason",
    "monkey",
    "credential_type",
    "laptop",
    "compass",
]


@pytest.mark.parametrize("key", SECRETS)
def test_secret(key: str) -> None:
    assert is_secret(key)


@pytest.mark.parametrize("key", HARMLESS)
def test_harmless(key: str) -> None:
    assert not is_secret(key)


def test_secrets_are_masked_at_any_depth_and_of_any_type() -> None:
    given = {
        "password": 1234,
        "nested": [{"Token": {"value": "x"}, "kept": None}, ["api_key"]],
        "api-key": ["a", "b"],
        "secret": None,
        "ok": True,
    }
    assert masked(given) == {
        "password": MASK,
        "nested": [{"Token": MASK, "kept": None}, ["api_key"]],
        "api-key": MASK,
        "secret": MASK,
        "ok": True,
    }


json_values = st.recursive(
    st.none() | st.integers() | st.sampled_from(["a", "secret"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "password", "token_id", "apiKey"]), inner)
    ),
)


def every_secret_masked(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: MASK if is_secret(key) else every_secret_masked(item)
            for key, item in value.items()
        }
    return [every_secret_masked(item) for item in value] if isinstance(value, list) else value


@given(json_values)
def test_every_secret_is_masked_and_nothing_else(value: Any) -> None:
    result = masked(value)
    assert result == every_secret_masked(value)


def test_a_value_without_secrets_is_returned_itself() -> None:
    harmless = {"a": [{"token_id": 1}, {"b": {"c": "secret"}}]}
    assert masked(harmless) is harmless
