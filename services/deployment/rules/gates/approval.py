"""The gate of approvals: people, and who of them can still help."""

from dataclasses import replace
from datetime import datetime
from typing import Final

from services.deployment.rules import approvals
from services.deployment.rules.gates.facts import Gate, GateAnswer, GateFacts, GateStatus

MOST_PEOPLE: Final = 20


def approval(facts: GateFacts, now: datetime) -> GateAnswer:
    """Say whether enough people approve, and who can if not."""
    asked = facts.approval
    standing = approvals.status(asked, now)
    if standing is approvals.ApprovalStatus.NOT_REQUIRED:
        return GateAnswer(Gate.APPROVAL, GateStatus.NOT_APPLICABLE, "no approval is required")
    given = len(approvals.counted(asked, now))
    why = f"{given} of {asked.required} approvals"
    if standing is approvals.ApprovalStatus.APPROVED:
        until = approvals.valid_until(asked, now)
        return GateAnswer(Gate.APPROVAL, GateStatus.SATISFIED, why, deadline=until)
    if standing is not approvals.ApprovalStatus.PENDING:
        fix = "Request a new deployment with PromoteRelease."
        return GateAnswer(Gate.APPROVAL, GateStatus.UNSATISFIED, f"the approval is {standing}", fix)
    if approvals.lead_missing(asked, now):
        why += ", none of them by a lead or admin"
        if asked.overrides:
            why += " other than the author of an override"
    useful = approvals.can_still_approve(asked, now)
    names = tuple(person.username or str(person.id) for person in useful)[:MOST_PEOPLE]
    answer = GateAnswer(
        Gate.APPROVAL,
        GateStatus.UNSATISFIED,
        why,
        f"ApproveDeployment by {', '.join(names) or 'nobody who is eligible now'}.",
        people=names,
    )
    return replace(answer, deadline=approvals.decide_by(asked, now))
