"""Secrets do not enter the ledger."""

import pytest

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
