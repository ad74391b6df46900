"""The gates about the place: who else is in it, or wants it."""

from datetime import datetime

from services.deployment.rules.gates.facts import Gate, GateAnswer, GateFacts, GateStatus
from services.deployment.rules.lifecycle import DeploymentKind, DeploymentStatus
from services.deployment.rules.policy import QueueMode


def queue(facts: GateFacts, _now: datetime) -> GateAnswer:
    """Say whether it is this deployment's turn among those that wait for the pair."""
    mode = facts.approval.policy.queue
    if facts.kind is DeploymentKind.ROLLBACK:
        why = "a rollback waits for no other deployment"
        return GateAnswer(Gate.QUEUE, GateStatus.NOT_APPLICABLE, why)
    if mode is QueueMode.SUPERSEDE:
        why = "a newer deployment supersedes those that wait"
        return GateAnswer(Gate.QUEUE, GateStatus.NOT_APPLICABLE, why)
    return _alone(facts) if mode is QueueMode.REJECT else _next_one(facts)


def slot(facts: GateFacts, _now: datetime) -> GateAnswer:
    """Say whether nothing else runs in the pair."""
    taken = facts.occupant
    if taken is None:
        return GateAnswer(Gate.SLOT, GateStatus.SATISFIED, "nothing else runs here")
    return GateAnswer(
        Gate.SLOT,
        GateStatus.UNSATISFIED,
        f"deployment {taken.id} is {taken.status}",
        "Wait until it has ended, or stop it with CancelDeployment.",
    )


def _next_one(facts: GateFacts) -> GateAnswer:
    position = facts.line.ready + 1
    first = facts.line.first_ready
    if first is None:
        why = "nothing that could start was requested before"
        return GateAnswer(Gate.QUEUE, GateStatus.SATISFIED, why, position=position)
    return GateAnswer(
        Gate.QUEUE,
        GateStatus.UNSATISFIED,
        f"deployment {first} was requested before and can start",
        f"Start deployment {first} first, or stop it with CancelDeployment.",
        position=position,
    )


def _alone(facts: GateFacts) -> GateAnswer:
    other, status = facts.line.first, DeploymentStatus.PENDING
    taken = facts.occupant
    if taken is not None and taken.kind is not DeploymentKind.ROLLBACK:
        other, status = taken.id, taken.status
    if other is None:
        why = "nothing else waits or runs here"
        return GateAnswer(Gate.QUEUE, GateStatus.SATISFIED, why, position=1)
    return GateAnswer(
        Gate.QUEUE,
        GateStatus.UNSATISFIED,
        f"deployment {other} is {status}, and {facts.environment} takes one at a time",
        f"Wait until deployment {other} has ended, or stop it with CancelDeployment.",
        position=facts.line.waiting + 1,
        refuses=True,
    )
