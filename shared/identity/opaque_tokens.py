"""Tokens that mean nothing in themselves: random, shown once, stored as their SHA-256.

With 256 random bits nobody guesses one, so a fast hash without salt is enough to make the stored
form useless to whoever reads the table, and lets a token be found by an index.
"""

import secrets
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field
from hashlib import sha256

RANDOM_BYTES = 32
API_TOKEN_MARK = "rmt_"  # noqa: S105  (how every token begins, not one of them)
SHOWN_CHARACTERS = 12


@dataclass(frozen=True, slots=True)
class OpaqueToken:
    """A new token: its text, which only its holder gets, and the digest that is stored."""

    text: str = field(repr=False)

    @property
    def digest(self) -> bytes:
        """The 32 bytes that are stored."""
        return digest_of(self.text)

    @property
    def prefix(self) -> str:
        """The beginning, by which people tell one token from another."""
        return self.text[:SHOWN_CHARACTERS]


def new_api_token() -> OpaqueToken:
    """Return a new token for a service account; its mark lets scanners find leaked ones."""
    return OpaqueToken(API_TOKEN_MARK + _random_text())


def new_refresh_token() -> OpaqueToken:
    """Return a new refresh token."""
    return OpaqueToken(_random_text())


def digest_of(text: str) -> bytes:
    """Return the SHA-256 by which a token is stored and found."""
    return sha256(text.encode()).digest()


def _random_text() -> str:
    return urlsafe_b64encode(secrets.token_bytes(RANDOM_BYTES)).rstrip(b"=").decode()
