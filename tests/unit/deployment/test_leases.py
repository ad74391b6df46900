"""Who may drive a deployment, over every status, every lease and every token."""

from datetime import UTC, datetime, timedelta
from itertools import product
from uuid import UUID

import pytest

from services.deployment.rules.leases import (
    CLAIMABLE,
    WHEN_LOST,
    Lease,
    check_claimable,
    check_token,
)
from services.deployment.rules.lifecycle import OPEN, DeploymentStatus, advance
from shared.domain_error import DomainError
from shared.errors import IllegalTransition, LeaseHeld, LeaseLost

NOW = datetime(2026, 3, 9, 12, tzinfo=UTC)
DEPLOYMENT, TOKEN, OTHER = UUID(int=1), UUID(int=2), UUID(int=3)
HOLDER, STRANGER = UUID(int=4), UUID(int=5)
LENGTH = timedelta(minutes=5)
LEASES = {
    "none": None,
    "live": timedelta(seconds=1),
    "at_its_end": timedelta(),
    "over": timedelta(seconds=-1),
}


def lease(kind: str) -> Lease | None:
    """Return a lease that ends some time from now."""
    left = LEASES[kind]
    if left is None:
        return None
    return Lease(DEPLOYMENT, TOKEN, "r1", HOLDER, "ci", LENGTH, NOW + left - LENGTH, NOW + left)


def refusal(of: DomainError | None) -> type[DomainError] | None:
    """Return the kind of a refusal."""
    return None if of is None else type(of)


@pytest.mark.parametrize(
    ("kind", "token", "account"),
    list(product(LEASES, ("none", "right", "wrong"), ("holder", "stranger"))),
)
def test_every_token_with_every_lease(kind: str, token: str, account: str) -> None:
    sent = {"none": None, "right": TOKEN, "wrong": OTHER}[token]
    expected: type[DomainError] | None = LeaseLost
    if token == "none":
        expected = LeaseHeld if kind == "live" else None
    elif (kind, token, account) == ("live", "right", "holder"):
        expected = None
    found: DomainError | None = None
    try:
        who = HOLDER if account == "holder" else STRANGER
        check_token(DEPLOYMENT, lease(kind), sent, who, NOW)
    except DomainError as error:
        found = error
    assert refusal(found) is expected


@pytest.mark.parametrize(("status", "kind"), list(product(DeploymentStatus, LEASES)))
def test_every_status_with_every_lease(status: DeploymentStatus, kind: str) -> None:
    expected: type[DomainError] | None = None
    if status not in {DeploymentStatus.PENDING, DeploymentStatus.IN_PROGRESS}:
        expected = IllegalTransition
    elif kind == "live":
        expected = LeaseHeld
    found: DomainError | None = None
    try:
        check_claimable(DEPLOYMENT, status, lease(kind), NOW)
    except DomainError as error:
        found = error
    assert refusal(found) is expected


def test_who_is_refused_learns_who_and_until_when() -> None:
    with pytest.raises(LeaseHeld) as refused:
        check_claimable(DEPLOYMENT, DeploymentStatus.PENDING, lease("live"), NOW)
    assert refused.value.facts == {
        "deployment": str(DEPLOYMENT),
        "executor": "r1",
        "holder": "ci",
        "until": "2026-03-09T12:00:01Z",
    }


def test_what_never_reached_its_environment_is_not_offered_for_rollback() -> None:
    with pytest.raises(IllegalTransition) as refused:
        check_claimable(DEPLOYMENT, DeploymentStatus.CANCELLED, None, NOW, touched=False)
    assert refused.value.facts["allowed"] == "nothing"


def test_what_a_lost_lease_does_is_allowed_where_a_lease_can_be() -> None:
    for status, action in WHEN_LOST.items():
        assert status in OPEN
        advance(status, action)
    assert CLAIMABLE <= OPEN
