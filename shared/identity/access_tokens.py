"""Access tokens: short-lived JWTs, signed with Ed25519, that every service verifies by itself.

A token says who and which session, never what they may do: roles are read from the user's row.
Verification accepts exactly what `AccessTokens` makes (RFC 8725): one algorithm, one type, keys
from our own list by `kid`; what else a header names (`jku`, `jwk`, `x5u`) is not even looked at.
"""

import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NoReturn
from uuid import UUID

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from shared.clock import Clock, system_clock
from shared.errors import TokenRejected
from shared.identity.keys import Keys
from shared.identity.token_keys import TokenKeys
from shared.ids import new_id, parse_id

ALGORITHM: Final = "EdDSA"
TYPE: Final = "at+jwt"
ISSUER: Final = "release-manager"
AUDIENCE: Final = "release-manager"
LEEWAY = timedelta(seconds=30)
LONGEST_TOKEN = 4_096

_CLAIMS = ("iss", "aud", "sub", "sid", "jti", "iat", "nbf", "exp")
_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_LAST_SECOND = 253_402_300_799  # 9999-12-31T23:59:59Z, the end of what datetime knows


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A signed token and the moment it expires."""

    text: str = field(repr=False)
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class AccessClaims:
    """What a verified token says: a session of a user, valid from and until; `kid` signed it."""

    kid: str
    user_id: UUID
    session_id: UUID
    valid_from: datetime
    expires_at: datetime

    def check_time(self, now: datetime) -> None:
        """Raise TokenRejected outside the token's time, give or take the leeway of 30 s."""
        if not self.valid_from - LEEWAY <= now < self.expires_at + LEEWAY:
            raise TokenRejected


class AccessTokens:
    """Issues access tokens; only the service that has a private key can."""

    def __init__(self, keys: Keys, lifetime: timedelta, clock: Clock = system_clock) -> None:
        """Sign with the newest private key of each moment; raises KeysInvalid without one."""
        self._keys = TokenKeys(keys)
        self._keys.signing  # noqa: B018  (a service that cannot sign shall not begin to serve)
        self._lifetime = lifetime
        self._clock = clock

    def issue(self, user_id: UUID, session_id: UUID) -> AccessToken:
        """Return a token of a session, valid from now on; raises KeysInvalid without a key."""
        kid, key = self._keys.signing
        now = int(self._clock().timestamp())
        expires = now + int(self._lifetime.total_seconds())
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": str(user_id),
            "sid": str(session_id),
            "jti": str(new_id()),
            "iat": now,
            "nbf": now,
            "exp": expires,
        }
        text = jwt.encode(claims, key, ALGORITHM, headers={"typ": TYPE, "kid": kid})
        return AccessToken(text, datetime.fromtimestamp(expires, UTC))


def verify(token: str, keys: Mapping[str, Ed25519PublicKey]) -> AccessClaims:
    """Return what a token says whose form, key, signature, issuer and audience are right.

    Its time is not looked at here but by `check_time`, so that the answer can be kept. Raises
    TokenRejected for anything else, in the same words whatever it is.
    """
    if len(token) > LONGEST_TOKEN or not _COMPACT.fullmatch(token):
        raise TokenRejected
    try:
        header, claims = (_strict_json(part) for part in token.split(".")[:2])
        if header.get("typ") != TYPE or header.get("alg") != ALGORITHM:
            raise TokenRejected
        _decode(token.rpartition(".")[2])
        jwt.decode(
            token,
            keys[header["kid"]],
            algorithms=[ALGORITHM],
            audience=AUDIENCE,
            issuer=ISSUER,
            options={
                "require": list(_CLAIMS),
                "strict_aud": True,
                "verify_exp": False,
                "verify_nbf": False,
                "verify_iat": False,
            },
        )
        return _claims(header["kid"], claims)
    except (jwt.PyJWTError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise TokenRejected from error


def _claims(kid: str, claims: Mapping[str, Any]) -> AccessClaims:
    times = [_time(claims[name]) for name in ("iat", "nbf", "exp")]
    return AccessClaims(
        kid=kid,
        user_id=_id(claims["sub"]),
        session_id=_id(claims["sid"]),
        valid_from=max(times[:2]),
        expires_at=times[2],
    )


def _time(value: object) -> datetime:
    """Read whole seconds; JSON also allows 1e308, true and "1", which mean nothing here."""
    if type(value) is not int or not 0 <= value <= _LAST_SECOND - 86_400:
        raise TokenRejected
    return datetime.fromtimestamp(value, UTC)


def _id(value: object) -> UUID:
    found = parse_id(value) if isinstance(value, str) else None
    if found is None:
        raise TokenRejected
    return found


def _strict_json(part: str) -> dict[str, Any]:
    """Read an object that names each member once: readers differ on which of two they believe."""
    text = _decode(part).decode()  # UTF-8 (RFC 7519, 7.2), where json.loads would guess
    found = json.loads(text, object_pairs_hook=_distinct, parse_constant=_no_constant)
    if not isinstance(found, dict):
        raise TokenRejected
    return found


def _decode(part: str) -> bytes:
    """Decode base64url in its one canonical spelling, so that a token has no second form."""
    raw = urlsafe_b64decode(part + "=" * (-len(part) % 4))
    if urlsafe_b64encode(raw).rstrip(b"=").decode() != part:
        raise TokenRejected
    return raw


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise TokenRejected
    return found


def _no_constant(_name: str) -> NoReturn:
    raise TokenRejected
