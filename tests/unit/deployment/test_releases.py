"""The release machine over every status and action, and what a release is in one environment."""

from itertools import product

import pytest

from services.deployment.rules.lifecycle import DeploymentStatus
from services.deployment.rules.releases import (
    ReleaseAction,
    ReleaseState,
    ReleaseStatus,
    abandon,
    advance,
    state_in,
)
from shared.errors import IllegalTransition, ReleaseInUse
from tests.unit.deployment.facts import Pair

ARROWS = {
    ("draft", "publish"): "published",
    ("draft", "abandon"): "abandoned",
    **{(status, "promote"): "promoted" for status in ("published", "promoted", "rolled_back")},
    **{(status, "roll_back"): "rolled_back" for status in ("published", "promoted", "rolled_back")},
    **{(status, "abandon"): "abandoned" for status in ("published", "promoted", "rolled_back")},
}


@pytest.mark.parametrize(("status", "action"), list(product(ReleaseStatus, ReleaseAction)))
def test_every_action_in_every_status(status: ReleaseStatus, action: ReleaseAction) -> None:
    expected = ARROWS.get((status, action))

    if expected is not None:
        assert advance(status, action, release="auth@1") == expected
        return

    with pytest.raises(IllegalTransition):
        advance(status, action, release="auth@1")


@pytest.mark.parametrize("state", ReleaseState)
def test_abandoning_what_is_live_or_running_is_refused(state: ReleaseState) -> None:
    states = {"dev": ReleaseState.PREVIOUS, "prod": state}
    if state not in (ReleaseState.LIVE, ReleaseState.DEPLOYING):
        abandon(ReleaseStatus.PROMOTED, states, release="auth@1")
        return

    with pytest.raises(ReleaseInUse, match="in prod"):
        abandon(ReleaseStatus.PROMOTED, states, release="auth@1")


def test_state_of_a_release_follows_its_deployments() -> None:
    pair = Pair()
    states = []

    def note(version: str) -> None:
        history = tuple(pair.deployments.values())
        states.append(state_in(history, pair.release(version).id, bad=False))

    note("v1")
    pair.fail("v1", touched=False)
    note("v1")
    pair.add("v1")
    note("v1")
    pair.add("v2")
    note("v1")
    pair.roll_back(DeploymentStatus.IN_PROGRESS)
    note("v1")
    note("v2")
    assert states == ["never", "never", "live", "previous", "deploying", "rolled_back"]


def test_failed_and_undone_release_is_rolled_back_and_bad_stands_first() -> None:
    pair = Pair()
    pair.add("v1")
    pair.fail("v2", touched=True)
    pair.roll_back()
    history = tuple(pair.deployments.values())

    assert state_in(history, pair.release("v2").id, bad=False) is ReleaseState.ROLLED_BACK
    assert state_in(history, pair.release("v2").id, bad=True) is ReleaseState.BAD
