"""A deployment with what the rules say about it: the one way in which all answers come about."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from services.deployment.operations import facts
from services.deployment.operations.freeze_rows import window_of
from services.deployment.rules import approvals, gates
from services.deployment.rules.approvals import ApprovalFacts, ApprovalStatus, Person
from services.deployment.rules.freezes import Window
from services.deployment.rules.gates import GateAnswer, GateFacts, Line
from services.deployment.rules.gates.facts import NOTHING_BEFORE
from services.deployment.rules.gates.line import Waiting, line_up
from services.deployment.rules.lifecycle import DeploymentKind, DeploymentStatus
from services.deployment.rules.moments import at_second
from services.deployment.rules.policy import EnvironmentType, QueueMode, default_policy
from services.deployment.store import dossiers, freezes
from services.deployment.store.dossiers import Dossier
from shared.errors import ResourceNotFound
from shared.identity.actor import ActorKind, Role


@dataclass(frozen=True)
class Examined:
    """A deployment at one moment, and what its gates are about besides.

    `people` may be eligible to approve it, `line` is what is before it, and `windows` are the
    freeze windows that are not archived, whatever they cover.
    """

    dossier: Dossier
    people: Mapping[UUID, Person]
    line: Line = NOTHING_BEFORE
    windows: tuple[Window, ...] = ()

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
        return facts.gate_facts(self.dossier, self.people, self.line, self.windows)

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
        return facts.asked_at(self.dossier)

    @cached_property
    def approval_status(self) -> ApprovalStatus:
        """How far its approval is, or was when it stopped waiting, as far as that is still known.

        What people have lost and got back since, and standstills, are not kept. So of what has left
        pending, that alone ran out of time to decide which expired for it. What let a deployment
        start stays, as the gates saw it, and is in the audit entry `start`; how approvals came and
        went is in the entries `approve` and `revoke_approval`, and in those of the accounts.
        """
        if self.status is DeploymentStatus.EXPIRED and not self.late:
            return ApprovalStatus.EXPIRED
        found = approvals.status(self.approval, self.asked_at)
        if found is ApprovalStatus.EXPIRED and not self.waits:
            return ApprovalStatus.PENDING
        return found

    @property
    def late(self) -> bool:
        """Whether the time in which it had to start has passed, or had when it expired."""
        start_by = self.dossier.start_by
        return start_by is not None and self.asked_at >= start_by

    @property
    def overdue(self) -> str | None:
        """Why a deployment that waits has to expire now, None if it has not."""
        start_by = self.dossier.start_by
        if self.waits and self.late and start_by is not None:
            return f"It had to start by {at_second(start_by)}."
        if self.waits and self.approval_status is ApprovalStatus.EXPIRED:
            return "Not enough people approved in time."
        return None

    @property
    def approvals_given(self) -> int:
        """How many approvals count, or did when it stopped waiting, as far as is known."""
        return len(approvals.counted(self.approval, self.asked_at))

    @property
    def admitted_by(self) -> Mapping[str, Any]:
        """What lets it start, for the entry that says so: nothing later changes who approved."""
        counted = approvals.counted(self.approval, self.asked_at)
        return {
            "policy_version": self.approval.policy.version,
            "approvals_required": self.approval.required,
            "approved_by": [self.approval.people[one.approver_id].username for one in counted],
            "overridden": sorted(one.gate for one in self.approval.overrides),
        }

    @property
    def deadline(self) -> datetime | None:
        """When its present status ends by itself."""
        if not self.waits:
            return self.dossier.deadline
        ends = [end for end in (self.decide_by, self.dossier.start_by) if end is not None]
        return min(ends, default=None)

    @property
    def decide_by(self) -> datetime | None:
        """Until when it must be decided, or had to be; the column says when to look again."""
        return approvals.decide_by(self.approval, self.asked_at)


async def deployment(tx: AsyncConnection, deployment_id: UUID) -> Examined:
    """Examine one deployment, in at most four queries; raises ResourceNotFound."""
    dossier = await dossiers.one(tx, deployment_id)
    if dossier is None:
        raise ResourceNotFound(resource_type="deployment", resource=deployment_id)
    return (await several(tx, [dossier]))[0]


async def several(tx: AsyncConnection, found: Sequence[Dossier]) -> list[Examined]:
    """Examine deployments that were read, in at most three more queries however many they are.

    One reads what waits in line with them, where something waits before one of them, and one the
    freeze windows, where one of them waits.
    """
    neighbours = await _neighbours(tx, found)
    people: Mapping[UUID, Person] = {}
    if any(_asks_people(dossier) for dossier in (*found, *neighbours)):
        people = await possible_approvers(tx)
    windows: tuple[Window, ...] = ()
    if any(dossier.status == DeploymentStatus.PENDING for dossier in found):
        windows = tuple(map(window_of, await freezes.in_force(tx)))
    # One that nobody has stored is not among its neighbours, but waits behind them.
    in_line = {dossier.id: dossier for dossier in (*neighbours, *filter(_minds_order, found))}
    lines = _lines([Examined(dossier, people, windows=windows) for dossier in in_line.values()])
    return [
        Examined(dossier, people, lines.get(dossier.id, NOTHING_BEFORE), windows)
        for dossier in found
    ]


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
            demoted_at=row[5],
        )
        for row in await dossiers.possible_approvers(tx, roles)
    }


async def _neighbours(tx: AsyncConnection, found: Sequence[Dossier]) -> list[Dossier]:
    """Return all that waits where the order matters to one of these deployments."""
    pairs = {
        (dossier.service_id, dossier.environment_id) for dossier in found if _minds_order(dossier)
    }
    return await dossiers.in_line(tx, pairs) if pairs else []


def _minds_order(dossier: Dossier) -> bool:
    """Say whether it matters who else waits, and somebody does."""
    ordered = facts.policy_in_force(dossier).queue is not QueueMode.SUPERSEDE
    return bool(dossier.others_wait) and dossier.kind != DeploymentKind.ROLLBACK and ordered


def _lines(cases: Sequence[Examined]) -> dict[UUID, Line]:
    """Return what is before each deployment that waits."""
    by_pair: dict[tuple[UUID, UUID], list[Examined]] = {}
    for case in cases:
        pair = (case.dossier.service_id, case.dossier.environment_id)
        by_pair.setdefault(pair, []).append(case)
    lines: dict[UUID, Line] = {}
    for together in by_pair.values():
        lines |= line_up(map(_waiting, together), together[0].dossier.moment)
    return lines


def _waiting(case: Examined) -> Waiting:
    dossier = case.dossier
    return Waiting(
        dossier.id, dossier.deployed_at, case.gates, outdated=dossier.outdated_by is not None
    )


def _asks_people(dossier: Dossier) -> bool:
    """Say whether somebody may still have to approve it."""
    waits = dossier.status == DeploymentStatus.PENDING
    default = default_policy(EnvironmentType(dossier.environment_type))
    required = dossier.policy is not None or default.required_approvals > 0
    return waits and required and dossier.kind != DeploymentKind.ROLLBACK
