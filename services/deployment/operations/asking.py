"""What is asked for, with all that decides whether it may be: read, and held against the rules.

A request holds what it reads and then writes, an explanation only looks. What both read, and what
refuses before a gate is asked, is here, so that the two say the same.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from services.deployment.operations import facts
from services.deployment.rules.history import Deployed, live, refuse_duplicate
from services.deployment.rules.lifecycle import DeploymentKind
from services.deployment.rules.overrides import NewOverride
from services.deployment.rules.policy import Policy
from services.deployment.rules.start_times import check_start_times
from services.deployment.store import histories, locks, references
from services.deployment.store.locks import EnvironmentRow, ReleaseRow, ServiceRow
from shared.domain_error import DomainError
from shared.errors import ResourceArchived
from shared.identity.actor import Actor


@dataclass(frozen=True, slots=True)
class NewDeployment:
    """What is asked for; things by name or id."""

    release: str
    environment: str
    approvers: tuple[str, ...] = ()
    allow_downgrade: bool = False
    fail_if_blocked: bool = False
    not_before: datetime | None = None
    start_by: datetime | None = None
    overrides: tuple[NewOverride, ...] = ()


@dataclass(frozen=True, slots=True)
class Asked:
    """A request with what it is about, as that is at `moment`.

    `history` is what is live in the pair, and what waits or runs of the release.
    """

    command: NewDeployment
    service: ServiceRow
    release: ReleaseRow
    environment: EnvironmentRow
    history: tuple[Deployed, ...]
    moment: datetime

    @property
    def policy(self) -> Policy:
        """What the environment asks of deployments."""
        return facts.environment_policy(self.environment)


async def read(
    tx: AsyncConnection, command: NewDeployment, *, hold: bool, to_change: bool = False
) -> Asked:
    """Read what a request is about; raises ResourceNotFound.

    With `hold` the transaction keeps all of it as it is, from the pair on, and with `to_change` the
    release for itself.
    """
    release = await references.release(tx, command.release)
    service_id, environment_id = (
        release.service_id,
        (await references.environment(tx, command.environment)).id,
    )
    if hold:
        pair = await locks.hold_pair(tx, service_id, environment_id, release.id)
        moment = pair.moment
    else:
        moment = await locks.moment(tx, service_id, environment_id)
    service = await locks.service(tx, service_id, hold=hold)
    releases = await locks.releases(tx, [release.id], hold=hold, to_change=to_change)
    environment = await locks.environment(tx, environment_id, hold=hold)
    rows = await histories.present(tx, service_id, environment_id, release.id)
    return Asked(
        command=command,
        service=service,
        release=releases[release.id],
        environment=environment,
        history=tuple(facts.history(rows)),
        moment=moment,
    )


def refusals(asked: Asked) -> Iterator[DomainError]:
    """Give what stands against the request before any gate is asked, the worst first."""
    times = (asked.command.not_before, asked.command.start_by)
    yield from refusal(lambda: check_start_times(*times, asked.moment))
    put_away = (
        (asked.service.archived, "service", asked.service.name),
        (asked.release.archived, "release", asked.command.release),
        (asked.environment.archived, "environment", asked.environment.name),
    )
    for archived, kind, name in put_away:
        if archived:
            yield ResourceArchived(resource_type=kind, resource=name)
    yield from refusal(
        lambda: refuse_duplicate(
            asked.history, asked.release.id, environment=asked.environment.name
        )
    )


def refusal(check: Callable[[], object]) -> Iterator[DomainError]:
    """Give what a check of the rules raises, if it does."""
    try:
        check()
    except DomainError as error:
        yield error


def columns(
    asked: Asked, deployment_id: UUID, actor: Actor, kind: DeploymentKind
) -> dict[str, Any]:
    """Return the columns of the deployment that the request makes; what is live is redeployed."""
    runs = live(asked.history)
    if runs is not None and runs.release_id == asked.release.id:
        kind = DeploymentKind.REDEPLOY
    within = asked.policy.decide_within if asked.policy.required_approvals else None
    return {
        "id": deployment_id,
        "release_id": asked.release.id,
        "service_id": asked.service.id,
        "environment_id": asked.environment.id,
        "deployed_by": actor.user_id,
        "requesters": sorted(actor.people),
        "kind": kind,
        "artifact_digest": asked.release.artifact_digest,
        "allow_downgrade": asked.command.allow_downgrade,
        "not_before": asked.command.not_before,
        "start_by": asked.command.start_by,
        "decide_by": None if within is None else asked.moment + within,
    }
