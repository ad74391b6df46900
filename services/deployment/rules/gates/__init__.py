"""The gates of a deployment: one evaluation that serves request, start and explanation alike.

A gate is a pure function of a snapshot of facts and a clock. Adding one means a member of
`facts.Gate`, a function in the module of its kind and a line in `asking`.
"""

from services.deployment.rules.gates.asking import (
    blockers,
    check_request,
    check_start,
    earliest_start,
    evaluate,
    ready,
    refusing,
)
from services.deployment.rules.gates.facts import (
    Gate,
    GateAnswer,
    GateFacts,
    GateStatus,
    Line,
    Occupant,
)

__all__ = [
    "Gate",
    "GateAnswer",
    "GateFacts",
    "GateStatus",
    "Line",
    "Occupant",
    "blockers",
    "check_request",
    "check_start",
    "earliest_start",
    "evaluate",
    "ready",
    "refusing",
]
