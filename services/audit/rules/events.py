"""Events: from what a producer sent to what the ledger stores, byte for byte."""

import json
import os
from dataclasses import dataclass, field
from datetime import MAXYEAR, MINYEAR, UTC, datetime, timedelta
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple, cast
from uuid import UUID

from services.audit.rules import leaf
from services.audit.rules.canonical import canonical
from services.audit.rules.masking import masked
from shared.domain_error import FieldViolation
from shared.errors import EventTooOld, ValidationFailed
from shared.ids import new_id

HORIZON = timedelta(days=90)
AHEAD = timedelta(days=1)
ID_VERSION = 7
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Event:
    """An event as its producer sent it; None where it sent nothing. `user` is a name or an id."""

    action: str
    resource_type: str
    resource_id: str
    event_id: UUID | None = None
    occurred_at: datetime | None = None
    user: str | None = None
    details: dict[str, object] = field(default_factory=dict)
    ip_address: str | None = None
    user_agent: str | None = None
    category: str = "change"
    aggregate: str | None = None
    aggregate_seq: int | None = None


class Sealed(NamedTuple):
    """An event ready to be appended: checked, masked, canonical, with salt, digest and MAC.

    `details` are the canonical bytes. All that is missing is what the head row decides: leaf
    index, time and id. The order is that of the parameters of `audit_append`.
    """

    event_id: UUID
    request_mac: bytes
    salt: bytes
    event_digest: bytes
    occurred_at: datetime
    user_id: UUID | None
    action: str
    resource_type: str
    resource_id: str
    details: bytes
    ip_address: str | None
    user_agent: str | None
    category: str
    producer: str
    aggregate: str | None
    aggregate_seq: int | None
    masked: bool
    """Whether `details` had secrets, which are masked now."""

    def stored_details(self) -> dict[str, object]:
        """Return the details as a reader will find them."""
        details: dict[str, object] = json.loads(self.details)
        return details


def seal(
    event: Event, *, producer: str, user_id: UUID | None, now: datetime, mac_key: bytes
) -> Sealed:
    """Check an event, mask its secrets and compute its digests.

    `producer` is the authenticated sender, `user_id` what `event.user` was resolved to, `now` the
    time of arrival. Raises ValidationFailed and EventTooOld.
    """
    if event.event_id is not None:
        check_event_id(event.event_id, now)
    event_id = event.event_id or new_id()
    occurred_at = check_occurred_at(event.occurred_at or now)
    harmless = cast("dict[str, object]", masked(event.details))
    details = canonical(harmless)
    address = canonical_address(event.ip_address)
    agent = None if event.user_agent is None else checked_text("user_agent", event.user_agent)
    values = leaf_values(
        event_id=event_id,
        occurred_at=occurred_at,
        user_id=user_id,
        action=event.action,
        resource_type=event.resource_type,
        resource_id=checked_text("resource_id", event.resource_id),
        details=details,
        ip_address=address,
        user_agent=agent,
        category=event.category,
        producer=producer,
        aggregate=event.aggregate,
        aggregate_seq=event.aggregate_seq,
    )
    sent = values if event.occurred_at else [values[0], None, *values[2:]]
    salt = os.urandom(leaf.SALT_BYTES)
    return Sealed(
        event_id,
        leaf.request_mac(mac_key, sent),
        salt,
        leaf.event_digest(values, salt),
        occurred_at,
        user_id,
        event.action,
        event.resource_type,
        event.resource_id,
        details,
        address,
        agent,
        event.category,
        producer,
        event.aggregate,
        event.aggregate_seq,
        harmless is not event.details,
    )


def leaf_values(  # noqa: PLR0913  (the fields of the encoding)
    *,
    event_id: UUID,
    occurred_at: datetime,
    user_id: UUID | None,
    action: str,
    resource_type: str,
    resource_id: str,
    details: bytes,
    ip_address: str | None,
    user_agent: str | None,
    category: str,
    producer: str,
    aggregate: str | None,
    aggregate_seq: int | None,
) -> list[leaf.Value]:
    """Return the values that a leaf commits to, in the order of `leaf.TAGS`."""
    return [
        event_id.bytes,
        b"%d" % microseconds(occurred_at),
        _text(None if user_id is None else str(user_id)),
        action.encode(),
        resource_type.encode(),
        resource_id.encode(),
        details,
        _text(ip_address),
        _text(user_agent),
        category.encode(),
        producer.encode(),
        _text(aggregate),
        None if aggregate_seq is None else b"%d" % aggregate_seq,
    ]


def _text(text: str | None) -> leaf.Value:
    return None if text is None else text.encode()


def microseconds(moment: datetime) -> int:
    """Return microseconds since 1970, exactly."""
    return (moment - _EPOCH) // _MICROSECOND


def check_event_id(event_id: UUID, now: datetime) -> None:
    """Refuse an event id whose repetition could not be told: without a time, too old, too new.

    Raises ValidationFailed and EventTooOld.
    """
    if event_id.version != ID_VERSION:
        raise _wrong("event_id", "must be a UUID of version 7")
    made = event_id.int >> 80  # milliseconds; the latest are beyond the years of a datetime
    oldest, newest = _id_times(now)
    if made > newest:
        raise _wrong("event_id", "must not be more than a day in the future")
    if made < oldest:
        raise EventTooOld(event_id=event_id, horizon_days=HORIZON.days)


@lru_cache(maxsize=1)  # all events of a batch arrive at one time
def _id_times(now: datetime) -> tuple[int, int]:
    """Return the times of the oldest and the newest id that are accepted, in milliseconds."""
    return microseconds(now - HORIZON) // 1000, microseconds(now + AHEAD) // 1000


def check_occurred_at(moment: datetime) -> datetime:
    """Return the moment unless it is one that the database's driver stores as infinite."""
    if not MINYEAR < moment.year < MAXYEAR:
        raise _wrong("occurred_at", f"must be a time of the years {MINYEAR + 1} to {MAXYEAR - 1}")
    return moment


@lru_cache(maxsize=1_024)
def canonical_address(text: str | None) -> str | None:
    """Return the one spelling of an IP address.

    An IPv4 address mapped into IPv6 becomes the IPv4 address it stands for; the zone of a
    link-local address is dropped, as it means something on one machine only.
    """
    if text is None:
        return None
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        raise _wrong("ip_address", "must be an IPv4 or IPv6 address") from None
    return address_text(address)


def address_text(address: IPv4Address | IPv6Address) -> str:
    """Return the spelling of an address that leaves commit to."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.compressed


def checked_text(name: str, text: str) -> str:
    """Return the text unless the database could not hold it."""
    if "\x00" in text:
        raise _wrong(name, "must not contain the character U+0000")
    return text


def _wrong(name: str, description: str) -> ValidationFailed:
    violation = FieldViolation(name, description, f"audit_event.{name}")
    return ValidationFailed(count=1, first=f"{name}: {description}", fields=(violation,))
