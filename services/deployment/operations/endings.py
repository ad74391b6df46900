"""What ends a waiting deployment at the moment somebody would start it, instead of the start.

A start carries the ending out, an explanation tells of it.
"""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from services.deployment.operations import moves
from services.deployment.operations.examine import Examined
from services.deployment.rules.lifecycle import Action, DeploymentStatus, advance
from shared.errors import IllegalTransition


@dataclass(frozen=True, slots=True)
class Ending:
    """That a deployment does not start any more."""

    case: Examined
    action: Action

    @property
    def newer(self) -> UUID | None:
        """What has completed there meanwhile, if that is why."""
        newer = self.case.dossier.outdated_by
        return None if newer is None else UUID(newer["id"])

    @property
    def status(self) -> DeploymentStatus:
        """Where it leads."""
        return advance(self.case.status, self.action)

    @property
    def why(self) -> str:
        """Why, as a sentence."""
        newer = self.case.dossier.outdated_by
        if newer is None:
            return self.case.overdue or ""
        return f"{newer['version']} has completed there meanwhile."

    @property
    def refusal(self) -> IllegalTransition:
        """What the start is refused with."""
        more: dict[str, Any] = {} if self.newer is None else {"superseded_by": self.newer}
        deployment_id = self.case.dossier.id
        return moves.not_now(deployment_id, self.status, Action.START, touched=False, **more)


def of(case: Examined) -> Ending | None:
    """Return how a waiting deployment ends if it is started now, None if it does not."""
    if case.dossier.outdated_by is not None:
        return Ending(case, Action.SUPERSEDE)
    if case.overdue:
        return Ending(case, Action.EXPIRE)
    return None
