"""What a rollback goes back to beyond the table of histories, and what it says of releases."""

import pytest

from services.deployment.rules.candidates import Verdict
from services.deployment.rules.lifecycle import DeploymentStatus, FailureClass
from services.deployment.rules.policy import EnvironmentType, default_policy
from services.deployment.rules.releases import ReleaseStatus
from shared.errors import GateUnsatisfied, NotPermitted, RollbackBlocked, TargetNeverDeployed
from shared.identity.actor import Role
from tests.unit.deployment.facts import Pair, uid

D = DeploymentStatus


@pytest.mark.parametrize(
    ("status", "failure_class", "marked"),
    [
        (D.COMPLETED, None, True),
        (D.FAILED, FailureClass.FAILED, True),
        (D.FAILED, FailureClass.ERRORED, False),
        (D.CANCELLED, None, False),
    ],
)
def test_what_a_rollback_says_about_the_release(
    status: DeploymentStatus, failure_class: FailureClass | None, *, marked: bool
) -> None:
    pair = Pair()
    pair.add("v1")
    pair.add("v2", status, failure_class=failure_class)
    waiting = pair.add("v2", D.PENDING, touched=False)
    pair.add("v3", D.PENDING, touched=False)

    made = pair.plan()

    assert made.release_rolled_back
    assert made.marks_bad is marked
    assert made.supersedes == (waiting.id,)


@pytest.mark.parametrize("status", [D.FAILED, D.CANCELLED])
def test_retry_of_a_rollback_inherits_what_it_undoes(status: DeploymentStatus) -> None:
    pair = Pair()
    pair.add("v1")
    undone = pair.add("v2")
    pair.roll_back(status)
    pair.roll_back(status)
    pair.add("v1", D.PENDING, touched=False)

    made = pair.plan()

    assert (made.target.version, made.rollback_of, made.retried) == ("v1", undone.id, True)
    assert (made.release_rolled_back, made.marks_bad, made.supersedes) == (False, False, ())


def test_retry_keeps_a_named_target_and_never_blames_it() -> None:
    pair = Pair()
    for version in ("v0", "v1", "v2", "v3"):
        pair.add(version)
    pair.roll_back(D.FAILED, target_release=pair.release("v1").id)

    again = pair.plan()
    other = pair.plan(target_release=pair.release("v0").id)

    assert again.target.version == "v1"
    assert other.target.version == "v0"
    assert other.rollback_of == again.rollback_of
    assert (other.release_rolled_back, other.marks_bad) == (False, False)


def test_retry_of_a_named_target_that_turned_out_bad_goes_below_it() -> None:
    pair = Pair()
    for version in ("v0", "v1", "v2", "v3"):
        pair.add(version)
    pair.roll_back(D.FAILED, target_release=pair.release("v1").id)
    pair.change_release("v1", bad_because="leaks")

    assert pair.plan().target.version == "v0"


def test_retry_never_returns_to_the_release_it_was_leaving() -> None:
    pair = Pair()
    for version in ("v0", "v2", "v1"):
        pair.add(version)
    pair.fail("v2", touched=True, errored=True)
    pair.roll_back(D.FAILED)
    pair.change_release("v1", bad_because="leaks")

    assert pair.plan().target.version == "v0"


def test_retry_looks_further_when_its_target_turned_out_bad() -> None:
    pair = Pair()
    for version in ("v0", "v1", "v2"):
        pair.add(version)
    pair.roll_back(D.FAILED)
    pair.change_release("v1", bad_because="leaks")

    assert pair.plan().target.version == "v0"


def test_failed_attempt_on_top_of_a_bad_release_goes_below_it() -> None:
    pair = Pair()
    pair.add("v1")
    pair.add("v2")
    pair.change_release("v2", bad_because="leaks")
    pair.fail("v3", touched=True)

    assert pair.plan().target.version == "v1"


def test_failed_redeploy_restores_the_same_release_and_blames_nothing() -> None:
    pair = Pair()
    pair.add("v1")
    pair.add("v2")
    pair.fail("v2", touched=True)

    made = pair.plan()

    assert made.target.version == "v2"
    assert (made.release_rolled_back, made.marks_bad, made.supersedes) == (False, False, ())


def test_live_release_is_taken_even_if_not_yet_stable() -> None:
    pair = Pair()
    pair.add("v1")
    live = pair.add("v2", strict_omitted=True)
    pair.fail("v3", touched=True)

    made = pair.plan()

    assert made.target == live
    assert made.unproven


