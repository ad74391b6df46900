"""The gates, what one of them says, and the snapshot of facts they are asked about."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from services.deployment.rules import approvals, promotion
from services.deployment.rules.freezes import Subject, Window
from services.deployment.rules.lifecycle import DeploymentKind, DeploymentStatus
from services.deployment.rules.locks import Lock


class Gate(StrEnum):
    """The gates, in the order in which they are asked: cheap facts first, people last."""

    RELEASE = "release"
    PROMOTION_ORDER = "promotion_order"
    SOAK = "soak"
    DEPENDENCY = "dependency"
    NOT_BEFORE = "not_before"
    FREEZE = "freeze"
    LOCK = "lock"
    QUEUE = "queue"
    SLOT = "slot"
    APPROVAL = "approval"


class GateStatus(StrEnum):
    """What a gate answers."""

    SATISFIED = "satisfied"
    UNSATISFIED = "unsatisfied"
    NOT_APPLICABLE = "not_applicable"
    OVERRIDDEN = "overridden"


@dataclass(frozen=True, slots=True)
class GateAnswer:
    """What one gate says, why, and what would unblock it.

    `people` are user names of those who can still approve, at most `approval.MOST_PEOPLE`;
    `deadline` is when waiting for this gate ends. `earliest` is when it is satisfied as far as time
    alone decides that, None else. `position` is the place in the queue, 1 for the next one and 0
    for other gates. `refuses` says that a request is refused for it instead of waiting.
    """

    gate: Gate
    status: GateStatus
    why: str
    unblock: str = ""
    people: tuple[str, ...] = ()
    deadline: datetime | None = None
    earliest: datetime | None = None
    position: int = 0
    refuses: bool = False


@dataclass(frozen=True, slots=True)
class Occupant:
    """Another deployment that has the slot, or a waiting rollback that gets it next."""

    id: UUID
    status: DeploymentStatus
    kind: DeploymentKind = DeploymentKind.DEPLOY


@dataclass(frozen=True, slots=True)
class Line:
    """What was requested for the pair before this deployment and still waits, rollbacks left out.

    `ready` is how many of the `waiting` ones nothing but the slot and the queue holds back;
    `first` and `first_ready` are the oldest of each.
    """

    first: UUID | None = None
    waiting: int = 0
    first_ready: UUID | None = None
    ready: int = 0


NOTHING_BEFORE: Final = Line()


@dataclass(frozen=True, slots=True)
class GateFacts:
    """The snapshot that all gates of one deployment are asked about.

    `current` is the live release of the pair, `occupant` whoever has the slot before this one.
    `needs` are the services it depends on, `line` is what waits before it. `windows`
    are all freeze windows, and `subject` is the deployment as they see it, which nobody needs where
    there are none.
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
    windows: tuple[Window, ...] = ()
    subject: Subject | None = None
    locks: tuple[Lock, ...] = ()
    overridden: frozenset[Gate] = frozenset()
    needs: tuple[promotion.Need, ...] = ()
    not_before: datetime | None = None
    start_by: datetime | None = None
    line: Line = NOTHING_BEFORE
