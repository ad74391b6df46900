"""Signatures, pauses between attempts, and where webhooks may be sent."""

from base64 import b64decode
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.audit.rules import webhook_retries, webhook_signing
from services.audit.rules.webhook_retries import Patience
from services.audit.rules.webhook_targets import TargetRefused, Targets, is_public

WEBHOOK = UUID("01900000-0000-7000-8000-000000000001")


def test_a_signature_is_that_of_the_published_example() -> None:
    key = b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    name, seconds, body = "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
    made = webhook_signing.signature([key], name, seconds, body)
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    both = webhook_signing.signature([b"other", key], name, seconds, body)
    assert both.split(" ")[1] == made


def test_each_webhook_and_generation_of_each_installation_has_a_secret_of_its_own() -> None:
    other = UUID(int=WEBHOOK.int + 1)
    keys = {
        webhook_signing.secret_key(secret, webhook, generation)
        for secret in (b"a" * 32, b"b" * 32)
        for webhook in (WEBHOOK, other)
        for generation in (1, 2, 256)
    }
    assert len(keys) == 12
    assert {len(key) for key in keys} == {32}
    key = webhook_signing.secret_key(b"a" * 32, WEBHOOK, 1)
    assert b64decode(webhook_signing.shown(key).removeprefix("whsec_")) == key


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_pauses_grow_to_an_hour_and_are_shortened_by_half_at_most(
    attempt: int, luck: float
) -> None:
    pause = webhook_retries.pause_before(attempt, luck)
    whole = webhook_retries.pause_before(attempt, 0)
    assert whole / 2 <= pause <= whole <= timedelta(hours=1)
    assert whole <= webhook_retries.pause_before(attempt + 1, 0)


def test_the_first_pauses_are_as_documented() -> None:
    whole = [webhook_retries.pause_before(attempt, 0).total_seconds() for attempt in range(1, 12)]
    assert whole == [5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600]


def test_an_event_is_given_up_and_a_receiver_is_lost_after_their_times() -> None:
    patience = Patience(timedelta(hours=24), timedelta(hours=72))
    began = datetime(2026, 3, 1, tzinfo=UTC)
    day, three = began + timedelta(hours=24), began + timedelta(hours=72)
    instant = timedelta(microseconds=1)
    assert not webhook_retries.is_given_up(patience, began, day)
    assert webhook_retries.is_given_up(patience, began, day + instant)
    assert not webhook_retries.is_lost(patience, began, three - instant)
    assert webhook_retries.is_lost(patience, began, three)


INSIDE = [
    *("127.0.0.1", "127.255.255.254", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1"),  # noqa: S104
    *("169.254.169.254", "100.64.0.1", "192.0.0.1", "192.0.2.1", "198.18.0.1", "203.0.113.1"),
    *("224.0.0.1", "240.0.0.1", "255.255.255.255"),
    *("::", "::1", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1"),
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::1", "2002:7f00:1::"),
    *("2001:0:1::1", "::127.0.0.1", "fec0::1"),
]
OUTSIDE = ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:1.1.1.1"]


@pytest.mark.parametrize("text", INSIDE)
def test_addresses_that_are_refused(text: str) -> None:
    assert not is_public(ip_address(text))
    host = f"[{text}]" if ":" in text else text
    with pytest.raises(TargetRefused):
        Targets().check_url(f"https://{host}/")
    with pytest.raises(TargetRefused):
        Targets().check_address("example.com", ip_address(text))
    Targets(frozenset({"example.com"})).check_address("Example.com", ip_address(text))
    Targets(frozenset({text})).check_url(f"https://{host}/")


@pytest.mark.parametrize("text", OUTSIDE)
def test_addresses_that_are_not(text: str) -> None:
    assert is_public(ip_address(text))
    Targets().check_url(f"https://[{text}]/" if ":" in text else f"https://{text}/")


@pytest.mark.parametrize(
    "url",
    [
        *("http://example.com/", "ftp://example.com/", "file:///etc/passwd", "example.com", "//x/"),
        *("https://", "https:///x", "https://u@example.com/", "https://u:p@example.com/"),
        *("https://example.com/#x", "https://example.com#", "https://exa mple.com/"),
        *("https://example.com\\@10.0.0.1/", "https://example.com/\n", "https://exämple.com/"),
        *("https://127.1/", "https://2130706433/", "https://127.0.0.1./", "https://example.com:0/"),
        *("https://example.com:99999/", "https://[::1", "https://[fe80::1%25eth0]/"),
    ],
)
def test_urls_that_are_refused(url: str) -> None:
    with pytest.raises(TargetRefused):
        Targets().check_url(url)


def test_http_is_allowed_where_an_operator_says_so() -> None:
    Targets(plain_http=True).check_url("http://example.com:8080/hook?a=b")
    Targets().check_url("https://example.com:8443/hook?a=b")
