"""What happened to the sample deployments, told through the rules of the product.

Every status in the rows is the answer of the same rules that serve the RPCs; a story they would
refuse raises, so the sample data cannot break them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from seed.facts import Facts
from seed.rows import Row, Rows, named, stamped
from services.deployment.rules import approvals, deciding, gates, releases, rollback, stages
from services.deployment.rules.approvals import Outcome
from services.deployment.rules.lifecycle import (
    Action,
    DeploymentKind,
    DeploymentStatus,
    FailureCause,
    FailureClass,
    advance,
)
from services.deployment.rules.releases import ReleaseAction, ReleaseStatus
from services.deployment.rules.stages import Stage, StageStatus
from services.deployment.rules.targets import Place, Wish
from shared.identity.actor import Role
from shared.ids import new_id_at

_FAILED = {"failure_cause": FailureCause.STAGE_FAILED, "failure_class": FailureClass.FAILED}
_UNSET = dict.fromkeys(
    (
        *("started_at", "touched_at", "completed_at", "completed_seq", "decide_by"),
        *("failure_cause", "failure_class", "rollback_of", "rolled_back_by"),
    )
)


@dataclass(frozen=True, slots=True)
class Report:
    """The end of a stage: how, and how many minutes after it began."""

    stage: str
    minutes: int
    output: str
    status: StageStatus = StageStatus.COMPLETED


class Story:
    """Adds deployments and all that belongs to them to the rows of a catalog."""

    def __init__(self, rows: Rows) -> None:
        """Begin without deployments."""
        self.rows = rows
        self._facts = Facts(rows)
        for table in ("deployments", "approvals", "rollbacks", "release_marks", "pipeline_stages"):
            rows[table] = []

    def request(
        self, release: str, environment: str, by: str, at: datetime, *, kind: DeploymentKind
    ) -> Row:
        """Let somebody ask that a release goes to an environment; refused as the RPC would."""
        wanted, place = self.release(release), named(self.rows, "environments", name=environment)
        deployment = self._add(wanted, place, by, at, kind)
        policy = self._facts.policy(place)
        if policy.required_approvals and policy.decide_within is not None:
            deployment["decide_by"] = at + policy.decide_within
        facts = self._facts.gate_facts(deployment)
        gates.check_request(gates.evaluate(facts, at))
        approvals.check_satisfiable(facts.approval)
        if kind is DeploymentKind.PROMOTE:
            status = ReleaseStatus(wanted["status"])
            wanted["status"] = releases.advance(status, ReleaseAction.PROMOTE, release=release)
        return deployment

    def ask(self, deployment: Row, person: str, at: datetime) -> None:
        """Ask a person who has not decided yet."""
        self._approval(deployment, person, at, status=Outcome.PENDING)

    def approve(self, deployment: Row, person: str, at: datetime, comment: str) -> None:
        """Let a person approve, as the rules allow it at that moment."""
        facts = self._facts.approval_facts(deployment)
        who = facts.people[named(self.rows, "users", username=person)["id"]]
        decision = deciding.decide(facts, who, Outcome.APPROVED, comment=comment, now=at)
        if decision is None:
            message = f"{person} has approved this before"
            raise ValueError(message)
        self._approval(
            deployment,
            person,
            at,
            status=decision.outcome,
            comment=comment,
            decided_at=decision.decided_at,
            approver_role=decision.role.stored,
            artifact_digest=decision.digest,
            policy_version=decision.policy_version,
        )

    def run(self, deployment: Row, at: datetime, reports: Sequence[Report]) -> datetime:
        """Run the stages one after the other from `at` on; return when the last one ended."""
        facts = self._facts.gate_facts(deployment)
        gates.check_start(facts, gates.evaluate(facts, at))
        pipeline = [Stage(report.stage) for report in reports]
        for number, report in enumerate(reports):
            end = at + timedelta(minutes=report.minutes)
            for moment, status in ((at, StageStatus.IN_PROGRESS), (end, report.status)):
                now = DeploymentStatus(deployment["status"])
                decision = stages.report(pipeline, report.stage, status, deployment=now)
                pipeline[number] = decision.stage
                deployment["status"] = decision.deployment
                if decision.touches:
                    deployment["touched_at"] = moment
                if Action.START in decision.actions:
                    deployment["started_at"] = moment
                if Action.FAIL in decision.actions:
                    deployment.update(_FAILED, completed_at=moment)
                if Action.COMPLETE in decision.actions:
                    self._complete(deployment, moment)
            self._stage(deployment, number + 1, report, at, end)
            at = end
        deployment["updated_at"] = at
        return at

    def roll_back(self, deployment: Row, by: str, at: datetime, reason: str) -> Row:
        """Undo a deployment, to wherever the rules say; return the deployment that does it."""
        place = named(self.rows, "environments", id=deployment["environment_id"])
        service = named(self.rows, "services", id=deployment["service_id"])
        known = tuple(self._facts.history(deployment))
        plan = rollback.plan(
            Place(
                service["name"],
                place["name"],
                known,
                self._facts.releases(place),
                self._facts.policy(place),
            ),
            Wish(subject=deployment["id"], role=Role.DEVELOPER),
            at,
        )
        left = named(self.rows, "releases", id=deployment["release_id"])
        target = named(self.rows, "releases", id=plan.target.release_id)
        status = DeploymentStatus(deployment["status"])
        deployment.update(status=advance(status, Action.ROLL_BACK), updated_at=at)
        carrier = self._add(target, place, by, at, DeploymentKind.ROLLBACK, touched_at=at)
        carrier["rollback_of"] = plan.rollback_of
        carrier["status"] = advance(DeploymentStatus.PENDING, Action.START)
        carrier["started_at"] = at + timedelta(seconds=20)
        deployment["rolled_back_by"] = carrier["id"]
        if plan.release_rolled_back:
            name, before = left["version"], ReleaseStatus(left["status"])
            left["status"] = releases.advance(before, ReleaseAction.ROLL_BACK, release=name)
        if plan.marks_bad:
            self._mark_bad(deployment, by, at, reason)
        self._rollback(deployment, carrier, by, at, reason)
        return carrier

    def finish(self, deployment: Row, at: datetime) -> None:
        """Complete a deployment without stages, and the rollback that it carries out."""
        status = DeploymentStatus(deployment["status"])
        deployment["status"] = advance(status, Action.COMPLETE)
        deployment["updated_at"] = at
        self._complete(deployment, at)
        for row in self.rows["rollbacks"]:
            if row["rollback_deployment_id"] == deployment["id"]:
                row.update(status="completed", completed_at=at, updated_at=at)

    def release(self, name: str) -> Row:
        """Return the release `service@version`."""
        service, _, version = name.partition("@")
        service_id = named(self.rows, "services", name=service)["id"]
        return named(self.rows, "releases", service_id=service_id, version=version)

    def _add(  # noqa: PLR0913  (who, what, where and when)
        self,
        release: Row,
        place: Row,
        by: str,
        at: datetime,
        kind: DeploymentKind,
        *,
        touched_at: datetime | None = None,
    ) -> Row:
        requester = named(self.rows, "users", username=by)["id"]
        deployment = stamped(
            {
                "id": new_id_at(at),
                "release_id": release["id"],
                "service_id": release["service_id"],
                "environment_id": place["id"],
                "deployed_by": requester,
                "requesters": [requester],
                "kind": kind,
                "status": DeploymentStatus.PENDING,
                "artifact_digest": release["artifact_digest"],
                "allow_downgrade": False,
                "deployed_at": at,
                **_UNSET,
                "touched_at": touched_at,
                "status_reason": "",
                "row_version": 0,
            },
            at,
        )
        self.rows["deployments"].append(deployment)
        return deployment

    def _complete(self, deployment: Row, at: datetime) -> None:
        earlier = [entry.completed_seq or 0 for entry in self._facts.history(deployment)]
        deployment.update(completed_at=at, completed_seq=max(earlier, default=0) + 1)

    def _stage(
        self, deployment: Row, order: int, report: Report, start: datetime, end: datetime
    ) -> None:
        row = {
            "id": new_id_at(start),
            "deployment_id": deployment["id"],
            "name": report.stage,
            "stage_order": order,
            "status": report.status,
            "output": report.output,
            "started_at": start,
            "completed_at": end,
        }
        made = stamped(row, deployment["created_at"])
        self.rows["pipeline_stages"].append({**made, "updated_at": end})

    def _approval(self, deployment: Row, person: str, at: datetime, **values: Any) -> None:  # noqa: ANN401
        undecided = dict.fromkeys(
            ("decided_at", "approver_role", "artifact_digest", "policy_version")
        )
        row = {
            "id": new_id_at(at),
            "deployment_id": deployment["id"],
            "approver_id": named(self.rows, "users", username=person)["id"],
            "comment": "",
            **undecided,
            **values,
        }
        self.rows["approvals"].append(stamped(row, at))

    def _rollback(self, undone: Row, carrier: Row, by: str, at: datetime, reason: str) -> None:
        row = {
            "id": new_id_at(at),
            "deployment_id": undone["id"],
            "initiated_by": named(self.rows, "users", username=by)["id"],
            "from_release_id": undone["release_id"],
            "to_release_id": carrier["release_id"],
            "rollback_deployment_id": carrier["id"],
            "status": "in-progress",
            "reason": reason,
            "completed_at": None,
        }
        self.rows["rollbacks"].append(stamped(row, at))

    def _mark_bad(self, deployment: Row, by: str, at: datetime, reason: str) -> None:
        row = {
            "id": new_id_at(at),
            "release_id": deployment["release_id"],
            "environment_id": deployment["environment_id"],
            "reason": reason,
            "marked_by": named(self.rows, "users", username=by)["id"],
            "deployment_id": deployment["id"],
        }
        self.rows["release_marks"].append(stamped(row, at))
