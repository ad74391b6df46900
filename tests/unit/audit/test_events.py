"""Sealing: what is checked, and what makes two events the same."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from services.audit.rules.events import Event, Sealed, canonical_address, seal
from shared.errors import EventTooOld, ValidationFailed
from shared.ids import new_id, new_id_at

NOW = datetime.now(UTC)
EVENT = Event("deploy", "deployment", "d-1", event_id=new_id(), user="dev1", details={"a": 1})
USER = uuid4()


def sealed(event: Event, now: datetime = NOW, user_id: UUID | None = USER) -> Sealed:
    return seal(event, producer="deployment", user_id=user_id, now=now, mac_key=b"k" * 32)


def test_a_repeated_event_has_the_same_mac_and_another_digest() -> None:
    first, second = sealed(EVENT), sealed(EVENT, now=NOW + timedelta(seconds=9))
    assert first.request_mac == second.request_mac
    assert first.event_digest != second.event_digest
    assert first.salt != second.salt


@pytest.mark.parametrize(
    "changed",
    [
        {"action": "promote"},
        {"resource_type": "release"},
        {"resource_id": "d-2"},
        {"details": {"a": 2}},
        {"details": {}},
        {"occurred_at": NOW},
        {"ip_address": "10.0.0.1"},
        {"user_agent": ""},
        {"category": "security"},
        {"aggregate": "deployment:1", "aggregate_seq": 1},
        {"event_id": new_id()},
    ],
    ids="-".join,
)
def test_any_other_field_makes_another_mac(changed: dict[str, object]) -> None:
    other = replace(EVENT, **changed)  # type: ignore[arg-type]
    assert sealed(other).request_mac != sealed(EVENT).request_mac


def test_another_user_or_producer_makes_another_mac() -> None:
    mac = sealed(EVENT).request_mac
    assert sealed(EVENT, user_id=None).request_mac != mac
    other = seal(EVENT, producer="catalog", user_id=USER, now=NOW, mac_key=b"k" * 32)
    assert other.request_mac != mac


def test_without_an_id_the_server_makes_one_and_the_time_is_that_of_arrival() -> None:
    event = replace(EVENT, event_id=None)
    assert sealed(event).event_id != sealed(event).event_id
    assert sealed(event).occurred_at == NOW


def test_secrets_are_gone_before_anything_is_computed() -> None:
    one = sealed(replace(EVENT, details={"password": "one"}))
    other = sealed(replace(EVENT, details={"password": "other"}))
    assert one.details == b'{"password":"[masked]"}'
    assert one.request_mac == other.request_mac


@pytest.mark.parametrize("event_id", [uuid4(), new_id_at(NOW + timedelta(days=1, minutes=1))])
def test_ids_without_a_believable_time_are_refused(event_id: UUID) -> None:
    with pytest.raises(ValidationFailed):
        sealed(replace(EVENT, event_id=event_id))


def test_ids_beyond_the_horizon_are_refused() -> None:
    with pytest.raises(EventTooOld) as refused:
        sealed(replace(EVENT, event_id=new_id_at(NOW - timedelta(days=90, minutes=1))))
    assert refused.value.facts["horizon_days"] == "90"
    sealed(replace(EVENT, event_id=new_id_at(NOW - timedelta(days=89))))


@pytest.mark.parametrize("field", ["resource_id", "user_agent"])
def test_nul_is_refused(field: str) -> None:
    with pytest.raises(ValidationFailed):
        sealed(replace(EVENT, **{field: "a\0b"}))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("2001:DB8:0:0::1", "2001:db8::1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("fe80::1%eth0", "fe80::1"),
        (None, None),
    ],
)
def test_an_address_has_one_spelling(given: str | None, stored: str | None) -> None:
    assert canonical_address(given) == stored


def test_a_network_is_not_an_address() -> None:
    with pytest.raises(ValidationFailed):
        canonical_address("10.0.0.0/8")
