"""The rules of deployments as diagrams and tables, from the tables that decide."""

from collections.abc import Mapping
from dataclasses import fields
from datetime import timedelta
from enum import Enum
from typing import Any, Final

from docs.generator.blocks import table as markdown
from services.deployment.rules import lifecycle, stages
from services.deployment.rules.gates import Gate
from services.deployment.rules.gates.readiness import in_words
from services.deployment.rules.lifecycle import Action, DeploymentStatus
from services.deployment.rules.overrides import OverridableGate
from services.deployment.rules.policy import EnvironmentType, Policy, default_policy
from services.deployment.rules.stages import StageStatus
from shared.identity.actor import Role

# Who or what does each of the actions.
_BY: Final[Mapping[Action, str]] = {
    Action.START: "`StartDeployment`, or the first stage",
    Action.PAUSE: "a failed stage, where the policy says so",
    Action.RESUME: "`RetryStage`, `IgnoreStage`",
    Action.COMPLETE: "`FinishDeployment`, or the last stage",
    Action.FAIL: "`FinishDeployment`, `FailDeployment`, a failed stage, a time that has run out",
    Action.CANCEL: "`CancelDeployment`",
    Action.REQUEST_CANCEL: "`CancelDeployment`, when an executor has claimed the work",
    Action.CONFIRM_CANCELLED: "`ConfirmCancelled`, or a time that has run out",
    Action.REJECT: "`RejectDeployment`",
    Action.EXPIRE: "a time that has run out",
    Action.SUPERSEDE: "a newer deployment",
    Action.ROLL_BACK: "`ExecuteRollback`",
}
# When each gate lets a deployment pass, what lacks it at the request, and what it is to rollbacks.
_GATES: Final[Mapping[Gate, tuple[str, str, str]]] = {
    Gate.RELEASE: (
        "it is published, neither abandoned nor bad there, and not older than what is live",
        "refused",
        "pass when it is older; so does `allow_downgrade`",
    ),
    Gate.PROMOTION_ORDER: (
        "the same digest has completed in every environment before, and was not rolled back there",
        "refused",
        "pass",
    ),
    Gate.SOAK: (
        "that digest has lived in each of them for the policy's `soak`, without a break",
        "waits",
        "pass",
    ),
    Gate.DEPENDENCY: (
        "each service that this one depends on is live there, in its minimum version or later",
        "waits",
        "pass",
    ),
    Gate.NOT_BEFORE: (
        "the time has come, and `start_by` has not passed",
        "waits",
        "have no times",
    ),
    Gate.FREEZE: ("no freeze window forbids it", "waits", "pass unless it says otherwise"),
    Gate.LOCK: ("nothing is locked there", "waits", "pass unless it says otherwise"),
    Gate.QUEUE: ("it is its turn", "waits, or is refused in the mode `REJECT`", "pass"),
    Gate.SLOT: ("nothing of the service runs there", "waits", "wait too, and go first"),
    Gate.APPROVAL: ("enough people approve", "waits", "need none"),
}
_APPROVALS: Final = (
    "required_approvals",
    "minimum_role",
    "lead_required",
    "requester_may_approve",
    "author_may_approve",
    "decide_within",
    "valid_for",
)
_NUMBERING: Final = ("version", "since")


def deployment_states_part() -> str:
    """Return the life of a deployment as a state diagram, and who does what."""
    lines = ["[*] --> pending"]
    lines += [
        f"{_state(before)} --> {_state(after)}: {action}"
        for (before, action), after in lifecycle.TRANSITIONS.items()
    ]
    lines += [
        f"{_state(status)} --> [*]"
        for status in DeploymentStatus
        if not lifecycle.allowed_actions(status)
    ]
    rows = [(f"`{action}`", _BY[action]) for action in Action]
    return _diagram(lines) + "\n" + markdown(("Action", "Done by"), rows)


def stage_states_part() -> str:
    """Return the life of a stage as a state diagram."""
    order = {status: number for number, status in enumerate(StageStatus)}
    moves = sorted(stages.TRANSITIONS, key=lambda move: (order[move[0]], order[move[1]]))
    lines = ["[*] --> pending"]
    return _diagram(lines + [f"{_state(before)} --> {_state(after)}" for before, after in moves])


def gates_part() -> str:
    """Return a table of the gates in the order in which they are asked."""
    overridable = {gate.value for gate in OverridableGate}
    rows = [
        (
            str(number),
            f"`{gate}`",
            *_GATES[gate],
            "a lead" if gate.value in overridable else "nobody",
        )
        for number, gate in enumerate(Gate, start=1)
    ]
    head = ("", "Gate", "Lets pass when", "A request that lacks it", "Rollbacks", "Overridden by")
    return markdown(head, rows)


def approval_defaults_part() -> str:
    """Return what environments ask of approvals as long as they have no policy of their own."""
    return _defaults(_APPROVALS)


def policy_defaults_part() -> str:
    """Return everything that environments ask as long as they have no policy of their own."""
    names = (field.name for field in fields(Policy) if field.name not in _NUMBERING)
    return _defaults(tuple(names))


def _defaults(names: tuple[str, ...]) -> str:
    rows = [
        (
            f"`{name}`",
            *(_value(getattr(default_policy(kind), name)) for kind in EnvironmentType),
        )
        for name in names
    ]
    return markdown(("Field", *EnvironmentType), rows)


def _value(value: Any) -> str:  # noqa: ANN401  (of any field of a policy)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Role):
        return value.stored
    if isinstance(value, timedelta):
        return in_words(value) if value else "0"
    if isinstance(value, frozenset):
        return ", ".join(f"`{one}`" for one in sorted(value)) or "none"
    if isinstance(value, Enum):
        return str(value.value)
    return "none" if value is None else str(value)


def _state(status: Enum) -> str:
    """Return the name of a state in a diagram, where a hyphen would be an arrow."""
    return str(status.value).replace("-", "_")


def _diagram(lines: list[str]) -> str:
    body = "".join(f"    {line}\n" for line in lines)
    return f"```mermaid\nstateDiagram-v2\n{body}```\n"
