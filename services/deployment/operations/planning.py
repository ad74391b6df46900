"""The plan of a rollback: what is known of its pair, and the deployment that would carry it out.

ExecuteRollback holds what it reads and carries the plan out, PlanRollback only looks.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from services.deployment.operations import acting, examine, facts
from services.deployment.rules.gates import GateAnswer
from services.deployment.rules.history import slot_holder
from services.deployment.rules.lifecycle import DeploymentKind, DeploymentStatus, advance
from services.deployment.rules.rollback import Plan, plan
from services.deployment.rules.targets import Place, Wish
from services.deployment.store import dossiers, histories, leases, locks, references
from services.deployment.store.histories import HistoryRow
from services.deployment.store.locks import Pair, ReleaseRow
from shared.db.engine import Database
from shared.errors import ResourceArchived, ResourceNotFound
from shared.identity.actor import Actor
from shared.ids import new_id

_ACTION: Final = "roll back"


@dataclass(frozen=True, slots=True)
class RollBack:
    """Undo a deployment; `target_release` is empty for the previous stable one."""

    deployment_id: UUID
    reason: str = ""
    target_release: str = ""
    preempt: bool = False
    cross_irreversible: bool = False
    etag: str = ""


@dataclass(frozen=True, slots=True)
class History:
    """What is known of a pair at a moment: its deployments, and their releases.

    `target` is the release that the rollback names, if it names one.
    """

    service_id: UUID
    environment_id: UUID
    moment: datetime
    rows: Mapping[UUID, HistoryRow]
    releases: Mapping[UUID, ReleaseRow]
    place: Place
    target: UUID | None


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan, what it was made from, and what would hold it back once it is requested."""

    plan: Plan
    history: History
    blockers: tuple[GateAnswer, ...]


async def read(tx: AsyncConnection, command: RollBack, pair: Pair, *, hold: bool) -> History:
    """Read the pair, every release that could be chosen or blamed, and the environment.

    With `hold` the transaction keeps them. Raises ResourceNotFound for an unknown target, and
    ResourceArchived.
    """
    target = None
    if command.target_release:
        target = (await references.release(tx, command.target_release)).id
    service = await locks.service(tx, pair.service_id, hold=hold)
    if service.archived:
        raise ResourceArchived(resource_type="service", resource=service.name)
    rows = await histories.whole(tx, pair.service_id, pair.environment_id)
    wanted = {row.release_id for row in rows} | ({target} if target else set())
    known = await locks.releases(tx, wanted, hold=hold, to_change=True)
    bad = await locks.bad_releases(tx, wanted, pair.environment_id)
    environment = await locks.environment(tx, pair.environment_id, hold=hold)
    if environment.archived:
        raise ResourceArchived(resource_type="environment", resource=environment.name)
    policy = facts.environment_policy(environment)
    place = Place(
        service=rows[0].service,
        environment=environment.name,
        history=tuple(facts.history(rows, policy.strict_stages)),
        releases={key: facts.release_facts(known[key], bad.get(key)) for key in known},
        policy=policy,
    )
    return History(
        service_id=pair.service_id,
        environment_id=pair.environment_id,
        moment=pair.moment,
        rows={row.id: row for row in rows},
        releases=known,
        place=place,
        target=target,
    )


async def wish(
    tx: AsyncConnection, command: RollBack, history: History, actor: Actor, *, hold: bool
) -> Wish:
    """Return what is asked for, by whom, and whether whoever holds the slot must be asked to stop.

    With `hold` the transaction keeps the lease and the account, which come after all that `read`
    holds. Raises NotPermitted for an account that is not active any more.
    """
    holder = slot_holder(history.place.history)
    lease = None
    if holder is not None:
        lease = await (leases.held if hold else leases.of)(tx, holder.id)
    return Wish(
        subject=command.deployment_id,
        role=await acting.role(tx, actor, _ACTION, hold=hold),
        target_release=history.target,
        preempt=command.preempt,
        holder_claimed=lease is not None and not lease.is_over(history.moment),
        cross_irreversible=command.cross_irreversible,
    )


def carrier(history: History, planned: Plan, carrier_id: UUID, actor: Actor) -> dict[str, Any]:
    """Return the columns of the deployment that goes back."""
    target = planned.target.release_id
    return {
        "id": carrier_id,
        "release_id": target,
        "service_id": history.service_id,
        "environment_id": history.environment_id,
        "deployed_by": actor.user_id,
        "requesters": sorted(actor.people),
        "kind": DeploymentKind.ROLLBACK,
        "artifact_digest": history.releases[target].artifact_digest,
        "rollback_of": planned.rollback_of,
    }


async def look(db: Database, command: RollBack, actor: Actor) -> Planned:
    """Plan a rollback and change nothing; raises what `roll_back.execute` would."""
    async with db.snapshot() as tx:
        pair = await locks.pair_of(tx, command.deployment_id)
        if pair is None:
            raise ResourceNotFound(resource_type="deployment", resource=command.deployment_id)
        history = await read(tx, command, pair, hold=False)
        wanted = await wish(tx, command, history, actor, hold=False)
        planned = plan(history.place, wanted, pair.moment)
        new = carrier(history, planned, new_id(), actor)
        dossier = await dossiers.proposed(tx, {**new, "deployed_at": pair.moment})
        occupant = dossier.occupant
        if occupant is not None and UUID(occupant["id"]) in _gone(planned):
            dossier = replace(dossier, occupant=None)
        case = (await examine.several(tx, [dossier]))[0]
    return Planned(planned, history, case.blockers)


def _gone(planned: Plan) -> set[UUID]:
    """Return who has left the slot once the rollback is requested."""
    preempts = planned.preempts
    if preempts is None:
        return set()
    after = advance(preempts.holder.status, preempts.action)
    return set() if after is DeploymentStatus.CANCELLING else {preempts.holder.id}
