"""What ends a waiting deployment at the moment somebody would start it, instead of the start.

A start carries the ending out, an explanation tells of it.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from services.deployment.operations import facts, moves
from services.deployment.operations.examine import Examined
from services.deployment.rules.history import Deployed, outdated_by
from services.deployment.rules.lifecycle import Action, DeploymentStatus, advance
from services.deployment.store import histories
from shared.errors import IllegalTransition


@dataclass(frozen=True, slots=True)
class Ending:
    """That a deployment does not start any more; `newer` has completed there meanwhile."""

    case: Examined
    action: Action
    newer: Deployed | None = None

    @property
    def status(self) -> DeploymentStatus:
        """Where it leads."""
        return advance(self.case.status, self.action)

    @property
    def why(self) -> str:
        """Why, as a sentence."""
        if self.newer is None:
            return self.case.overdue or ""
        return f"{self.newer.version} has completed there meanwhile."

    @property
    def refusal(self) -> IllegalTransition:
        """What the start is refused with."""
        more: dict[str, Any] = {} if self.newer is None else {"superseded_by": self.newer.id}
        deployment_id = self.case.dossier.id
        return moves.not_now(deployment_id, self.status, Action.START, touched=False, **more)


async def of(tx: AsyncConnection, case: Examined) -> Ending | None:
    """Return how a waiting deployment ends if it is started now, None if it does not."""
    dossier = case.dossier
    completed = await histories.completed_since(
        tx, dossier.service_id, dossier.environment_id, dossier.deployed_at
    )
    newer = outdated_by(facts.history(completed), facts.waiting(dossier))
    if newer is not None:
        return Ending(case, Action.SUPERSEDE, newer)
    if case.overdue:
        return Ending(case, Action.EXPIRE)
    return None
