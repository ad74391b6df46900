"""Rollback: what may be undone at all, and what a refusal says."""

import pytest

from services.deployment.rules.candidates import Verdict
from services.deployment.rules.lifecycle import (
    HOLDS_SLOT,
    Action,
    DeploymentStatus,
    FailureClass,
)
from services.deployment.rules.releases import ReleaseStatus
from shared.errors import (
    IllegalTransition,
    NoStableRelease,
    NothingDeployed,
    ResourceNotFound,
    RollbackExists,
    SlotTaken,
    StaleRollback,
)
from tests.unit.deployment.facts import Pair

D = DeploymentStatus


def test_refusal_lists_the_candidates_and_reasons() -> None:
    pair = Pair()
    for version in ("v0", "v1", "v2"):
        pair.add(version)
    pair.change_release("v0", status=ReleaseStatus.ABANDONED)
    pair.roll_back()

    with pytest.raises(NoStableRelease) as refused:
        pair.plan()

    assert refused.value.facts["candidates"] == (
        "Passed over: v1: it is the release being left; v2: the release is marked bad here; "
        "v1: it is the release being left; v0: the release is abandoned."
    )


def test_plan_says_why_each_other_candidate_was_passed_over() -> None:
    pair = Pair()
    for version in ("v0", "v1", "v2", "v3", "v3"):
        pair.add(version)
    pair.change_release("v2", bad_because="leaks")

    made = pair.plan()

    assert made.target.version == "v1"
    assert not made.unproven
    assert [(one.version, one.why) for one in made.passed_over] == [
        ("v3", Verdict.SAME_RELEASE),
        ("v3", Verdict.SAME_RELEASE),
        ("v2", Verdict.BAD),
        ("v0", Verdict.OLDER),
    ]


def test_naming_what_never_touched_is_refused_and_says_what_runs() -> None:
    pair = Pair()
    pair.add("v1")
    pair.add("v2")
    untouched = pair.fail("v3", touched=False)

    with pytest.raises(NothingDeployed, match="auth v2 runs there"):
        pair.plan(untouched)


def test_nothing_runs_where_nothing_completed() -> None:
    pair = Pair()
    untouched = pair.fail("v1", touched=False)

    with pytest.raises(NothingDeployed, match="Nothing has completed there"):
        pair.plan(untouched)


def test_only_the_latest_is_rolled_back() -> None:
    pair = Pair()
    older = pair.add("v1")
    latest = pair.add("v2")

    with pytest.raises(StaleRollback) as refused:
        pair.plan(older)

    assert refused.value.facts["latest"] == str(latest.id)


def test_latest_is_what_touched_last_not_what_was_created_last() -> None:
    pair = Pair()
    pair.add("v1")
    early = pair.add("v2")
    pair.add("v3", D.FAILED, failure_class=FailureClass.FAILED, touched_seq=1, touched=False)

    assert pair.plan(early).target.version == "v1"


def test_unknown_subject_is_not_found() -> None:
    pair = Pair()
    stranger = pair.add("v1")
    pair.deployments.clear()

    with pytest.raises(ResourceNotFound):
        pair.plan(stranger)


@pytest.mark.parametrize("status", [D.PENDING, D.IN_PROGRESS, D.PAUSED, D.CANCELLING])
@pytest.mark.parametrize("preempt", [True, False])
def test_one_rollback_at_a_time(status: DeploymentStatus, *, preempt: bool) -> None:
    pair = Pair()
    pair.add("v1")
    undone = pair.add("v2")
    pair.roll_back(status)

    for subject in (undone, pair.latest()):
        with pytest.raises(RollbackExists):
            pair.plan(pair.deployments[subject.id], preempt=preempt)


@pytest.mark.parametrize("status", sorted(HOLDS_SLOT))
@pytest.mark.parametrize("claimed", [True, False])
@pytest.mark.parametrize("touched", [True, False])
def test_slot_holder_must_be_pre_empted(
    status: DeploymentStatus, *, claimed: bool, touched: bool
) -> None:
    pair = Pair()
    pair.add("v1")
    pair.add("v2")
    holder = pair.add("v3", status, touched=touched)
    with pytest.raises(SlotTaken) as refused:
        pair.plan()
    assert refused.value.facts["deployment"] == str(holder.id)

    made = pair.plan(preempt=True, holder_claimed=claimed)

    assert made.target.version == ("v2" if touched else "v1")
    asked = claimed and status is D.IN_PROGRESS
    if status is D.CANCELLING:
        assert made.preempts is None
    else:
        assert made.preempts is not None
        assert made.preempts.holder == holder
        assert made.preempts.action is (Action.REQUEST_CANCEL if asked else Action.CANCEL)
    assert made.subject_waits is (touched and (asked or status is D.CANCELLING))


def test_what_is_rolled_back_already_stays_so() -> None:
    pair = Pair()
    pair.add("v1")
    pair.add("v2", D.ROLLED_BACK)

    with pytest.raises(IllegalTransition):
        pair.plan()
