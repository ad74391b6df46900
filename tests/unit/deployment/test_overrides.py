"""Overrides: what they do to decisions already given, and who has to confirm them."""

from dataclasses import replace
from datetime import datetime
from itertools import combinations, product

import pytest

from services.deployment.rules.approvals import (
    ApprovalFacts,
    ApprovalStatus,
    Decision,
    Outcome,
    Person,
    Void,
    can_still_approve,
    check_satisfiable,
    counted,
    decide_by,
    lead_missing,
    satisfied,
    status,
    void,
)
from services.deployment.rules.deciding import decide
from services.deployment.rules.overrides import OverridableGate, Override, check_wanted
from services.deployment.rules.policy import EnvironmentType
from shared.errors import NotEnoughApprovers, ValidationFailed
from shared.identity.actor import Role
from tests.unit.deployment.facts import HOUR, START, approval, asked, person

DEV, STAGING, PROD = EnvironmentType
ADMIN = person(1, Role.ADMIN)
LEAD = person(2, Role.LEAD)
LEAD2 = person(3, Role.LEAD)
DEV1 = person(4, Role.DEVELOPER)
DEV2 = person(5, Role.DEVELOPER)
EVERYBODY = (ADMIN, LEAD, LEAD2, DEV1, DEV2)


def given(hours: float, *authors: Person) -> Override:
    """Return an override given some hours after START."""
    behind = frozenset(author.id for author in authors or (LEAD,))
    return Override(OverridableGate.LOCK, START + hours * HOUR, behind)


def overridden(
    *overrides: Override,
    decisions: tuple[Decision, ...] = (),
    people: tuple[Person, ...] = EVERYBODY,
    environment: EnvironmentType = PROD,
) -> ApprovalFacts:
    """Return the approval of a deployment with these overrides."""
    return replace(asked(environment, people, decisions), overrides=overrides)


def seen(approver: Person, hours: float, overrides: int) -> Decision:
    """Return an approval given when there were so many overrides."""
    return approval(approver, hours, overrides_version=overrides)


def at(hours: float) -> datetime:
    """Return the moment so many hours after START."""
    return START + hours * HOUR


def test_an_override_voids_what_was_decided_before() -> None:
    decisions = (seen(LEAD2, 1, 0), seen(DEV1, 2, 0))
    facts = overridden(given(3), decisions=decisions)
    assert satisfied(facts, at(2.5))
    assert counted(facts, at(3)) == ()
    assert [void(one, facts) for one in decisions] == [(Void.OVERRIDES_CHANGED, at(3))] * 2
    assert status(facts, at(3)) is ApprovalStatus.PENDING
    anew = replace(facts, decisions=(*decisions, seen(LEAD2, 4, 1), seen(DEV1, 4, 1)))
    assert status(anew, at(4)) is ApprovalStatus.APPROVED


def test_a_decision_becomes_void_with_the_first_override_that_it_did_not_see() -> None:
    facts = overridden(given(3), given(5), given(7))
    ends = [void(seen(LEAD2, hours, known), facts) for hours, known in ((1, 0), (4, 1), (6, 2))]
    assert ends == [(Void.OVERRIDES_CHANGED, at(hours)) for hours in (3, 5, 7)]
    assert void(seen(LEAD2, 8, 3), facts) == (Void.VALIDITY_ENDED, at(8 + 24))


def test_a_decision_that_saw_more_overrides_than_there_are_never_counts() -> None:
    facts = overridden(decisions=(seen(LEAD2, 1, 1),))
    assert counted(facts, at(1)) == ()


def test_a_decision_remembers_the_overrides_of_its_moment() -> None:
    facts = overridden(given(1), given(2))
    made = decide(facts, LEAD2, Outcome.APPROVED, comment="", now=at(3))
    assert made is not None
    assert made.overrides_version == 2


def test_the_clock_to_decide_starts_anew() -> None:
    assert decide_by(overridden(), at(5)) == at(72)
    assert decide_by(overridden(given(5)), at(5)) == at(5 + 72)
    assert decide_by(overridden(given(5), given(9)), at(9)) == at(9 + 72)


