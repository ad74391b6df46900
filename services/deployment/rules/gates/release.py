"""The gates about the release: what it is, and where it has been before."""

from datetime import datetime

from services.deployment.rules import promotion
from services.deployment.rules.gates.facts import Gate, GateAnswer, GateFacts, GateStatus
from services.deployment.rules.lifecycle import DeploymentKind
from services.deployment.rules.releases import ReleaseStatus


def release(facts: GateFacts, _now: datetime) -> GateAnswer:
    """Say whether the release may be deployed here at all."""
    backwards = facts.allow_downgrade or facts.kind is DeploymentKind.ROLLBACK
    why = promotion.release_refusal(facts.release, facts.current, backwards=backwards)
    version = facts.release.version
    if why is None:
        return GateAnswer(Gate.RELEASE, GateStatus.SATISFIED, f"{version} may be deployed here")
    fix = "Choose another release."
    if facts.release.status is ReleaseStatus.DRAFT:
        fix = "Publish it with PublishRelease."
    elif facts.release.archived:
        fix = "Take it out of the archive with UnarchiveRelease, or choose another release."
    elif facts.release.status is not ReleaseStatus.ABANDONED and facts.release.bad_because:
        fix = "Choose another release, or have a lead take the mark away with ClearReleaseBad."
    if promotion.release_refusal(facts.release, facts.current, backwards=True) is None:
        fix = "Repeat the request with allow_downgrade if that is what you want."
    return GateAnswer(Gate.RELEASE, GateStatus.UNSATISFIED, f"{version}: {why}", fix, refuses=True)


def promotion_order(facts: GateFacts, _now: datetime) -> GateAnswer:
    """Say whether the digest has completed in every environment before this one."""
    if facts.kind is DeploymentKind.ROLLBACK or not facts.predecessors:
        why = "a rollback goes where it has been" if facts.predecessors else "nothing comes before"
        return GateAnswer(Gate.PROMOTION_ORDER, GateStatus.NOT_APPLICABLE, why)
    missing = promotion.missing_before(facts.predecessors)
    if not missing:
        places = ", ".join(place.environment for place in facts.predecessors)
        return GateAnswer(Gate.PROMOTION_ORDER, GateStatus.SATISFIED, f"completed in {places}")
    return GateAnswer(
        Gate.PROMOTION_ORDER,
        GateStatus.UNSATISFIED,
        f"{facts.release.version}: {' and '.join(missing)}",
        "Complete a deployment of the same digest there first, with PromoteRelease.",
        refuses=True,
    )
