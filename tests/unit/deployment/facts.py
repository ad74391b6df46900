"""Facts for the tests of the rules: short ways to write histories, people and policies down."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from services.deployment.rules.approvals import ApprovalFacts, Decision, Outcome, Person
from services.deployment.rules.history import Deployed
from services.deployment.rules.lifecycle import DeploymentKind, DeploymentStatus, FailureClass
from services.deployment.rules.policy import EnvironmentType, Policy, default_policy
from services.deployment.rules.promotion import ReleaseFacts
from services.deployment.rules.releases import ReleaseStatus
from services.deployment.rules.rollback import Plan, plan
from services.deployment.rules.targets import Place, Wish
from shared.identity.actor import Role

START = datetime(2030, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
DIGEST = "sha256:0f"


def uid(number: int) -> UUID:
    """Return the UUID that stands for a small number."""
    return UUID(int=number)


def person(number: int, role: Role, **changes: object) -> Person:
    """Return an active person."""
    return replace(Person(uid(number), role, username=f"user{number}"), **changes)  # type: ignore[arg-type]


def approval(approver: Person, hours: float = 0, **changes: object) -> Decision:
    """Return an approval given some hours after START by someone in their present role."""
    given = Decision(
        approver.id, approver.role, Outcome.APPROVED, START + hours * HOUR, DIGEST, policy_version=0
    )
    return replace(given, **changes)  # type: ignore[arg-type]


def asked(
    environment_type: EnvironmentType,
    people: Sequence[Person],
    decisions: Sequence[Decision] = (),
    *,
    requester: Sequence[Person] = (),
    authors: Sequence[Person] = (),
    policy: Policy | None = None,
) -> ApprovalFacts:
    """Return the approval of a deployment requested at START."""
    return ApprovalFacts(
        deployment="d1",
        environment=environment_type,
        policy=policy or default_policy(environment_type),
        digest=DIGEST,
        requested_at=START,
        requester=frozenset(one.id for one in requester),
        authors=frozenset(one.id for one in authors),
        people={one.id: one for one in people},
        decisions=tuple(decisions),
    )


class Pair:
    """A service in an environment to which things happen, one hour apart.

    It applies plans the way an operation does, and knows nothing of how they are chosen.
    """

    def __init__(self, policy: Policy | None = None) -> None:
        """Begin with nothing deployed."""
        self.policy = policy or default_policy(EnvironmentType.PROD)
        self.deployments: dict[UUID, Deployed] = {}
        self.releases: dict[UUID, ReleaseFacts] = {}
        self.now = START
        self._seq = 0

    def release(self, version: str) -> ReleaseFacts:
        """Return the release with this version, made and published on first use."""
        release_id = uid(1000 + int(version.removeprefix("v")))
        made = ReleaseFacts(release_id, version, ReleaseStatus.PROMOTED, version, START)
        return self.releases.setdefault(release_id, made)

    def change_release(self, version: str, **changes: object) -> None:
        """Mark a release bad, abandoned and so on."""
        known = self.release(version)
        self.releases[known.id] = replace(known, **changes)  # type: ignore[arg-type]

    def add(
        self,
        version: str,
        status: DeploymentStatus = DeploymentStatus.COMPLETED,
        *,
        kind: DeploymentKind = DeploymentKind.DEPLOY,
        touched: bool = True,
        failure_class: FailureClass | None = None,
        **more: object,
    ) -> Deployed:
        """Put a deployment of a release into the history, as the newest."""
        self.now += HOUR
        completed = status is DeploymentStatus.COMPLETED
        entry = Deployed(
            id=uid(len(self.deployments) + 1),
            release_id=self.release(version).id,
            version=version,
            kind=kind,
            status=status,
            created_at=self.now,
            touched_seq=self._next() if touched else None,
            completed_seq=self._next() if completed else None,
            completed_at=self.now if completed else None,
            failure_class=failure_class,
        )
        entry = entry._replace(**more)  # type: ignore[arg-type]
        self.deployments[entry.id] = entry
        return entry

    def fail(self, version: str, *, touched: bool, errored: bool = False) -> Deployed:
        """Add an attempt that failed before or after it reached the environment."""
        verdict = FailureClass.ERRORED if errored else FailureClass.FAILED
        return self.add(version, DeploymentStatus.FAILED, touched=touched, failure_class=verdict)

    def plan(self, subject: Deployed | None = None, **wish: object) -> Plan:
        """Plan the rollback of a deployment, without effect."""
        undone = (subject or self.latest()).id
        asked_for = replace(Wish(undone, Role.LEAD), **wish)  # type: ignore[arg-type]
        return plan(self.place(), asked_for, self.now + HOUR)

    def place(self) -> Place:
        """Return the facts as the rules take them."""
        history = tuple(self.deployments.values())
        return Place("auth", "prod", history, self.releases, self.policy)

    def latest(self) -> Deployed:
        """Return what touched the environment last, or the newest attempt if nothing did."""
        return max(
            self.deployments.values(), key=lambda entry: (entry.touched_seq or 0, entry.created_at)
        )

    def roll_back(
        self, status: DeploymentStatus = DeploymentStatus.COMPLETED, **wish: object
    ) -> Plan:
        """Roll back the latest deployment; the rollback ends as `status`."""
        made = self.plan(self.latest(), **wish)
        undone = made.subject
        self.deployments[undone.id] = undone._replace(status=DeploymentStatus.ROLLED_BACK)
        if made.marks_bad:
            self.change_release(undone.version, bad_because="rolled back")
        for waiting in made.supersedes:
            ended = self.deployments[waiting]._replace(status=DeploymentStatus.SUPERSEDED)
            self.deployments[waiting] = ended
        self.add(
            made.target.version,
            status,
            kind=DeploymentKind.ROLLBACK,
            rollback_of=made.rollback_of,
        )
        return made

    def _next(self) -> int:
        self._seq += 1
        return self._seq
