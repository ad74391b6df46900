"""The gates of a deployment: one evaluation that serves request, start and explanation alike.

A gate is a pure function of a snapshot of facts and a clock. Adding one means a member of `Gate`,
a function and a line in `_GATES`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Final
from uuid import UUID

from services.deployment.rules import approvals, promotion
from services.deployment.rules.lifecycle import DeploymentKind, DeploymentStatus
from shared.errors import GateUnsatisfied, GateViolation, SlotTaken


class Gate(StrEnum):
    """The gates, in the order in which they are asked: cheap facts first, people last."""

    RELEASE = "release"
    PROMOTION_ORDER = "promotion_order"
    SLOT = "slot"
    APPROVAL = "approval"


class GateStatus(StrEnum):
    """What a gate answers."""

    SATISFIED = "satisfied"
    UNSATISFIED = "unsatisfied"
    NOT_APPLICABLE = "not_applicable"
    OVERRIDDEN = "overridden"


REFUSE_AT_REQUEST: Final = frozenset({Gate.RELEASE, Gate.PROMOTION_ORDER})
"""The gates that no waiting satisfies; the others are blockers of a pending deployment."""

MOST_PEOPLE: Final = 20


@dataclass(frozen=True, slots=True)
class GateAnswer:
    """What one gate says, why, and what would unblock it.

    `people` are user names of those who can still approve, at most `MOST_PEOPLE`; `deadline` is
    when waiting for this gate ends.
    """

    gate: Gate
    status: GateStatus
    why: str
    unblock: str = ""
    people: tuple[str, ...] = ()
    deadline: datetime | None = None


@dataclass(frozen=True, slots=True)
class Occupant:
    """Another deployment that has the slot, or a waiting rollback that gets it next."""

    id: UUID
    status: DeploymentStatus


@dataclass(frozen=True, slots=True)
class GateFacts:
    """The snapshot that all gates of one deployment are asked about.

    `current` is the live release of the pair, `occupant` whoever has the slot before this one.
    """

    service: str
    environment: str
    kind: DeploymentKind
    release: promotion.ReleaseFacts
    approval: approvals.ApprovalFacts
    current: promotion.ReleaseFacts | None = None
    predecessors: tuple[promotion.Predecessor, ...] = ()
    occupant: Occupant | None = None
    allow_downgrade: bool = False
    overridden: frozenset[Gate] = frozenset()


def evaluate(facts: GateFacts, now: datetime) -> tuple[GateAnswer, ...]:
    """Ask every gate, in the order of `Gate`."""
    return tuple(_ask(gate, facts, now) for gate in Gate)


def blockers(answers: Iterable[GateAnswer]) -> tuple[GateAnswer, ...]:
    """Return the gates that keep the deployment from starting."""
    return tuple(answer for answer in answers if answer.status is GateStatus.UNSATISFIED)


def check_request(answers: Iterable[GateAnswer], *, fail_if_blocked: bool = False) -> None:
    """Raise GateUnsatisfied for what no waiting cures, or for any blocker if asked to."""
    refusing = [
        answer
        for answer in blockers(answers)
        if fail_if_blocked or answer.gate in REFUSE_AT_REQUEST
    ]
    if refusing:
        raise _unsatisfied(refusing)


def check_start(facts: GateFacts, answers: Iterable[GateAnswer]) -> None:
    """Raise for whatever keeps the deployment from starting: this check decides.

    SlotTaken if the slot is all that is missing, else GateUnsatisfied with every gate.
    """
    waiting = blockers(answers)
    if facts.occupant is not None and [answer.gate for answer in waiting] == [Gate.SLOT]:
        raise SlotTaken(
            service=facts.service,
            environment=facts.environment,
            deployment=facts.occupant.id,
            status=facts.occupant.status,
            gates=tuple(_violation(answer) for answer in waiting),
        )
    if waiting:
        raise _unsatisfied(waiting)


def _release(facts: GateFacts, _now: datetime) -> GateAnswer:
    backwards = facts.allow_downgrade or facts.kind is DeploymentKind.ROLLBACK
    why = promotion.release_refusal(facts.release, facts.current, backwards=backwards)
    version = facts.release.version
    if why is None:
        return GateAnswer(Gate.RELEASE, GateStatus.SATISFIED, f"{version} may be deployed here")
    fix = "Choose another release, or clear what stands against this one."
    if promotion.release_refusal(facts.release, facts.current, backwards=True) is None:
        fix = "Repeat the request with allow_downgrade if that is what you want."
    return GateAnswer(Gate.RELEASE, GateStatus.UNSATISFIED, f"{version}: {why}", fix)


def _promotion_order(facts: GateFacts, _now: datetime) -> GateAnswer:
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
        "Complete a deployment of the same digest there first.",
    )


def _slot(facts: GateFacts, _now: datetime) -> GateAnswer:
    taken = facts.occupant
    if taken is None:
        return GateAnswer(Gate.SLOT, GateStatus.SATISFIED, "nothing else runs here")
    return GateAnswer(
        Gate.SLOT,
        GateStatus.UNSATISFIED,
        f"deployment {taken.id} is {taken.status}",
        "Wait until it has ended, or cancel it.",
    )


def _approval(facts: GateFacts, now: datetime) -> GateAnswer:
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
        fix = "Request a new deployment."
        return GateAnswer(Gate.APPROVAL, GateStatus.UNSATISFIED, f"the approval is {standing}", fix)
    if approvals.lead_missing(asked, now):
        why += ", none of them by a lead or admin"
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


_GATES: Final[Mapping[Gate, Callable[[GateFacts, datetime], GateAnswer]]] = MappingProxyType(
    {
        Gate.RELEASE: _release,
        Gate.PROMOTION_ORDER: _promotion_order,
        Gate.SLOT: _slot,
        Gate.APPROVAL: _approval,
    }
)


def _ask(gate: Gate, facts: GateFacts, now: datetime) -> GateAnswer:
    answer = _GATES[gate](facts, now)
    if answer.status is GateStatus.UNSATISFIED and gate in facts.overridden:
        return replace(answer, status=GateStatus.OVERRIDDEN)
    return answer


def _violation(answer: GateAnswer) -> GateViolation:
    return GateViolation(answer.gate, answer.why, answer.unblock)


def _unsatisfied(answers: Iterable[GateAnswer]) -> GateUnsatisfied:
    answers = tuple(answers)
    return GateUnsatisfied(
        summary="; ".join(answer.why for answer in answers),
        gates=tuple(_violation(answer) for answer in answers),
    )