def test_omitted_strict_stage_is_passed_over_and_not_laundered_by_a_rollback() -> None:
    pair = Pair()
    pair.add("v0")
    pair.add("v1", strict_omitted=True)
    pair.fail("v2", touched=True)
    pair.roll_back()
    pair.add("v3")

    made = pair.plan()

    assert made.target.version == "v0"
    assert {one.why for one in made.passed_over if one.version == "v1"} == {
        Verdict.STRICT_STAGE_OMITTED
    }


def test_short_lived_release_is_passed_over_only_where_policy_says_so() -> None:
    pair = Pair()
    pair.add("v0")
    brief = pair.add("v1")
    pair.add("v2", completed_at=brief.completed_at)
    assert pair.plan().target.version == "v0"

    pair.policy = default_policy(EnvironmentType.DEV)

    assert pair.plan().target.version == "v1"


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("environment", EnvironmentType)
def test_naming_the_target_needs_a_lead_in_prod(role: Role, environment: EnvironmentType) -> None:
    pair = Pair(default_policy(environment))
    for version in ("v0", "v1", "v2"):
        pair.add(version)
    needed = Role.LEAD if environment is EnvironmentType.PROD else Role.DEVELOPER

    if role < needed:
        with pytest.raises(NotPermitted):
            pair.plan(role=role, target_release=pair.release("v0").id)
        return

    made = pair.plan(role=role, target_release=pair.release("v0").id)
    assert made.target.version == "v0"
    assert (made.passed_over[1].version, made.passed_over[1].why) == ("v1", Verdict.NOT_NAMED)


def test_named_target_must_have_completed_here() -> None:
    pair = Pair()
    pair.add("v1")
    pair.fail("v0", touched=True)
    pair.add("v2")

    for release in (pair.release("v0").id, uid(77)):
        with pytest.raises(TargetNeverDeployed):
            pair.plan(target_release=release)


@pytest.mark.parametrize("change", [{"bad_because": "leaks"}, {"status": ReleaseStatus.ABANDONED}])
def test_named_target_must_be_fit(change: dict[str, object]) -> None:
    pair = Pair()
    pair.add("v1")
    pair.add("v2")
    pair.change_release("v1", **change)

    with pytest.raises(GateUnsatisfied):
        pair.plan(target_release=pair.release("v1").id)


def test_release_being_left_cannot_be_named() -> None:
    pair = Pair()
    pair.add("v1")
    pair.add("v2")
    with pytest.raises(GateUnsatisfied, match="being left"):
        pair.plan(target_release=pair.release("v2").id)
    pair.fail("v1", touched=True)
    with pytest.raises(GateUnsatisfied, match="being left"):
        pair.plan(target_release=pair.release("v1").id)


def test_named_target_may_be_live_below_a_failed_attempt_or_retried() -> None:
    pair = Pair()
    pair.add("v1")
    pair.add("v2")
    pair.fail("v2", touched=True)
    assert pair.plan(target_release=pair.release("v2").id).target.version == "v2"
    pair.add("v3")
    pair.roll_back(D.FAILED)

    assert pair.plan(target_release=pair.release("v2").id).retried


@pytest.mark.parametrize("completes", [True, False])
def test_irreversible_release_is_not_crossed_unless_overridden(*, completes: bool) -> None:
    pair = Pair()
    pair.add("v1")
    pair.change_release("v2", irreversible=True)
    if completes:
        pair.add("v2")
    else:
        pair.fail("v2", touched=True)

    with pytest.raises(RollbackBlocked, match="from v2"):
        pair.plan()
    with pytest.raises(NotPermitted, match="go back from v2"):
        pair.plan(cross_irreversible=True, role=Role.DEVELOPER)
    planned = pair.plan(cross_irreversible=True)
    assert (planned.target.version, planned.crosses) == ("v1", ("v2",))


def test_irreversible_release_below_the_target_does_not_matter() -> None:
    pair = Pair()
    pair.add("v1")
    pair.change_release("v2", irreversible=True)
    pair.add("v2")
    pair.add("v3")

    assert pair.plan().target.version == "v2"


def test_abandoned_subject_keeps_its_release_status() -> None:
    pair = Pair()
    pair.add("v1")
    pair.fail("v2", touched=True)
    pair.change_release("v2", status=ReleaseStatus.ABANDONED)

    assert not pair.plan().release_rolled_back
