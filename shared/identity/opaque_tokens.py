"""Tokens that mean nothing in themselves: random, shown once, stored as their SHA-256.

With 256 random bits nobody guesses one, so a fast hash without salt is enough to make the stored
form useless to whoever reads the table, and lets a token be found by an index.

A refresh token begins with its family, which all of a session share: so one that was used and is
not stored any more still tells which session it was of.
"""

import secrets
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field
from hashlib import sha256

RANDOM_BYTES = 32
API_TOKEN_MARK = "rmt_"  # noqa: S105  (how every token begins, not one of them)
SHOWN_CHARACTERS = 12
FAMILY_END = "."


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


def new_refresh_token(instead_of: str = "") -> OpaqueToken:
    """Return a new refresh token, of the same family as the one that it is given `instead_of`."""
    return OpaqueToken((_family(instead_of) or _random_text()) + FAMILY_END + _random_text())


def family_digest_of(text: str) -> bytes | None:
    """Return the SHA-256 of a refresh token's family, None for what has none."""
    family = _family(text)
    return digest_of(family) if family else None


def digest_of(text: str) -> bytes:
    """Return the SHA-256 by which a token is stored and found."""
    return sha256(text.encode()).digest()


def _family(text: str) -> str:
    family, end, _ = text.partition(FAMILY_END)
    return family if end else ""


def _random_text() -> str:
    return urlsafe_b64encode(secrets.token_bytes(RANDOM_BYTES)).rstrip(b"=").decode()
