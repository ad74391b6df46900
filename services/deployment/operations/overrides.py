"""Overrides: a deployment is let past a gate, and whoever has approved it is asked again."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from services.deployment.operations import acting, decide, examine, moves
from services.deployment.operations.examine import Examined
from services.deployment.rules import approvals
from services.deployment.rules.lifecycle import DeploymentStatus
from services.deployment.rules.overrides import NewOverride, check_wanted
from services.deployment.store import children, override_rows, references, writing
from services.deployment.store.override_rows import OverrideFilter, OverrideRow
from shared.db.engine import Database
from shared.db.keyset import Page, PageRequest
from shared.errors import IllegalTransition, ResourceNotFound, RoleRequired
from shared.identity.actor import Role
from shared.ids import new_id
from shared.outbox.change import Change
from shared.outbox.events import Event

_TICK: Final = timedelta(microseconds=1)
_VERB: Final = "override"
_ACTION: Final = "override a gate"


@dataclass(frozen=True, slots=True)
class OverridesQuery:
    """Which overrides to list; empty is any."""

    page: PageRequest
    deployment_id: UUID | None = None
    service: str = ""
    environment: str = ""
    author: str = ""
    gate: str | None = None


async def give(change: Change, deployment_id: UUID, command: NewOverride) -> OverrideRow | None:
    """Let a waiting deployment past a gate; a gate that is overridden already stays as it is.

    Raises ValidationFailed, ResourceNotFound, RoleRequired, NotPermitted, IllegalTransition for one
    that does not wait, and NotEnoughApprovers when nobody could confirm the override. None when the
    change is refused because the deployment turns out to have expired.
    """
    check_wanted([command.gate], "gate")
    pair = await moves.hold(change, deployment_id)
    known = await override_rows.find(change.tx, deployment_id, command.gate)
    if known is not None:
        return known
    await moves.hold_gates(change, pair, deployment_id, [change.actor.user_id])
    await check_author(change)
    case = await examine.deployment(change.tx, deployment_id)
    if not case.waits:
        raise _too_late(case, case.status)
    if case.overdue:
        await decide.expire(change, case)
        change.refuse(_too_late(case, DeploymentStatus.EXPIRED))
        return None
    earlier = (datetime.fromisoformat(row["created_at"]) + _TICK for row in case.dossier.overrides)
    change.now = max([change.now, case.dossier.moment, *earlier])
    (made,) = await add(change, deployment_id, [command])
    before = [one.gate for one in case.approval.overrides]
    details = {
        "gate": command.gate,
        "reason": command.reason,
        "override": made.id,
        "approvals_voided": case.approvals_given,
        "before": {"status": case.status, "overrides": before},
        "after": {"status": case.status, "overrides": [*before, command.gate]},
    }
    await moves.move(change, case.dossier, case.status, _VERB, details=details)
    case = await examine.deployment(change.tx, deployment_id)
    approvals.check_satisfiable(case.approval)
    await writing.postpone_decision(change.tx, deployment_id, case.decide_by)
    return made


async def check_author(change: Change) -> None:
    """Hold the account that overrides; raises RoleRequired or NotPermitted if it may not."""
    role = await acting.role(change.tx, change.actor, _ACTION, hold=True)
    if role < Role.LEAD:
        raise RoleRequired(required=Role.LEAD.stored, role=role.stored)


async def add(
    change: Change, deployment_id: UUID, wanted: Sequence[NewOverride]
) -> list[OverrideRow]:
    """Store overrides of a deployment that this change holds, and record each."""
    rows = [(new_id(), one.gate.value, one.reason) for one in wanted]
    await override_rows.add(
        change.tx,
        change.now,
        rows,
        deployment_id=deployment_id,
        author_id=change.actor.user_id,
        authors=sorted(change.actor.people),
    )
    made = []
    for one in wanted:
        found = await override_rows.find(change.tx, deployment_id, one.gate)
        if found is not None:
            _record(change, found)
            made.append(found)
    return made


async def page(db: Database, query: OverridesQuery) -> Page[OverrideRow]:
    """List overrides, the newest first; raises ResourceNotFound for what a filter names."""
    async with db.snapshot() as tx:
        wanted = query.deployment_id
        if wanted is not None and not await children.exists(tx, wanted):
            raise ResourceNotFound(resource_type="deployment", resource=wanted)
        service = await references.service(tx, query.service) if query.service else None
        place = await references.environment(tx, query.environment) if query.environment else None
        author = await references.user(tx, query.author) if query.author else None
        chosen = OverrideFilter(
            deployment_id=wanted,
            service_id=service.id if service else None,
            environment_id=place.id if place else None,
            author_id=author.id if author else None,
            gate=query.gate,
        )
        return await override_rows.newest_first(tx, query.page, chosen)


def _too_late(case: Examined, status: DeploymentStatus) -> IllegalTransition:
    touched = case.dossier.touched_at is not None
    return moves.not_now(case.dossier.id, status, _VERB, touched=touched)


def _record(change: Change, made: OverrideRow) -> None:
    change.record(
        Event(
            action=_VERB,
            aggregate=f"gate_override:{made.id}",
            aggregate_seq=1,
            resource_type="gate_override",
            resource_id=str(made.id),
            details={
                "deployment": made.deployment_id,
                "release": f"{made.service}@{made.version}",
                "environment": made.environment,
                "gate": made.gate,
                "reason": made.reason,
                "before": {"overridden": False},
                "after": {"overridden": True},
            },
        )
    )
