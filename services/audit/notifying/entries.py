"""Entries of the ledger about webhooks: what somebody changed, and what the service did itself."""

from collections.abc import Mapping
from typing import Any, NamedTuple
from uuid import UUID

from services.audit.appending.ledger import ITSELF
from services.audit.rules.events import Event, Sealed, seal
from services.audit.rules.leaf import request_key
from shared.clock import Clock
from shared.identity.actor import current_call

RESOURCE = "webhook"
# Where what happens is sent is a matter of who gets to know it.
CATEGORY = "security"


class Recorded(NamedTuple):
    """An entry that is in the ledger: the id of its event, and its position."""

    event_id: UUID
    leaf_index: int


class Entries:
    """Makes entries about webhooks; each is appended in the transaction of what it tells."""

    def __init__(self, secret: bytes, clock: Clock) -> None:
        """Take the installation's secret and a clock."""
        self._mac_key = request_key(secret)
        self._clock = clock

    def by_caller(
        self, action: str, webhook_id: UUID, version: int | None, details: Mapping[str, Any]
    ) -> Sealed:
        """Return the entry of what the caller of the current call does.

        `version` is that of the webhook which it makes, None when it makes none.
        """
        call = current_call.get()
        actor = call.actor
        behalf = actor.on_behalf_of if actor else None
        known = {"on_behalf_of": str(behalf)} if behalf else {}
        return self._sealed(
            Event(
                action=action,
                resource_type=RESOURCE,
                resource_id=str(webhook_id),
                details={**details, **known},
                ip_address=call.ip_address,
                user_agent=call.user_agent,
                category=CATEGORY,
                **_aggregate(webhook_id, version),
            ),
            actor.user_id if actor else None,
        )

    def by_service(
        self, action: str, webhook_id: UUID, version: int | None, details: Mapping[str, Any]
    ) -> Sealed:
        """Return the entry of what the service does by itself."""
        event = Event(
            action=action,
            resource_type=RESOURCE,
            resource_id=str(webhook_id),
            details=dict(details),
            category=CATEGORY,
            **_aggregate(webhook_id, version),
        )
        return self._sealed(event, None)

    def _sealed(self, event: Event, user_id: UUID | None) -> Sealed:
        now = self._clock()
        return seal(event, producer=ITSELF, user_id=user_id, now=now, mac_key=self._mac_key)


def _aggregate(webhook_id: UUID, version: int | None) -> dict[str, Any]:
    if version is None:
        return {}
    return {"aggregate": f"{RESOURCE}:{webhook_id}", "aggregate_seq": version}
