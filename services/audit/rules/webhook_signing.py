"""Secrets of webhooks, and signatures by Standard Webhooks: HMAC-SHA256 over id, time and body.

A secret is derived from the installation's, the webhook's id and the number of its generation. So
all replicas have it, and neither the database nor a copy of it has.
"""

import hmac
from base64 import b64encode
from collections.abc import Iterable
from uuid import UUID

PREFIX = "whsec_"
_PURPOSE = b"release-manager webhook secret v1"


def secret_key(installation: bytes, webhook: UUID, generation: int) -> bytes:
    """Return the key of 32 bytes with which the requests of a webhook are signed."""
    name = _PURPOSE + webhook.bytes + generation.to_bytes(4)
    return hmac.digest(installation, name, "sha256")


def shown(key: bytes) -> str:
    """Return a key as its owner gets it."""
    return PREFIX + b64encode(key).decode()


def signature(keys: Iterable[bytes], message_id: str, seconds: int, body: bytes) -> str:
    """Return the header `webhook-signature`: one signature for each key, the newest first."""
    signed = f"{message_id}.{seconds}.".encode() + body
    made = (b64encode(hmac.digest(key, signed, "sha256")).decode() for key in keys)
    return " ".join(f"v1,{one}" for one in made)
