"""A deployment with what the rules say about it: the one way in which all answers come about."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from services.deployment.operations import facts
from services.deployment.rules import approvals, gates
from services.deployment.rules.approvals import ApprovalFacts, ApprovalStatus, Person
from services.deployment.rules.gates import GateAnswer, GateFacts
from services.deployment.rules.lifecycle import DeploymentKind, DeploymentStatus
from services.deployment.rules.policy import EnvironmentType, default_policy
from services.deployment.store import dossiers
from services.deployment.store.dossiers import Dossier
from shared.errors import ResourceNotFound
from shared.identity.actor import ActorKind, Role


@dataclass(frozen=True)
class Examined:
    """A deployment and the people who may be eligible to approve it, at one moment."""

    dossier: Dossier
    people: Mapping[UUID, Person]

    @property
    def status(self) -> DeploymentStatus:
        """Where the deployment is."""
        return DeploymentStatus(self.dossier.status)

    @property
    def kind(self) -> DeploymentKind:
        """Why it was made."""
        return DeploymentKind(self.dossier.kind)

    @property
    def waits(self) -> bool:
        """Whether it has neither started nor ended."""
        return self.status is DeploymentStatus.PENDING

    @cached_property
    def approval(self) -> ApprovalFacts:
        """What decides about its approval."""
        return facts.approval_facts(self.dossier, self.people)

    @cached_property
    def gates(self) -> GateFacts:
        """What its gates are asked about; only as long as it waits."""
        return facts.gate_facts(self.dossier, self.people)

    @cached_property
    def answers(self) -> tuple[GateAnswer, ...]:
        """What every gate says now; nothing once it has left the gates behind."""
        return gates.evaluate(self.gates, self.dossier.moment) if self.waits else ()

    @property
    def blockers(self) -> tuple[GateAnswer, ...]:
        """The gates it waits for."""
        return gates.blockers(self.answers)

    @property
    def asked_at(self) -> datetime:
        """The moment its approval is judged at: now, or when it stopped waiting."""
        dossier = self.dossier
        return dossier.started_at or dossier.completed_at or dossier.moment

    @cached_property
    def approval_status(self) -> ApprovalStatus:
        """How far its approval is, or was when it stopped waiting."""
        if self.status is DeploymentStatus.EXPIRED:
            return ApprovalStatus.EXPIRED
        return approvals.status(self.approval, self.asked_at)

    @property
    def approvals_given(self) -> int:
        """How many approvals count."""
        return len(approvals.counted(self.approval, self.asked_at))

    @property
    def decide_by(self) -> datetime | None:
        """Until when it must be decided."""
        if not self.waits:
            return self.dossier.decide_by
        return approvals.decide_by(self.approval, self.dossier.moment)


async def deployment(tx: AsyncConnection, deployment_id: UUID) -> Examined:
    """Examine one deployment, in at most two queries; raises ResourceNotFound."""
    dossier = await dossiers.one(tx, deployment_id)
    if dossier is None:
        raise ResourceNotFound(resource_type="deployment", resource=deployment_id)
    return (await several(tx, [dossier]))[0]


async def several(tx: AsyncConnection, found: Sequence[Dossier]) -> list[Examined]:
    """Examine deployments that were read, in at most one more query."""
    people: Mapping[UUID, Person] = {}
    if any(_asks_people(dossier) for dossier in found):
        people = await possible_approvers(tx)
    return [Examined(dossier, people) for dossier in found]


async def possible_approvers(tx: AsyncConnection) -> dict[UUID, Person]:
    """Return everybody whose role lets them approve somewhere."""
    roles = [role.stored for role in Role if role >= Role.DEVELOPER]
    return {
        row[0]: Person(
            id=row[0],
            username=row[1],
            role=Role.from_stored(row[2]),
            active=row[3],
            kind=ActorKind(row[4]),
            changed_at=row[5],
        )
        for row in await dossiers.possible_approvers(tx, roles)
    }


def _asks_people(dossier: Dossier) -> bool:
    """Say whether somebody may still have to approve it."""
    waits = dossier.status == DeploymentStatus.PENDING
    default = default_policy(EnvironmentType(dossier.environment_type))
    required = dossier.policy is not None or default.required_approvals > 0
    return waits and required and dossier.kind != DeploymentKind.ROLLBACK
