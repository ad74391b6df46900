"""Clients who walk among a few hot deployments of a machine whose services are killed."""

import asyncio
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

import grpc
from release_manager.deployment.v1 import deployment_pb2 as pb

from tests.faults.races.linear import Op
from tests.support.deployments import STAGES

Metadata = tuple[tuple[str, str], ...]
ATTEMPT_S: Final = 5.0
RECOVERED_WITHIN_S: Final = 60.0
# What a caller meets while something is down or busy, and asks again.
PASSING: Final = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    }
)
REFUSALS: Final = frozenset(
    {
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.PERMISSION_DENIED,
    }
)


REPORTS: Final = (
    pb.STAGE_STATUS_IN_PROGRESS,
    *(pb.STAGE_STATUS_COMPLETED,) * 3,
    pb.STAGE_STATUS_FAILED,
)


@dataclass
class Walk:
    """What all clients know: the pairs, the newest deployment of each, and what was answered."""

    stub: Any
    people: Sequence[Metadata]
    apps: Sequence[str]
    releases: int
    chance: Random
    ending: asyncio.Event = field(default_factory=asyncio.Event)
    newest: dict[str, str] = field(default_factory=dict)
    ops: dict[str, list[Op]] = field(default_factory=lambda: defaultdict(list))
    claimed: set[str] = field(default_factory=set)
    done: Counter[str] = field(default_factory=Counter)
    longest_outage: float = 0.0

    async def client(self) -> None:
        """Do one thing after the other to any of the pairs until it ends."""
        while not self.ending.is_set():
            app = self.chance.choice(self.apps)
            deployment = self.newest.get(app)
            acts = (self._request, self._look, self._stage, self._stage, self._stage, self._other)
            if deployment is None:
                await self._request(app, "")
            else:
                await self.chance.choice(acts)(app, deployment)

    async def _request(self, app: str, _: str) -> None:
        release = f"{app}@{self.chance.randrange(self.releases)}"
        request = pb.PromoteReleaseRequest(release=release, environment="dev", allow_downgrade=True)
        if answer := await self.ask("PromoteRelease", request):
            self.newest[app] = answer.deployment.id

    async def _look(self, _: str, deployment: str) -> None:
        await self.ask("GetDeployment", pb.GetDeploymentRequest(deployment=deployment))

    async def _stage(self, _: str, deployment: str) -> None:
        request = pb.UpdatePipelineStageRequest(
            deployment=deployment,
            stage=self.chance.choice(STAGES),
            status=self.chance.choice(REPORTS),
        )
        await self.ask("UpdatePipelineStage", request)

    async def _other(self, app: str, deployment: str) -> None:
        turn = self.chance.randrange(4)
        if turn == 0:
            cancel = pb.CancelDeploymentRequest(deployment=deployment, reason="no more")
            await self.ask("CancelDeployment", cancel)
        elif turn == 1:
            undo = pb.ExecuteRollbackRequest(
                deployment=deployment, reason="it broke", preempt=self.chance.random() < 0.5
            )
            if answer := await self.ask("ExecuteRollback", undo):
                self.newest[app] = answer.deployment.id
        else:
            figure = pb.NewDeploymentMetric(name="walks", value=1.0)
            record = pb.RecordDeploymentMetricsRequest(deployment=deployment, metrics=[figure])
            await self.ask("RecordDeploymentMetrics", record)

    async def ask(self, method: str, request: Any) -> Any:
        """Call until an answer comes, with one request id; return it, or None for a refusal."""
        reads = method.startswith("Get")
        if not reads:
            request.request_id = str(uuid.uuid4())
        who, sent = self.chance.choice(self.people), time.monotonic()
        while True:
            try:
                call = getattr(self.stub, method)(request, metadata=who, timeout=ATTEMPT_S)
                answer = await call
            except grpc.aio.AioRpcError as failure:
                self.done[failure.code().name] += 1
                if failure.code() in REFUSALS and "CONCURRENT_CHANGE" not in str(failure):
                    return None
                if failure.code() not in PASSING | {grpc.StatusCode.ABORTED}:
                    raise
                if time.monotonic() - sent > RECOVERED_WITHIN_S:
                    raise
                await asyncio.sleep(0.05)
                continue
            now = time.monotonic()
            self.longest_outage = max(self.longest_outage, now - sent)
            self.done[method] += 1
            self._note(sent, now, answer, reads=reads)
            return answer

    def _note(self, sent: float, answered: float, answer: Any, *, reads: bool) -> None:
        events = set() if reads else set(answer.audit.event_ids)
        self.claimed |= events
        seen = getattr(answer, "deployment", None)
        if seen is None:
            return
        state = pb.DeploymentStatus.Name(seen.status)
        op = Op(sent, answered, int(seen.etag), state, writes=bool(events))
        self.ops[seen.id].append(op)
