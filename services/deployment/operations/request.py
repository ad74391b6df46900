"""Requests: a release shall go to an environment, with or without a pipeline."""

from collections.abc import Sequence
from uuid import UUID

from services.deployment.operations import asking, examine, moves, overrides
from services.deployment.operations.asking import NewDeployment
from services.deployment.operations.details import Detail
from services.deployment.operations.examine import Examined
from services.deployment.operations.superseding import supersede_waiting
from services.deployment.rules import approvals, gates, releases
from services.deployment.rules.approvals import Person
from services.deployment.rules.lifecycle import DeploymentKind, DeploymentStatus
from services.deployment.rules.overrides import check_wanted
from services.deployment.rules.releases import ReleaseAction, ReleaseStatus
from services.deployment.rules.stages import PIPELINE, pipeline_of
from services.deployment.store import children, references, writing
from services.deployment.store.references import NamedPerson
from shared.domain_error import FieldViolation
from shared.errors import ValidationFailed
from shared.identity.actor import ActorKind, Role
from shared.ids import new_id
from shared.outbox.change import Change


async def create(change: Change, command: NewDeployment) -> Detail:
    """Request a deployment that is started and finished by calls."""
    return await _request(change, command, DeploymentKind.DEPLOY)


async def promote(change: Change, command: NewDeployment) -> Detail:
    """Request a deployment with the five stages; the release becomes promoted."""
    return await _request(change, command, DeploymentKind.PROMOTE)


async def _request(change: Change, command: NewDeployment, kind: DeploymentKind) -> Detail:
    promotes = kind is DeploymentKind.PROMOTE
    check_wanted([one.gate for one in command.overrides])
    asked = await asking.read(change.tx, command, hold=True, to_change=promotes)
    if command.overrides:
        await overrides.check_author(change)
    people = await references.people(change.tx, command.approvers)
    change.now = asked.moment
    for refusal in asking.refusals(asked):
        raise refusal
    deployment_id = new_id()
    new = asking.columns(asked, deployment_id, change.actor, kind)
    await writing.add_deployment(change.tx, change.now, **new)
    await overrides.add(change, deployment_id, command.overrides)
    if promotes:
        stages = [(stage.name, stage.status) for stage in pipeline_of(new["kind"])]
        await writing.add_stages(change.tx, deployment_id, stages, change.now)
    if asked.policy.required_approvals:
        await writing.ask(change.tx, deployment_id, [one.id for one in people], change.now)
    superseded = await supersede_waiting(change, asked, deployment_id)
    case = await examine.deployment(change.tx, deployment_id)
    _check(case, command, people)
    if promotes:
        status = ReleaseStatus(asked.release.status)
        status = releases.advance(status, ReleaseAction.PROMOTE, release=command.release)
        await writing.set_release_status(change.tx, asked.release.id, status)
    _record(change, case, people, superseded, promotes=promotes)
    return Detail(case, await _stages(change, deployment_id, promotes=promotes))


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
    change: Change,
    case: Examined,
    asked: Sequence[NamedPerson],
    superseded: Sequence[UUID],
    *,
    promotes: bool,
) -> None:
    details = {
        "after": {"status": DeploymentStatus.PENDING},
        "approvals_required": case.approval.required,
        "asked": [person.username for person in asked if case.approval.required],
        "allow_downgrade": case.dossier.allow_downgrade,
        "not_before": case.dossier.not_before,
        "start_by": case.dossier.start_by,
        "supersedes": superseded,
        "requesters": case.dossier.requesters,
        "overrides": [override["gate"] for override in case.dossier.overrides],
    }
    if promotes:
        details |= {"stages": list(PIPELINE), "release_status": ReleaseStatus.PROMOTED}
    action = "promote" if promotes else "deploy"
    moves.record(change, case.dossier, case.dossier.row_version, action, details)


async def _stages(
    change: Change, deployment_id: UUID, *, promotes: bool
) -> Sequence[children.StageRow]:
    return await children.stages(change.tx, deployment_id) if promotes else ()
