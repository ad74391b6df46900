"""The plan of a rollback: what is known of its pair, and the deployment that would carry it out.

ExecuteRollback holds what it reads and carries the plan out, PlanRollback only looks.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from services.deployment.operations import examine, facts
from services.deployment.rules.gates import GateAnswer
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
    """What is known of a pair: its deployments, and their releases."""

    service_id: UUID
    environment_id: UUID
    rows: Mapping[UUID, HistoryRow]
    releases: Mapping[UUID, ReleaseRow]
    place: Place


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan, what it was made from, and what would hold it back once it is requested."""

    plan: Plan
    history: History
    blockers: tuple[GateAnswer, ...]


async def wish(tx: AsyncConnection, command: RollBack, actor: Actor) -> Wish:
    """Return what is asked for, and by whom; raises ResourceNotFound for an unknown target."""
    target = None
    if command.target_release:
        target = (await references.release(tx, command.target_release)).id
    return Wish(
        subject=command.deployment_id,
        role=actor.role,
        target_release=target,
        preempt=command.preempt,
        cross_irreversible=command.cross_irreversible,
    )


async def knowing_the_holder(tx: AsyncConnection, wanted: Wish, pair: Pair) -> Wish:
    """Return the wish with what decides how the holder of the slot stops."""
    claimed = await leases.holder_is_claimed(tx, pair.service_id, pair.environment_id, pair.moment)
    return replace(wanted, holder_claimed=claimed)


async def read(tx: AsyncConnection, pair: Pair, target: UUID | None, *, hold: bool) -> History:
    """Read the pair, every release that could be chosen or blamed, and the environment.

    With `hold` the transaction keeps them. Raises ResourceArchived.
    """
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
        rows={row.id: row for row in rows},
        releases=known,
        place=place,
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
        wanted = await wish(tx, command, actor)
        pair = await locks.pair_of(tx, command.deployment_id)
        if pair is None:
            raise ResourceNotFound(resource_type="deployment", resource=command.deployment_id)
        wanted = await knowing_the_holder(tx, wanted, pair)
        history = await read(tx, pair, wanted.target_release, hold=False)
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
