"""From rows of the sample data to the facts that the rules of deployments are asked about."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from uuid import UUID

from seed.rows import Row, Rows, named
from services.deployment.rules import history
from services.deployment.rules.approvals import ApprovalFacts, Decision, Person
from services.deployment.rules.gates import GateFacts, Occupant
from services.deployment.rules.history import Deployed
from services.deployment.rules.lifecycle import DeploymentStatus
from services.deployment.rules.policy import EnvironmentType, Policy, default_policy
from services.deployment.rules.promotion import Predecessor, ReleaseFacts
from services.deployment.rules.releases import ReleaseStatus
from shared.identity.actor import Role

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Facts:
    """Reads the rows as they stand at the moment of the question."""

    def __init__(self, rows: Rows) -> None:
        """Read `rows`, which go on growing."""
        self._rows = rows

    def history(self, deployment: Row) -> list[Deployed]:
        """Return every deployment of the same service in the same environment."""
        return self._of_pair(deployment["service_id"], deployment["environment_id"])

    def _of_pair(self, service_id: UUID, environment_id: UUID) -> list[Deployed]:
        return [
            self._deployed(row)
            for row in self._rows["deployments"]
            if (row["service_id"], row["environment_id"]) == (service_id, environment_id)
        ]

    def _deployed(self, row: Row) -> Deployed:
        touched: datetime | None = row["touched_at"]
        microsecond = timedelta(microseconds=1)
        return Deployed(
            id=row["id"],
            release_id=row["release_id"],
            version=named(self._rows, "releases", id=row["release_id"])["version"],
            kind=row["kind"],
            status=row["status"],
            created_at=row["deployed_at"],
            touched_seq=None if touched is None else (touched - _EPOCH) // microsecond,
            completed_seq=row["completed_seq"],
            completed_at=row["completed_at"],
            failure_class=row["failure_class"],
            rollback_of=row["rollback_of"],
        )

    def policy(self, place: Row) -> Policy:
        """Return the policy of an environment."""
        default = default_policy(EnvironmentType(place["environment_type"]))
        for row in self._rows["environment_policies"]:
            if row["environment_id"] == place["id"]:
                soak = timedelta(seconds=row["policy"]["soak_seconds"])
                version, since = row["policy_version"], row["created_at"]
                return replace(default, version=version, since=since, soak=soak)
        return default

    def releases(self, place: Row) -> Mapping[UUID, ReleaseFacts]:
        """Return every release as an environment sees it."""
        bad = {
            mark["release_id"]: mark["reason"]
            for mark in self._rows["release_marks"]
            if mark["environment_id"] == place["id"]
        }
        return {
            row["id"]: ReleaseFacts(
                id=row["id"],
                version=row["version"],
                status=ReleaseStatus(row["status"]),
                digest=row["artifact_digest"],
                published_at=row["published_at"],
                bad_because=bad.get(row["id"]),
            )
            for row in self._rows["releases"]
        }

    def approval_facts(self, deployment: Row) -> ApprovalFacts:
        """Return what decides about the approval of a deployment."""
        place = named(self._rows, "environments", id=deployment["environment_id"])
        release = named(self._rows, "releases", id=deployment["release_id"])
        return ApprovalFacts(
            deployment=str(deployment["id"]),
            environment=place["name"],
            policy=self.policy(place),
            digest=release["artifact_digest"],
            requested_at=deployment["deployed_at"],
            requester=frozenset(deployment["requesters"]),
            authors=frozenset(release["authors"]),
            people={
                row["id"]: Person(
                    row["id"], Role.from_stored(row["role"]), username=row["username"]
                )
                for row in self._rows["users"]
            },
            decisions=tuple(
                Decision(
                    approver_id=row["approver_id"],
                    role=Role.from_stored(row["approver_role"]),
                    outcome=row["status"],
                    decided_at=row["decided_at"],
                    digest=row["artifact_digest"],
                    policy_version=row["policy_version"],
                )
                for row in self._rows["approvals"]
                if row["deployment_id"] == deployment["id"] and row["decided_at"] is not None
            ),
        )

    def gate_facts(self, deployment: Row) -> GateFacts:
        """Return what the gates of a deployment are asked about."""
        place = named(self._rows, "environments", id=deployment["environment_id"])
        known = [entry for entry in self.history(deployment) if entry.id != deployment["id"]]
        runs, holder = history.live(known), history.slot_holder(known)
        facts = self.releases(place)
        return GateFacts(
            service=named(self._rows, "services", id=deployment["service_id"])["name"],
            environment=place["name"],
            kind=deployment["kind"],
            release=facts[deployment["release_id"]],
            approval=self.approval_facts(deployment),
            current=None if runs is None else facts[runs.release_id],
            predecessors=tuple(self._predecessors(deployment, place)),
            occupant=None if holder is None else Occupant(holder.id, holder.status),
        )

    def _predecessors(self, deployment: Row, place: Row) -> list[Predecessor]:
        return [
            self._predecessor(deployment, earlier)
            for earlier in self._rows["environments"]
            if earlier["promotion_order"] < place["promotion_order"]
        ]

    def _predecessor(self, deployment: Row, earlier: Row) -> Predecessor:
        done = history.completions(self._of_pair(deployment["service_id"], earlier["id"]))
        releases = self.releases(earlier)
        same = [e for e in done if releases[e.release_id].digest == deployment["artifact_digest"]]
        lives = list(
            takewhile(lambda e: e in same and e.status is DeploymentStatus.COMPLETED, done)
        )
        return Predecessor(
            earlier["name"],
            completed=bool(same),
            rolled_back=bool(same) and same[0].status is DeploymentStatus.ROLLED_BACK,
            live_since=lives[-1].completed_at if lives else None,
        )
