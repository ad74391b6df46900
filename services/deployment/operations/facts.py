"""From rows to the facts that the rules are asked about."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from services.deployment.operations.policies import policy_of
from services.deployment.rules.approvals import ApprovalFacts, Decision, Outcome, Person
from services.deployment.rules.freezes import Subject, Window
from services.deployment.rules.gates import Gate, GateFacts, Line, Occupant
from services.deployment.rules.gates.facts import NOTHING_BEFORE
from services.deployment.rules.history import Deployed
from services.deployment.rules.lifecycle import DeploymentKind, DeploymentStatus, FailureClass
from services.deployment.rules.locks import Lock, place
from services.deployment.rules.overrides import OverridableGate, Override
from services.deployment.rules.policy import EnvironmentType, Policy
from services.deployment.rules.promotion import Need, Predecessor, ReleaseFacts
from services.deployment.rules.releases import ReleaseStatus
from services.deployment.rules.stages import Stage, StageStatus, strict_omitted
from services.deployment.store.children import StageRow
from services.deployment.store.dossiers import Dossier
from services.deployment.store.histories import HistoryRow
from services.deployment.store.locks import EnvironmentRow, ReleaseRow
from shared.identity.actor import ActorKind, Role

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def environment_policy(environment: EnvironmentRow) -> Policy:
    """Return the policy of an environment that a change holds."""
    return policy_of(
        environment.environment_type,
        environment.policy_version,
        environment.policy,
        environment.policy_since,
    )


def policy_in_force(dossier: Dossier) -> Policy:
    """Return the policy of a deployment."""
    return policy_of(
        dossier.environment_type, dossier.policy_version, dossier.policy, dossier.policy_since
    )


def asked_at(dossier: Dossier) -> datetime:
    """Return the moment a deployment's approval is judged at: now, or when it stopped waiting."""
    return dossier.started_at or dossier.completed_at or dossier.moment


def approval_facts(dossier: Dossier, people: Mapping[UUID, Person]) -> ApprovalFacts:
    """Return what decides about the approval; `people` are those who may be eligible.

    What ends approvals ends them from when it is recorded, also when the clock has gone back since,
    as on the way to another machine: it is told here as no later than the moment that they are
    judged at. Else an approval would go on to count beside an override that its author never saw.
    """
    latest = asked_at(dossier)
    policy = policy_in_force(dossier)
    if policy.since is not None:
        policy = replace(policy, since=min(policy.since, latest))
    approvers = {UUID(row["approver_id"]): _approver(row, dossier) for row in dossier.approvals}
    return ApprovalFacts(
        deployment=str(dossier.id),
        environment=dossier.environment,
        policy=policy,
        digest=dossier.release_digest,
        requested_at=dossier.deployed_at,
        requester=frozenset(dossier.requesters),
        authors=frozenset(dossier.authors),
        people={**people, **approvers},
        decisions=tuple(
            _decision(row, latest) for row in dossier.approvals if row["decided_at"] is not None
        ),
        exempt=dossier.kind == DeploymentKind.ROLLBACK,
        overrides=tuple(_override(row, latest) for row in dossier.overrides),
        stood_still_until=dossier.stood_still_until,
    )


def gate_facts(
    dossier: Dossier,
    people: Mapping[UUID, Person],
    line: Line = NOTHING_BEFORE,
    windows: tuple[Window, ...] = (),
) -> GateFacts:
    """Return what the gates of a waiting deployment are asked about."""
    occupant = dossier.occupant
    return GateFacts(
        service=dossier.service,
        environment=dossier.environment,
        kind=DeploymentKind(dossier.kind),
        release=ReleaseFacts(
            id=dossier.release_id,
            version=dossier.version,
            status=ReleaseStatus(dossier.release_status),
            digest=dossier.release_digest,
            published_at=dossier.published_at,
            bad_because=dossier.bad_because,
        ),
        approval=approval_facts(dossier, people),
        current=None if dossier.live is None else _live(dossier.live),
        predecessors=tuple(
            Predecessor(
                environment=earlier["environment"],
                completed=earlier["newest"] is not None,
                rolled_back=earlier["newest"] == DeploymentStatus.ROLLED_BACK,
                live_since=_time(earlier["live_since"]),
                lived=timedelta(seconds=float(earlier["lived"] or 0)),
            )
            for earlier in dossier.predecessors or ()
        ),
        occupant=None if occupant is None else _occupant(occupant),
        allow_downgrade=dossier.allow_downgrade,
        needs=tuple(
            Need(need["service"], need["minimum"], need["live"] or "", need["met"])
            for need in dossier.needs or ()
        ),
        not_before=dossier.not_before,
        start_by=dossier.start_by,
        line=line,
        windows=windows,
        subject=Subject(
            service=dossier.service_id,
            team=dossier.team_id,
            environment=dossier.environment_id,
            environment_type=EnvironmentType(dossier.environment_type),
            kind=DeploymentKind(dossier.kind),
        ),
        locks=tuple(_lock(row) for row in dossier.locks or ()),
        overridden=_overridden(dossier),
    )


