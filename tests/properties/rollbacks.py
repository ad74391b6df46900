"""A history of the reference model, made to happen in the product by calls, step by step.

What the product cannot do at that moment (or not by a call) is left out of both. Nothing waits for
minutes to pass: the past is moved away instead.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

from google.protobuf.duration_pb2 import Duration
from release_manager.catalog.v1 import catalog_pb2
from release_manager.common.v1 import access_pb2
from release_manager.deployment.v1 import deployment_pb2 as pb

from shared.domain_error import DomainError
from tests.properties.court import Court
from tests.support.deployments import STAGES
from tests.support.platform import bearer
from tests.support.publishing import clear, mark, publish
from tests.support.restricting import wanted
from tests.support.rollback_model import Attempt, Pair
from tests.unit.deployment.histories import RELEASES, Event, Start, happen

PLACE: Final = "Dev"
CARRIER: Final = ("deploy", "smoke_test")
AGE: Final = """
    UPDATE deployments SET deployed_at = deployed_at - $2::interval,
        started_at = started_at - $2::interval, touched_at = touched_at - $2::interval,
        completed_at = completed_at - $2::interval
    WHERE service_id = $1
"""
AGE_OF_POLICIES: Final = """
    UPDATE environment_policies SET created_at = created_at - $2::interval
    WHERE environment_id = $1
"""
# A strict stage that was ignored while it was not strict.
IGNORED: Final = """
    UPDATE pipeline_stages SET status = 'ignored' WHERE name = 'security_scan'
        AND deployment_id = $1
