"""Page tokens: where a list goes on, in a form that callers can neither read nor forge.

A token is authenticated and bound to the method, the caller and every other field of the request
(AIP-158), so it is worth nothing to anybody else and cannot be moved to another query. It expires,
after long enough for an export that was cut off on a Friday to go on after the holidays.
"""

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from shared.clock import Clock, system_clock
from shared.errors import PageTokenInvalid

DEFAULT_PAGE_SIZE = 50
MAXIMUM_PAGE_SIZE = 1000
LIFETIME = timedelta(days=14)
_MAC_BYTES = 16
_TIME_BYTES = 5

Position = Sequence[int | str]


def page_size(requested: int, default: int = DEFAULT_PAGE_SIZE) -> int:
    """Return the size of a page: the default for 0, never more than 1,000 (AIP-158)."""
    return min(requested or default, MAXIMUM_PAGE_SIZE)


class PageTokens:
    """Makes and reads tokens with a key that all replicas share."""

    def __init__(self, key: bytes, clock: Clock = system_clock) -> None:
        """Derive the key of page tokens from the installation's secret."""
        self._key = hmac.digest(key, b"release-manager page token v1", "sha256")
        self._clock = clock

    def encode(self, method: str, caller: UUID, query: bytes, position: Position) -> str:
        """Return the token that continues `query` of `method` after `position`."""
        return self._encoded(method, caller, query, position, self._now())

    def decode(self, method: str, caller: UUID, query: bytes, token: str) -> list[int | str]:
        """Return the position inside `token`.

        Raises PageTokenInvalid for any other query, and for a token older than `LIFETIME`.
        """
        try:
            raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError) as error:
            raise PageTokenInvalid(method=method) from error
        mac, payload = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(method, caller, query, payload)):
            raise PageTokenInvalid(method=method)
        made = int.from_bytes(payload[:_TIME_BYTES])
        position: list[int | str] = json.loads(payload[_TIME_BYTES:])
        expired = self._now() - made > LIFETIME.total_seconds()
        if expired or self._encoded(method, caller, query, position, made) != token:
            raise PageTokenInvalid(method=method)
        return position

    def _now(self) -> int:
        return int(self._clock().timestamp())

    def _encoded(
        self, method: str, caller: UUID, query: bytes, position: Position, made: int
    ) -> str:
        # As it is, not escaped: a name of letters beyond ASCII stays as short as it is in UTF-8.
        text = json.dumps(list(position), separators=(",", ":"), ensure_ascii=False)
        payload = made.to_bytes(_TIME_BYTES) + text.encode()
        mac = self._mac(method, caller, query, payload)
        return base64.urlsafe_b64encode(mac + payload).decode().rstrip("=")

    def _mac(self, method: str, caller: UUID, query: bytes, payload: bytes) -> bytes:
        parts = (method.encode(), caller.bytes, hashlib.sha256(query).digest(), payload)
        message = b"".join(len(part).to_bytes(4) + part for part in parts)
        return hmac.digest(self._key, message, "sha256")[:_MAC_BYTES]