def release_facts(release: ReleaseRow, bad_because: str | None) -> ReleaseFacts:
    """Return a release as an environment sees it where it is marked bad for this reason, or not."""
    return ReleaseFacts(
        id=release.id,
        version=release.version,
        status=ReleaseStatus(release.status),
        digest=release.artifact_digest,
        published_at=release.published_at,
        bad_because=bad_because,
        irreversible=release.irreversible,
        archived=release.archived,
    )


def history(rows: Iterable[HistoryRow], strict: frozenset[str] = frozenset()) -> list[Deployed]:
    """Return deployments of one pair; `strict` are the stages its policy calls so."""
    return [_deployed(row, strict) for row in rows]


def pipeline(rows: Iterable[StageRow]) -> list[Stage]:
    """Return the stages of a deployment."""
    return [Stage(row.name, StageStatus(row.status), row.attempt) for row in rows]


def _deployed(row: HistoryRow, strict: frozenset[str]) -> Deployed:
    kind = DeploymentKind(row.kind)
    omitted = [Stage(name, StageStatus.SKIPPED) for name in row.omitted]
    touched = row.touched_at
    return Deployed(
        id=row.id,
        release_id=row.release_id,
        version=row.version,
        kind=kind,
        status=DeploymentStatus(row.status),
        created_at=row.deployed_at,
        touched_seq=None if touched is None else (touched - _EPOCH) // _MICROSECOND,
        completed_seq=row.completed_seq,
        completed_at=row.completed_at,
        failure_class=None if row.failure_class is None else FailureClass(row.failure_class),
        rollback_of=row.rollback_of,
        strict_omitted=strict_omitted(omitted, kind, strict),
    )


def _approver(row: Mapping[str, Any], dossier: Dossier) -> Person:
    demoted_at = _time(row["demoted_at"])
    # What has left pending keeps the approvals of those who lost their role later.
    if demoted_at is not None and dossier.status == DeploymentStatus.PENDING:
        demoted_at = min(demoted_at, dossier.moment)
    return Person(
        id=UUID(row["approver_id"]),
        role=Role.from_stored(row["role"]),
        active=row["active"],
        kind=ActorKind(row["kind"]),
        username=row["username"],
        demoted_at=demoted_at,
    )


def _decision(row: Mapping[str, Any], latest: datetime) -> Decision:
    return Decision(
        approver_id=UUID(row["approver_id"]),
        role=Role.from_stored(row["approver_role"]),
        outcome=Outcome(row["status"]),
        decided_at=datetime.fromisoformat(row["decided_at"]),
        digest=row["digest"],
        policy_version=row["policy_version"],
        overrides_version=row["overrides_version"],
        revoked_at=min(datetime.fromisoformat(row["updated_at"]), latest),
    )


def _override(row: Mapping[str, Any], latest: datetime) -> Override:
    return Override(
        gate=OverridableGate(row["gate"]),
        given_at=min(datetime.fromisoformat(row["created_at"]), latest),
        authors=frozenset(UUID(author) for author in row["authors"]),
    )


def _overridden(dossier: Dossier) -> frozenset[Gate]:
    """Return the gates of the deployment that are overridden; what its request asked is not one."""
    given = {row["gate"] for row in dossier.overrides}
    return frozenset(gate for gate in Gate if gate in given)


def _lock(row: Mapping[str, Any]) -> Lock:
    return Lock(
        id=UUID(row["id"]),
        place=place(row["service"], row["environment"]),
        reason=row["reason"],
        locked_by=row["locked_by"],
        includes_rollbacks=row["includes_rollbacks"],
        ends_at=_time(row["ends_at"]),
    )


def _occupant(row: Mapping[str, Any]) -> Occupant:
    return Occupant(UUID(row["id"]), DeploymentStatus(row["status"]), DeploymentKind(row["kind"]))


def _live(row: Mapping[str, Any]) -> ReleaseFacts:
    return ReleaseFacts(
        id=UUID(row["id"]),
        version=row["version"],
        status=ReleaseStatus(row["status"]),
        digest=row["digest"],
        published_at=_time(row["published_at"]),
    )


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
