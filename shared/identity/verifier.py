"""What a server asks of whoever knows the callers."""

from collections.abc import Mapping
from typing import Protocol

from shared.identity.actor import Actor


class Verifier(Protocol):
    """Tells from the metadata of a call who makes it."""

    async def identify(self, metadata: Mapping[str, str]) -> Actor | None:
        """Return the actor, or None when no credentials were sent.

        `metadata` has lower-case keys; repeated ones are joined by commas. Raises TokenRejected
        for credentials that are not valid, and other domain errors for what may not be claimed.
        """