@pytest.mark.parametrize(
    ("authors", "approvers"),
    [
        (authors, approvers)
        for size, count in product(range(3), range(4))
        for authors in combinations((ADMIN, LEAD, DEV1), size)
        for approvers in combinations(EVERYBODY, count)
    ],
    ids=lambda people: "-".join(one.username for one in people) or "nobody",
)
def test_who_confirms_the_overrides_of_every_set_of_authors(
    authors: tuple[Person, ...], approvers: tuple[Person, ...]
) -> None:
    overrides = [given(number, author) for number, author in enumerate(authors)]
    decisions = tuple(seen(one, 10, len(authors)) for one in approvers)
    facts = overridden(*overrides, decisions=decisions)
    leads = [one for one in approvers if one.role >= Role.LEAD]
    confirmed = all(any(lead != author for lead in leads) for author in authors)

    assert lead_missing(facts, at(10)) is not (bool(leads) and confirmed)
    assert satisfied(facts, at(10)) is (len(approvers) >= 2 and bool(leads) and confirmed)
    helpful = can_still_approve(facts, at(10))
    assert bool(helpful) is not satisfied(facts, at(10))
    if len(approvers) >= 2:
        for one in helpful:
            more = replace(facts, decisions=(*decisions, seen(one, 10, len(authors))))
            assert one.role >= Role.LEAD
            assert not lead_missing(more, at(10)) or len(can_still_approve(more, at(10))) > 0


def test_everybody_behind_an_override_is_its_author() -> None:
    behind = given(1, LEAD, ADMIN)
    facts = overridden(behind, decisions=(seen(LEAD, 2, 1), seen(ADMIN, 2, 1)))
    assert lead_missing(facts, at(2))
    assert can_still_approve(facts, at(2)) == (LEAD2,)


def test_whose_approval_would_not_be_the_one_that_is_missing() -> None:
    nobody = overridden(given(1))
    assert can_still_approve(nobody, at(2)) == EVERYBODY
    one = replace(nobody, decisions=(seen(DEV1, 2, 1),))
    assert can_still_approve(one, at(2)) == (ADMIN, LEAD2)
    each_other = replace(one, overrides=(given(1), given(1, LEAD2)))
    assert can_still_approve(replace(each_other, decisions=(seen(DEV1, 2, 2),)), at(2)) == (
        ADMIN,
        LEAD,
        LEAD2,
    )


def test_where_no_lead_is_asked_for_the_author_may_confirm() -> None:
    facts = overridden(given(1), decisions=(seen(LEAD, 2, 1),), environment=STAGING)
    assert status(facts, at(2)) is ApprovalStatus.APPROVED


def test_an_override_that_nobody_could_confirm() -> None:
    people = (LEAD, DEV1, DEV2)
    check_satisfiable(overridden(people=people))
    with pytest.raises(NotEnoughApprovers) as refused:
        check_satisfiable(overridden(given(1), people=people))
    assert refused.value.facts["needed"] == (
        "a lead or admin among its 2 who is not the author of an override"
    )
    check_satisfiable(overridden(given(1), people=(*people, LEAD2)))
    check_satisfiable(overridden(given(1), given(2, LEAD2), people=(*people, LEAD2)))
    check_satisfiable(overridden(given(1), people=people, environment=DEV))


def test_each_gate_is_named_once() -> None:
    check_wanted([OverridableGate.LOCK, OverridableGate.SOAK])
    with pytest.raises(ValidationFailed, match="the gate lock is named more than once"):
        check_wanted([OverridableGate.LOCK, OverridableGate.SOAK, OverridableGate.LOCK])


@pytest.mark.parametrize("gate", OverridableGate)
def test_what_is_irreversible_is_crossed_by_a_rollback_alone(gate: OverridableGate) -> None:
    if gate is not OverridableGate.IRREVERSIBLE:
        check_wanted([gate], "gate")
        return
    with pytest.raises(ValidationFailed, match="gate: only ExecuteRollback") as refused:
        check_wanted([gate], "gate")
    assert "cross_irreversible" in str(refused.value)
