"""Which approval a person may take back: the one they gave last, as long as it stands as given."""

from uuid import UUID

from services.deployment.rules.approvals import ApprovalFacts, Decision, Outcome
from shared.errors import ResourceNotFound


def own_approval(facts: ApprovalFacts, person: UUID, username: str) -> Decision:
    """Return the approval that `person` takes back; raises ResourceNotFound if there is none.

    One that does not count at this moment, because its author lost the role for it, is taken back
    as well: it would count again when the role comes back.
    """
    for decision in reversed(facts.decisions):
        if decision.approver_id == person and decision.outcome is Outcome.APPROVED:
            return decision
    whose = f"of {username} for deployment {facts.deployment}"
    raise ResourceNotFound(resource_type="approval", resource=whose)
