"""Entries by which the ledger tells of changes to itself.

They do not go through the queue, because each must be committed together with what it says.
"""

from datetime import datetime
from typing import Any

from services.audit.appending.ledger import ITSELF
from services.audit.rules.events import Event, Sealed, seal
from services.audit.rules.leaf import request_key
from services.audit.rules.redaction import CATEGORY
from shared.clock import Clock
from shared.identity.actor import caller, current_call


class Announcer:
    """Makes entries about what the caller of the current call does to the ledger."""

    def __init__(self, secret: bytes, clock: Clock) -> None:
        """Take the installation's secret and a clock."""
        self._mac_key = request_key(secret)
        self._clock = clock

    def now(self) -> datetime:
        """Return the time."""
        return self._clock()

    def entry(
        self, action: str, resource_type: str, resource_id: str, details: dict[str, Any]
    ) -> Sealed:
        """Return an entry about the current call, with an event id of its own."""
        call, actor = current_call.get(), caller()
        known = {"on_behalf_of": str(actor.on_behalf_of)} if actor.on_behalf_of else {}
        event = Event(
            action=action,
            resource_type=resource_type,
            resource_id=resource_id,
            details=details | known,
            ip_address=call.ip_address,
            user_agent=call.user_agent,
            category=CATEGORY,
        )
        return seal(
            event,
            producer=ITSELF,
            user_id=actor.user_id,
            now=self._clock(),
            mac_key=self._mac_key,
        )
