"""Why a deployment does not start, or would not: what decides, without its effect."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from uuid import UUID

from services.deployment.operations import asking, endings, examine, superseding
from services.deployment.operations.asking import NewDeployment
from services.deployment.operations.examine import Examined
from services.deployment.rules import approvals, gates
from services.deployment.rules.gates import GateAnswer
from services.deployment.rules.lifecycle import DeploymentKind
from services.deployment.store import dossiers, leases
from shared.db.engine import Database
from shared.domain_error import DomainError
from shared.errors import LeaseHeld
from shared.identity.actor import Actor
from shared.ids import new_id


@dataclass(frozen=True, slots=True)
class Explained:
    """A deployment, stored or not, with what stands against it besides its gates.

    `refusals` are sentences, `supersedes` the waiting deployments that end when it is requested.
    `held` is the refusal while an executor other than the caller has claimed it.
    """

    case: Examined
    refusals: tuple[str, ...] = ()
    supersedes: Sequence[UUID] = ()
    held: LeaseHeld | None = None

    @property
    def answers(self) -> tuple[GateAnswer, ...]:
        """What every gate says; nothing once the gates are left behind."""
        return self.case.answers

    @property
    def may_start(self) -> bool:
        """Whether it could start now."""
        return self.case.waits and not self.against and not self.case.blockers

    @property
    def against(self) -> tuple[str, ...]:
        """What stands against a start besides the gates, one sentence each."""
        return self.refusals if self.held is None else (*self.refusals, str(self.held))

    @property
    def refused(self) -> bool:
        """Whether no waiting helps."""
        return bool(self.refusals) or bool(gates.refusing(self.answers))

    @property
    def earliest_start(self) -> datetime | None:
        """When time alone lets it start, None if it does not or nothing holds it back."""
        if self.refused or not self.case.blockers:
            return None
        return gates.earliest_start(self.case.gates, self.case.dossier.moment)


async def deployment(db: Database, deployment_id: UUID, actor: Actor) -> Explained:
    """Explain a deployment to `actor`; raises ResourceNotFound."""
    async with db.snapshot() as tx:
        case = await examine.deployment(tx, deployment_id)
        if not case.waits:
            return Explained(case)
        ending = endings.of(case)
        lease = await leases.of(tx, deployment_id)
        return Explained(
            case,
            () if ending is None else (ending.why,),
            held=None if lease is None else lease.against(actor.user_id, case.dossier.moment),
        )


async def request(
    db: Database, command: NewDeployment, actor: Actor, not_permitted: DomainError | None
) -> Explained:
    """Explain what would become of a request by `actor`; raises ResourceNotFound.

    `not_permitted` says why the actor may not request deployments at all, None if they may.
    """
    async with db.snapshot() as tx:
        asked = await asking.read(tx, command, hold=False)
        new = asking.columns(asked, new_id(), actor, DeploymentKind.PROMOTE)
        dossier = await dossiers.proposed(tx, {**new, "deployed_at": asked.moment})
        case = (await examine.several(tx, [dossier]))[0]
        against = chain(
            [] if not_permitted is None else [not_permitted],
            asking.refusals(asked),
            asking.refusal(lambda: approvals.check_satisfiable(case.approval)),
        )
        supersedes = await superseding.superseded_by(tx, asked)
        sentences = tuple(str(error) for error in against)
        return Explained(case, sentences, [row.id for row in supersedes])
