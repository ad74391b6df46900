"""Requests: a release shall go to an environment, with or without a pipeline."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from services.deployment.operations import examine, facts, moves
from services.deployment.operations.details import Detail
from services.deployment.operations.examine import Examined
from services.deployment.rules import approvals, gates, releases
from services.deployment.rules.approvals import Person
from services.deployment.rules.history import live, refuse_duplicate
from services.deployment.rules.lifecycle import DeploymentKind, DeploymentStatus
from services.deployment.rules.policy import Policy
from services.deployment.rules.releases import ReleaseAction, ReleaseStatus
from services.deployment.rules.stages import PIPELINE, pipeline_of
from services.deployment.store import children, histories, locks, references, writing
from services.deployment.store.references import NamedPerson
from shared.errors import FieldViolation, ResourceArchived, ValidationFailed
from shared.identity.actor import ActorKind, Role
from shared.ids import new_id
from shared.outbox.change import Change


@dataclass(frozen=True, slots=True)
class NewDeployment:
    """What is asked for; things by name or id."""

    release: str
    environment: str
    approvers: tuple[str, ...] = ()
    allow_downgrade: bool = False
    fail_if_blocked: bool = False


async def create(change: Change, command: NewDeployment) -> Detail:
    """Request a deployment that is started and finished by calls."""
    return await _request(change, command, DeploymentKind.DEPLOY)


async def promote(change: Change, command: NewDeployment) -> Detail:
    """Request a deployment with the five stages; the release becomes promoted."""
    return await _request(change, command, DeploymentKind.PROMOTE)


async def _request(change: Change, command: NewDeployment, kind: DeploymentKind) -> Detail:
    promotes = kind is DeploymentKind.PROMOTE
    release = await references.release(change.tx, command.release)
    environment = await references.environment(change.tx, command.environment)
    asked = await references.people(change.tx, command.approvers)
    pair = await locks.hold_pair(change.tx, release.service_id, environment.id, release.id)
    change.now = pair.moment
    await locks.hold_service(change.tx, pair.service_id)
    held = await locks.hold_releases(change.tx, [release.id], environment.id, to_change=promotes)
    if held[release.id].archived:
        raise ResourceArchived(resource_type="release", resource=command.release)
    policy = facts.environment_policy(await locks.hold_environment(change.tx, environment.id))
    known = facts.history(
        await histories.present(change.tx, release.service_id, environment.id, release.id)
    )
    refuse_duplicate(known, release.id, environment=environment.name)
    runs = live(known)
    if runs is not None and runs.release_id == release.id:
        kind = DeploymentKind.REDEPLOY
    deployment_id = new_id()
    await writing.add_deployment(
        change.tx,
        change.now,
        id=deployment_id,
        release_id=release.id,
        service_id=release.service_id,
        environment_id=environment.id,
        deployed_by=change.actor.user_id,
        requesters=sorted(change.actor.people),
        kind=kind,
        artifact_digest=held[release.id].artifact_digest,
        allow_downgrade=command.allow_downgrade,
        decide_by=_decide_by(policy, change.now),
    )
    if promotes:
        stages = [(stage.name, stage.status) for stage in pipeline_of(kind)]
        await writing.add_stages(change.tx, deployment_id, stages, change.now)
    if policy.required_approvals:
        await writing.ask(change.tx, deployment_id, [one.id for one in asked], change.now)
    case = await examine.deployment(change.tx, deployment_id)
    _check(case, command, asked)
    if promotes:
        status = ReleaseStatus(held[release.id].status)
        status = releases.advance(status, ReleaseAction.PROMOTE, release=command.release)
        await writing.set_release_status(change.tx, release.id, status)
    _record(change, case, asked, promotes=promotes)
    return Detail(case, await _stages(change, deployment_id, promotes=promotes))


def _decide_by(policy: Policy, now: datetime) -> datetime | None:
    within = policy.decide_within if policy.required_approvals else None
    return None if within is None else now + within


def _check(case: Examined, command: NewDeployment, asked: Sequence[NamedPerson]) -> None:
    """Refuse what no waiting cures, an approval nobody could give, and people asked in vain."""
    gates.check_request(case.answers)
    approvals.check_satisfiable(case.approval)
    gates.check_request(case.answers, fail_if_blocked=command.fail_if_blocked)
    if not case.approval.required:
        return
    refusals = tuple(
        FieldViolation("approvers", f"{person.username} cannot be asked: {refusal}")
        for person in asked
        if (refusal := approvals.may_decide(_person(person), case.approval)) is not None
    )
    if refusals:
        first = refusals[0].description
        raise ValidationFailed(count=len(refusals), first=first, fields=refusals)


def _person(named: NamedPerson) -> Person:
    return Person(
        id=named.id,
        role=Role.from_stored(named.role),
        active=named.active,
        kind=ActorKind(named.kind),
        username=named.username,
    )


def _record(
    change: Change, case: Examined, asked: Sequence[NamedPerson], *, promotes: bool
) -> None:
    details = {
        "after": {"status": DeploymentStatus.PENDING},
        "approvals_required": case.approval.required,
        "asked": [person.username for person in asked if case.approval.required],
        "allow_downgrade": case.dossier.allow_downgrade,
        "requesters": case.dossier.requesters,
    }
    if promotes:
        details |= {"stages": list(PIPELINE), "release_status": ReleaseStatus.PROMOTED}
    action = "promote" if promotes else "deploy"
    moves.record(change, case.dossier, case.dossier.row_version, action, details)


async def _stages(
    change: Change, deployment_id: UUID, *, promotes: bool
) -> Sequence[children.StageRow]:
    return await children.stages(change.tx, deployment_id) if promotes else ()
