"""Access tokens with one thing wrong, and everything else as the product itself makes it."""

import json
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.clock import system_clock
from shared.identity.access_tokens import ALGORITHM, AUDIENCE, ISSUER, TYPE
from shared.identity.keys import Keys
from shared.ids import new_id

Sign = Callable[[bytes], bytes]
MINUTE = 60
LEFT_OUT = object()


class Forger:
    """Makes tokens of one session; what it is asked to change is all that is wrong with them."""

    def __init__(self, keys: Keys, user_id: UUID, session_id: UUID) -> None:
        assert keys.signing is not None
        self._kid = keys.signing_kid
        self._sign: Sign = keys.signing.sign
        self._user_id = user_id
        self._session_id = session_id

    def header(self, **changes: object) -> dict[str, object]:
        """Return the header, with `LEFT_OUT` for what it shall not have."""
        return _changed({"alg": ALGORITHM, "typ": TYPE, "kid": self._kid}, changes)

    def claims(self, **changes: object) -> dict[str, object]:
        """Return the claims of a token that is good for some minutes."""
        now = int(system_clock().timestamp())
        right = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": str(self._user_id),
            "sid": str(self._session_id),
            "jti": str(new_id()),
            "iat": now,
            "nbf": now,
            "exp": now + 15 * MINUTE,
        }
        return _changed(right, changes)

    def token(
        self,
        claims: Mapping[str, object] | bytes | None = None,
        header: Mapping[str, object] | bytes | None = None,
        sign: Sign | None = None,
    ) -> str:
        """Return a token of these parts; those not given are right."""
        head = encoded(self.header() if header is None else header)
        body = encoded(self.claims() if claims is None else claims)
        signature = (sign or self._sign)(f"{head}.{body}".encode())
        return f"{head}.{body}.{base64url(signature)}"

    def aged(self, seconds: int, **changes: object) -> str:
        """Return a token that was issued so many seconds earlier than now."""
        times: dict[str, Any] = self.claims()
        earlier = {name: times[name] - seconds for name in ("iat", "nbf", "exp")}
        return self.token(self.claims(**earlier, **changes))

    def signed_by_another(self) -> str:
        """Return a token whose signature is good, by a key that is not ours."""
        return self.token(sign=Ed25519PrivateKey.generate().sign)

    def unsigned(self, algorithm: str = "none") -> str:
        """Return a token without a signature that says it needs none."""
        return self.token(header=self.header(alg=algorithm), sign=lambda _text: b"")


def encoded(part: Mapping[str, object] | bytes) -> str:
    """Return a part of a token; bytes are taken as they are."""
    return base64url(part if isinstance(part, bytes) else json.dumps(part).encode())


def base64url(raw: bytes) -> str:
    """Return the base64url form without padding, as tokens have it."""
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def _changed(right: Mapping[str, object], changes: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in {**right, **changes}.items() if value is not LEFT_OUT}
