"""Publishing what an environment asks of deployments, and reading what it asks and has asked."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from services.deployment.operations import examine
from services.deployment.operations.examine import Examined
from services.deployment.operations.policies import content_of, policy_of
from services.deployment.rules import approvals
from services.deployment.rules.policy import (
    EnvironmentType,
    Policy,
    QueueMode,
    check_consistent,
    default_policy,
)
from services.deployment.store import dossiers, policies, references, writing
from services.deployment.store.policies import PolicyRow
from shared.db.engine import Database
from shared.db.keyset import Page, PageRequest
from shared.errors import EtagMismatch, ResourceNotFound
from shared.ids import new_id
from shared.outbox.change import Change
from shared.outbox.events import Event


@dataclass(frozen=True, slots=True)
class Publish:
    """The next policy of an environment; `expected_version` is the one that it shall follow.

    `queue` replaces that of the policy; None is what is usual for the type of the environment.
    """

    environment: str
    policy: Policy
    reason: str
    expected_version: int | None = None
    queue: QueueMode | None = None


@dataclass(frozen=True, slots=True)
class PolicyVersion:
    """A version of the policy of an environment, and what it asks for."""

    row: PolicyRow
    policy: Policy


@dataclass(frozen=True, slots=True)
class Published:
    """The policy in force, and how many deployments lost approvals when it was published."""

    version: PolicyVersion
    affected: int = 0


async def publish(change: Change, command: Publish) -> Published:
    """Put a policy in force, as the next version unless it asks for the same as the one before.

    Raises ValidationFailed, ResourceNotFound, ResourceArchived and EtagMismatch.
    """
    check_consistent(command.policy)
    environment = await references.environment(change.tx, command.environment)
    change.now = await policies.hold_to_publish(change.tx, environment.id)
    before = _version(await _existing(change.tx, environment.id))
    expected = command.expected_version
    if expected is not None and expected != before.row.version:
        raise EtagMismatch(resource_type="policy", current=before.row.version)
    usual = default_policy(EnvironmentType(before.row.environment_type))
    policy = replace(command.policy, queue=command.queue or usual.queue)
    if before.policy.asks_the_same(policy):
        return Published(before)
    cases = await examine.several(change.tx, await dossiers.waiting_in(change.tx, environment.id))
    affected = sum(case.approvals_given > 0 for case in cases)
    next_version = before.row.version + 1
    entry = await policies.publish(
        change.tx,
        environment.id,
        next_version,
        change.now,
        id=new_id(),
        policy=content_of(policy),
        published_by=change.actor.user_id,
        reason=command.reason,
    )
    after = _version(await _existing(change.tx, environment.id))
    await _begin_anew(change, cases, after.policy)
    _record(change, before, after, entry, affected)
    return Published(after, affected)


async def get(db: Database, environment: str, version: int | None) -> PolicyVersion:
    """Return a version of a policy, the one in force for None; raises ResourceNotFound."""
    async with db.snapshot() as tx:
        named = await references.environment(tx, environment)
        return _version(await _existing(tx, named.id, version))


async def page(db: Database, environment: str, at: PageRequest) -> Page[PolicyVersion]:
    """List the published versions of an environment, the newest first."""
    async with db.snapshot() as tx:
        named = await references.environment(tx, environment)
        found = await policies.newest_first(tx, at, named.id)
    return found.map(_version)


async def _begin_anew(change: Change, cases: Sequence[Examined], policy: Policy) -> None:
    """Note until when each waiting deployment must be decided under a policy that is new."""
    moments: dict[UUID, datetime | None] = {}
    for case in cases:
        measured = replace(case.approval, policy=policy)
        moments[case.dossier.id] = approvals.decide_by(measured, change.now)
    await writing.postpone_decisions(change.tx, moments)


def _record(
    change: Change, before: PolicyVersion, after: PolicyVersion, entry: int, affected: int
) -> None:
    def told(version: PolicyVersion) -> dict[str, object]:
        return {"policy_version": version.row.version, **content_of(version.policy)}

    change.record(
        Event(
            action="publish",
            aggregate=f"policy:{after.row.environment_id}",
            aggregate_seq=entry,
            resource_type="policy",
            resource_id=str(after.row.environment_id),
            details={
                "environment": after.row.environment,
                "reason": after.row.reason,
                "before": told(before),
                "after": told(after),
                "affected_deployments": affected,
            },
        )
    )


async def _existing(
    tx: AsyncConnection, environment_id: UUID, version: int | None = None
) -> PolicyRow:
    found = await policies.find(tx, environment_id, version)
    if found is None:
        raise ResourceNotFound(resource_type="policy version", resource=version)
    return found


def _version(row: PolicyRow) -> PolicyVersion:
    policy = policy_of(row.environment_type, row.version, row.policy, row.created_at)
    return PolicyVersion(row, policy)
