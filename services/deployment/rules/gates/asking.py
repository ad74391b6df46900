"""The evaluation: every gate is asked in one order, and overrides are applied in one place."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from types import MappingProxyType
from typing import Final

from services.deployment.rules.gates.approval import approval
from services.deployment.rules.gates.facts import Gate, GateAnswer, GateFacts, GateStatus
from services.deployment.rules.gates.freeze import freeze
from services.deployment.rules.gates.lock import lock
from services.deployment.rules.gates.place import queue, slot
from services.deployment.rules.gates.readiness import dependency, not_before, soak
from services.deployment.rules.gates.release import promotion_order, release
from shared.domain_error import GateViolation
from shared.errors import GateUnsatisfied, SlotTaken

_GATES: Final[Mapping[Gate, Callable[[GateFacts, datetime], GateAnswer]]] = MappingProxyType(
    {
        Gate.RELEASE: release,
        Gate.PROMOTION_ORDER: promotion_order,
        Gate.SOAK: soak,
        Gate.DEPENDENCY: dependency,
        Gate.NOT_BEFORE: not_before,
        Gate.FREEZE: freeze,
        Gate.LOCK: lock,
        Gate.QUEUE: queue,
        Gate.SLOT: slot,
        Gate.APPROVAL: approval,
    }
)

MOST_STEPS: Final = 20
"""How many moments are tried for the earliest start; a few gates open and close in turn."""


def evaluate(facts: GateFacts, now: datetime) -> tuple[GateAnswer, ...]:
    """Ask every gate, in the order of `Gate`."""
    return tuple(_ask(gate, facts, now) for gate in Gate)


def ready(facts: GateFacts, now: datetime) -> bool:
    """Say whether nothing but the slot and the queue holds the deployment back."""
    own = (gate for gate in Gate if gate not in (Gate.QUEUE, Gate.SLOT))
    return all(_ask(gate, facts, now).status is not GateStatus.UNSATISFIED for gate in own)


def blockers(answers: Iterable[GateAnswer]) -> tuple[GateAnswer, ...]:
    """Return the gates that keep the deployment from starting."""
    return tuple(answer for answer in answers if answer.status is GateStatus.UNSATISFIED)


def earliest_start(facts: GateFacts, now: datetime) -> datetime | None:
    """Return the first moment at which time alone has satisfied every gate, None if it does not.

    When one gate opens, another may have closed: each moment is asked about all of them.
    """
    moment = now
    for _ in range(MOST_STEPS):
        waiting = blockers(evaluate(facts, moment))
        if not waiting:
            return moment
        times = [answer.earliest for answer in waiting]
        known = [time for time in times if time is not None]
        if len(known) < len(times):
            return None
        moment = max(known)
    return None


def refusing(
    answers: Iterable[GateAnswer], *, fail_if_blocked: bool = False
) -> tuple[GateAnswer, ...]:
    """Return the gates for which a request is refused: no waiting cures them, or none may wait."""
    return tuple(answer for answer in blockers(answers) if fail_if_blocked or answer.refuses)


def check_request(answers: Iterable[GateAnswer], *, fail_if_blocked: bool = False) -> None:
    """Raise GateUnsatisfied for what no waiting cures, or for any blocker if asked to."""
    found = refusing(answers, fail_if_blocked=fail_if_blocked)
    if found:
        raise _unsatisfied(found)


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