"""
ENDS_OF_HOLDERS: Final = ("holder completes", "holder fails", "holder pauses")


class Told(NamedTuple):
    """What a request for a rollback is answered with, in words of product and model alike."""

    reason: str = ""
    target: str = ""
    marks_bad: bool = False
    supersedes: frozenset[int] = frozenset()
    stops: int = -1


@dataclass
class Twin:
    """One pair twice: as the model tells it, and as the product has it."""

    court: Court
    app: str
    start: Start
    pair: Pair
    ids: list[str] = field(default_factory=list)
    left_out: int = 0

    async def begin(self) -> None:
        """Add the releases and publish what the place asks for."""
        for release in RELEASES:
            irreversible = release in self.start.irreversible
            await self.court.world.release(f"{self.app}@{release}", irreversible=irreversible)
        await self.ask_for(pb.ON_FAILURE_FAIL)

    async def ask_for(self, on_failure: Any) -> None:
        """Publish the policy of the place, with what a failed stage does."""
        policy = pb.Policy(
            queue=pb.QUEUE_MODE_QUEUE,
            strict_stages=["security_scan", "smoke_test"],
            stable_after=Duration(seconds=60 * self.start.stable_after),
            explicit_target_role=access_pb2.ROLE_LEAD,
            author_may_approve=True,
            on_failure=on_failure,
        )
        await publish(self.court.world, PLACE, policy)

    async def step(self, event: Event) -> None:
        """Let an event happen to both."""
        await self.age(event.after)
        if not self._possible(event):
            self.left_out += 1
            return
        before = [(each.status, each.claimed) for each in self.pair.attempts]
        bad = set(self.pair.bad)
        abandoned = set(self.pair.abandoned)
        holder = self.pair.holder() or self.pair.open_rollback()
        happen(self.pair, event)
        made = self.pair.attempts[len(before) :]
        if made:
            await self._made(event, made[0])
        elif event.what == "waiting starts":
            for number, (status, _) in enumerate(before):
                if self.pair.attempts[number].status != status:
                    await self._run(self.pair.attempts[number], "in-progress", touches=True)
        elif holder is not None and before[holder.number][0] != holder.status:
            await self._run(holder, holder.status, touches=holder.touched > 0)
        await self._said(bad, abandoned)

    async def age(self, minutes: int) -> None:
        """Let so many minutes pass, for both."""
        self.pair.now += minutes
        world, span = self.court.world, timedelta(minutes=minutes)
        await self.court.owner.execute(AGE, world.services[self.app], span)
        await self.court.owner.execute(AGE_OF_POLICIES, world.environments[PLACE], span)

    def _possible(self, event: Event) -> bool:
        """Say whether calls can make it happen at this moment."""
        holder = self.pair.holder()
        if event.what == "claimed":
            return False
        if event.what in ENDS_OF_HOLDERS and holder is not None:
            return holder.status == "in-progress" and event.what != "holder pauses"
        if event.what == "waiting starts":
            first = self._first()
            newer = first is not None and any(
                each.status == "completed" and not each.is_rollback and each.number > first.number
                for each in self.pair.attempts
            )
            return first is not None and (first.is_rollback or not newer)
        return True

    def _first(self) -> Attempt | None:
        waiting = [each for each in self.pair.attempts if each.status == "pending"]
        return self.pair.open_rollback() or (waiting[0] if waiting else None)

    async def _made(self, event: Event, attempt: Attempt) -> None:
        """Request what the model has made, and bring it to where the model has it."""
        if attempt.is_rollback:
            subject = next(e for e in self.pair.attempts if e.rolled_back_by == attempt.number)
            request = pb.ExecuteRollbackRequest(
                deployment=self.ids[subject.number], reason="it broke", preempt=True
            )
            if event.release:
                request.target_release = f"{self.app}@{event.release}"
            answer = await self.court.world.call("lead1", "ExecuteRollback", request)
            self.ids.append(answer.deployment.id)
            assert answer.deployment.release == f"{self.app}@{attempt.release}"
            await self._run(attempt, attempt.status, touches=attempt.status != "pending")
            return
        kind: Any = pb.PromoteReleaseRequest
        method = "PromoteRelease"
        if event.what in ("errs", "is cancelled"):
            kind, method = pb.CreateDeploymentRequest, "CreateDeployment"
        request = kind(
            release=f"{self.app}@{event.release}",
            environment=PLACE,
            allow_downgrade=True,
            overrides=wanted("queue"),
        )
        answer = await self.court.world.call("lead1", method, request)
        self.ids.append(answer.deployment.id)
        await self._run(attempt, attempt.status, touches=attempt.touched > 0)
        if attempt.strict_missed:
            await self.court.owner.execute(IGNORED, UUID(self.ids[attempt.number]))

    async def _run(self, attempt: Attempt, status: str, *, touches: bool) -> None:
        """Bring a deployment to a status, as far as the stage `deploy` if it touches."""
        world, deployment = self.court.world, self.ids[attempt.number]
        if status == "pending":
            return
        found = await world.get(deployment)
        if not found.stages:
            await world.start(deployment)
            if status == "failed":
                await world.finish(deployment, "errored")
                return
        elif status == "cancelled" and found.status == pb.DEPLOYMENT_STATUS_PENDING and not touches:
            await world.stage(deployment, "build", "in_progress")
        elif status != "cancelled":
            await self._stages(attempt, found, status, touches=touches)
            return
        request = pb.CancelDeploymentRequest(deployment=deployment, reason="no more")
        await world.call("lead1", "CancelDeployment", request)

    async def _stages(
        self, attempt: Attempt, found: pb.Deployment, status: str, *, touches: bool
    ) -> None:
        world, deployment = self.court.world, found.id
        names = CARRIER if attempt.is_rollback else STAGES
        states = {stage.name: stage.status for stage in found.stages}
        todo = [name for name in names if states[name] != pb.STAGE_STATUS_COMPLETED]
        if status == "completed":
            await world.run_stages(deployment, *todo)
            return
        stop = "deploy" if touches else ("test" if status == "failed" else "build")
        stop = stop if stop in todo else todo[0]
        if status == "paused":  # which is for the policy to say under which it starts
            await self.ask_for(pb.ON_FAILURE_PAUSE)
        for name in todo[: todo.index(stop)]:
            await world.stage(deployment, name, "completed")
        if status == "in-progress":
            await world.stage(deployment, stop, "in_progress")
            return
        await world.stage(deployment, stop, "failed")
        if status == "paused":
            await self.ask_for(pb.ON_FAILURE_FAIL)
        if attempt.failure == "errored":  # no executor can say that of a stage
            await self.court.owner.execute(
                "UPDATE deployments SET failure_class = 'errored' WHERE id = $1", UUID(deployment)
            )

    async def _said(self, bad: set[str], abandoned: set[str]) -> None:
        """Mark, clear and abandon what the model says was; rollbacks have marked by themselves."""
        world = self.court.world
        marked = await self.marked()
        for release in self.pair.bad - bad - marked:
            await mark(world, f"{self.app}@{release}", PLACE)
        for release in marked - self.pair.bad:
            await clear(world, f"{self.app}@{release}", PLACE)
        for release in self.pair.abandoned - abandoned:
            request = catalog_pb2.AbandonReleaseRequest(
                release=f"{self.app}@{release}", reason="not worth it"
            )
            token = bearer(world.tokens["lead1"])
            await self.court.platform.catalog.AbandonRelease(request, metadata=token, timeout=20)

    async def marked(self) -> set[str]:
        """Return the versions that the product has as bad here."""
        rows = await self.court.owner.fetch(
            "SELECT r.version FROM release_marks m JOIN releases r ON r.id = m.release_id"
            " WHERE r.service_id = $1 AND m.cleared_at IS NULL",
            self.court.world.services[self.app],
        )
        return {row["version"] for row in rows}

    async def statuses(self) -> tuple[list[str], list[str]]:
        """Return the statuses of all attempts in the product, and in the model."""
        rows = await self.court.owner.fetch(
            "SELECT id::text, status FROM deployments WHERE service_id = $1",
            self.court.world.services[self.app],
        )
        stored: Mapping[str, str] = {row["id"]: row["status"] for row in rows}
        assert stored.keys() == set(self.ids)
        return [stored[one] for one in self.ids], [each.status for each in self.pair.attempts]

    def by_model(self, number: int, named: str, *, preempt: bool, lead: bool) -> Told:
        """Return what the model answers to a request."""
        subject = self.pair.attempts[number]
        answer = self.pair.rollback(subject, named, preempt=preempt, may_name=lead)
        if answer.reason:
            return Told(answer.reason)
        target = self.pair.attempts[answer.target].release
        stops = answer.stops
        return Told("", target, answer.marks_bad, frozenset(answer.supersedes), stops)

    async def by_product(self, number: int, named: str, *, preempt: bool, lead: bool) -> Told:
        """Return what the product answers to the same."""
        request = pb.PlanRollbackRequest(deployment=self.ids[number], preempt=preempt)
        if named:
            request.target_release = f"{self.app}@{named}"
        who = "lead1" if lead else "dev1"
        try:
            plan = await self.court.world.call(who, "PlanRollback", request)
        except DomainError as error:
            return Told(error.reason)
        return Told(
            "",
            plan.target_release.partition("@")[2] or plan.target_release,
            plan.marks_bad,
            frozenset(self.ids.index(one) for one in plan.supersedes),
            self.ids.index(plan.preempts_id) if plan.preempts_id else -1,
        )
