"""The gate of freeze windows: which of them forbid a start, why and until when."""

from datetime import datetime

from services.deployment.rules import freezes
from services.deployment.rules.gates.facts import Gate, GateAnswer, GateFacts, GateStatus
from services.deployment.rules.moments import at_second


def freeze(facts: GateFacts, now: datetime) -> GateAnswer:
    """Say whether a freeze window keeps the deployment from starting."""
    if facts.subject is None:
        return _not_applicable("no freeze window covers this")
    said = freezes.judge(facts.windows, facts.subject, now)
    if said.status is freezes.FreezeStatus.OPEN:
        if not said.covered:
            return _not_applicable(said.why)
        return GateAnswer(Gate.FREEZE, GateStatus.SATISFIED, said.why)
    wait = "" if said.earliest is None else f"Wait until {at_second(said.earliest)}, or "
    remedy = f"{wait}let it past the freeze with OverrideGate."
    return GateAnswer(
        Gate.FREEZE,
        GateStatus.UNSATISFIED,
        said.why,
        remedy[0].upper() + remedy[1:],
        earliest=said.earliest,
    )


def _not_applicable(why: str) -> GateAnswer:
    return GateAnswer(Gate.FREEZE, GateStatus.NOT_APPLICABLE, why)
