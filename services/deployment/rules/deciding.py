"""Deciding: whether somebody may approve or reject a deployment now, and what that is bound to."""

from datetime import datetime

from services.deployment.rules import approvals
from services.deployment.rules.approvals import (
    ApprovalFacts,
    ApprovalStatus,
    Decision,
    Outcome,
    Person,
)
from shared.domain_error import FieldViolation
from shared.errors import DecisionExists, IllegalTransition, NotPermitted, ValidationFailed


def decide(
    facts: ApprovalFacts, person: Person, outcome: Outcome, *, comment: str, now: datetime
) -> Decision | None:
    """Return the decision that `person` gives now, bound to what is true now.

    None if they approve and their earlier approval still counts. Raises ValidationFailed for a
    rejection without a comment, IllegalTransition if nothing is to be decided (any more),
    NotPermitted, or DecisionExists for a rejection by somebody whose approval counts.
    """
    verb = "approve" if outcome is Outcome.APPROVED else "reject"
    if outcome is Outcome.REJECTED and not comment.strip():
        why = "a rejection needs a comment that says what must change"
        raise ValidationFailed(count=1, first=why, fields=(FieldViolation("comment", why),))
    current = approvals.status(facts, now)
    if current not in (ApprovalStatus.PENDING, ApprovalStatus.APPROVED):
        raise IllegalTransition(
            subject="The approval", status=current, action=verb, allowed="nothing"
        )
    refusal = approvals.may_decide(person, facts)
    if refusal is not None:
        raise NotPermitted(action=verb, because=refusal)
    if any(decision.approver_id == person.id for decision in approvals.counted(facts, now)):
        if outcome is Outcome.APPROVED:
            return None
        raise DecisionExists(decision=Outcome.APPROVED, deployment=facts.deployment)
    return Decision(
        approver_id=person.id,
        role=person.role,
        outcome=outcome,
        decided_at=now,
        digest=facts.digest,
        policy_version=facts.policy.version,
        overrides_version=facts.overrides_version,
    )
