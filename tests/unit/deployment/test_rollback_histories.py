"""Random histories: the rules and the slow reference must agree at every step."""

from datetime import timedelta
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.deployment.rules.history import live
from services.deployment.rules.lifecycle import DeploymentStatus, FailureClass
from services.deployment.rules.releases import ReleaseStatus
from shared.errors import NoStableRelease
from tests.unit.deployment.facts import HOUR, START, Pair
from tests.unit.deployment.reference import MINUTES_TO_STABLE, Happened, Reference

VERSIONS = ("v0", "v1", "v2", "v3")
DEPLOYS = ("completes", "completes", "fails before", "fails after", "errs after", "is cancelled")
ROLLBACKS = ("completes", "completes", "fails", "is cancelled")
STEPS = (
    *product(("deploy",), VERSIONS, DEPLOYS),
    *product(("deploy at once",), VERSIONS, ("completes", "fails after")),
    *product(("roll back",), ("v0",), ROLLBACKS * 2),
    *product(("say",), VERSIONS, ("bad", "cleared", "cleared")),
    ("say", "v3", "abandoned"),
)
BRIEF, LONG = 1, 15
STATUS = {
    "completes": DeploymentStatus.COMPLETED,
    "fails before": DeploymentStatus.FAILED,
    "fails after": DeploymentStatus.FAILED,
    "errs after": DeploymentStatus.FAILED,
    "fails": DeploymentStatus.FAILED,
    "is cancelled": DeploymentStatus.CANCELLED,
}


class World:
    """The real rules and the reference, living through the same history."""

    def __init__(self) -> None:
        """Begin with nothing deployed, at minute 0."""
        self.pair = Pair()
        self.reference = Reference()
        self.minute = 0
        for version in VERSIONS:
            self.pair.release(version)

    def step(self, what: str, version: str, how: str) -> str | None:
        """Let one thing happen; returns the release of a rollback that completed."""
        self.minute += BRIEF if what == "deploy at once" else LONG
        self.pair.now = START + timedelta(minutes=self.minute) - HOUR
        if what == "roll back":
            return self.roll_back(how)
        if what == "say":
            self.say(version, how)
        else:
            self.deploy(version, how)
        return None

    def deploy(self, version: str, how: str) -> None:
        """Let an ordinary deployment happen, also of an older release or of the live one."""
        if not self.reference.usable(version):
            return
        blame = {"fails after": FailureClass.FAILED, "errs after": FailureClass.ERRORED}.get(how)
        touched = how != "fails before"
        self.pair.add(version, STATUS[how], touched=touched, failure_class=blame)
        number = self.reference.attempt(version)
        self.reference.attempts[number].blamed = blame is FailureClass.FAILED
        if touched:
            self.reference.note(Happened.TOUCHED, number, self.minute)
        if how == "completes":
            self.reference.note(Happened.COMPLETED, number, self.minute)

    def say(self, version: str, what: str) -> None:
        """Let somebody mark a release; a live one cannot be abandoned."""
        if what == "bad":
            self.reference.bad.add(version)
        elif what == "cleared":
            self.reference.bad.discard(version)
        elif self.reference.live() != version:
            self.reference.abandoned.add(version)
        gone = version in self.reference.abandoned
        self.pair.change_release(
            version,
            bad_because="said so" if version in self.reference.bad else None,
            status=ReleaseStatus.ABANDONED if gone else ReleaseStatus.PROMOTED,
        )

    def roll_back(self, how: str) -> str | None:
        """Roll back the latest deployment, if both agree that it can be."""
        expected = self.reference.target(self.minute)
        if self.reference.subject() is None:
            return None
        self.check_properties(expected)
        if expected is None:
            return None
        made = self.pair.roll_back(STATUS[how])
        number = self.reference.request_rollback(expected, self.minute)
        assert made.rollback_of.int - 1 == self.reference.attempts[number].undoes
        told_bad = {r.version for r in self.pair.releases.values() if r.bad_because is not None}
        assert told_bad == self.reference.bad
        if how != "completes":
            return None
        self.reference.note(Happened.COMPLETED, number, self.minute)
        return expected

    def check_properties(self, expected: str | None) -> None:
        """Ask the rules without effect; what they answer is what the reference expects."""
        try:
            made = self.pair.plan()
        except NoStableRelease:
            assert expected is None
            return
        assert made.target.version == expected
        release = self.pair.release(made.target.version)
        assert release.bad_because is None
        assert release.status is not ReleaseStatus.ABANDONED
        if made.subject.ever_completed:
            current = live(self.pair.deployments.values())
            assert current is not None
            assert made.target.release_id != current.release_id
            assert not made.unproven

    def roll_back_until_refused(self, *, clearing: bool) -> list[str]:
        """Roll back successfully again and again; returns the releases gone back to.

        `clearing` removes every bad mark in between, so that only what was rolled back counts.
        """
        picked: list[str] = []
        while (release := self.step("roll back", "v0", "completes")) is not None:
            picked.append(release)
            assert len(picked) <= len(VERSIONS)
            for version in VERSIONS if clearing else ():
                self.say(version, "cleared")
        return picked


@settings(max_examples=2000, deadline=None)
@given(st.lists(st.sampled_from(STEPS), max_size=20), st.booleans())
def test_rules_and_reference_agree_on_any_history(
    steps: list[tuple[str, str, str]],
    clearing: bool,  # noqa: FBT001
) -> None:
    world = World()

    for step in steps:
        world.step(*step)

    picked = world.roll_back_until_refused(clearing=clearing)
    assert len(set(picked)) == len(picked)


def test_reference_and_policy_mean_the_same_time() -> None:
    assert Pair().policy.stable_after == timedelta(minutes=MINUTES_TO_STABLE)


@pytest.mark.parametrize("clearing", [True, False])
def test_rollbacks_walk_down_and_end(*, clearing: bool) -> None:
    world = World()
    for version in VERSIONS:
        world.step("deploy", version, "completes")

    assert world.roll_back_until_refused(clearing=clearing) == ["v2", "v1", "v0"]


def test_order_of_the_rows_does_not_matter() -> None:
    pair = Pair()
    for version in ("v0", "v1", "v2"):
        pair.add(version)
    expected = pair.plan()

    pair.deployments = dict(reversed(pair.deployments.items()))

    assert pair.plan() == expected
