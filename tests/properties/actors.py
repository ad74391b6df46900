"""What people do to a few deployments at once, each call under its own request id."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from release_manager.deployment.v1 import deployment_pb2 as pb
from release_manager.deployment.v1 import restrictions_pb2 as rpb

from shared.domain_error import DomainError
from shared.ids import new_id
from tests.properties.claims import Claim
from tests.properties.court import Court
from tests.properties.executors import (
    CALLERS,
    EXECUTING,
    LEADS,
    Act,
    Leases,
    fail,
    lease_of,
    lost,
    stop_confirmed,
)
from tests.support.freezing import ALLOW, DENY, new_window, once
from tests.support.restricting import gate

PLACES: Final = ("Dev", "Staging", "Prod")
RELEASES: Final = 5
LIVED: Final = 3
DAY: Final = Duration(seconds=86_400)
FREE: Final = pb.Policy()
ONE: Final = pb.Policy(required_approvals=1, decide_within=DAY, valid_for=DAY)
# What an environment asks for at first; in Prod nothing has to have lived anywhere.
POLICIES: Final[Mapping[str, pb.Policy]] = {
    "Dev": pb.Policy(on_failure=pb.ON_FAILURE_PAUSE),
    "Staging": pb.Policy(required_approvals=1, author_may_approve=True, decide_within=DAY),
    "Prod": pb.Policy(
        required_approvals=2,
        lead_required=True,
        decide_within=DAY,
        valid_for=DAY,
        queue=pb.QUEUE_MODE_QUEUE,
        strict_stages=["smoke_test"],
    ),
}
OTHERS: Final[Sequence[pb.Policy]] = (
    POLICIES["Prod"],
    ONE,
    pb.Policy(required_approvals=1, lead_required=True, decide_within=DAY),
    pb.Policy(required_approvals=3, decide_within=DAY, queue=pb.QUEUE_MODE_QUEUE),
    pb.Policy(required_approvals=1, queue=pb.QUEUE_MODE_REJECT, decide_within=DAY),
    pb.Policy(required_approvals=1, decide_within=DAY, on_failure=pb.ON_FAILURE_PAUSE),
    pb.Policy(required_approvals=2, lead_required=True, decide_within=DAY,
              soak=Duration(seconds=7 * 86_400)),
)  # fmt: skip
RUNNING: Final = ("in-progress", "paused", "cancelling")
ENDS: Final = ("completed", "completed", "completed", "failed", "errored")


@dataclass
class Actors:
    """People, two services of their own, and everything that was asked for and answered."""

    court: Court
    apps: Sequence[str]
    claims: list[Claim] = field(default_factory=list)
    releases: list[str] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    rows: Sequence[Mapping[str, Any]] = ()
    locks: list[str] = field(default_factory=list)
    windows: list[str] = field(default_factory=list)
    demoted: set[str] = field(default_factory=set)
    leases: Leases = field(default_factory=dict)

    @property
    def services(self) -> list[UUID]:
        """The ids of the services."""
        return [self.court.world.services[app] for app in self.apps]

    async def begin(self) -> None:
        """Put people and policies back, and release things; the oldest have lived before Prod."""
        await self.court.tidy(POLICIES)
        for app in self.apps:
            made = await self.court.released(app, RELEASES)
            await self.court.lived(made[0], *PLACES)
            for name in made[1:LIVED]:
                await self.court.lived(name, "Dev", "Staging")
            self.releases += made

    async def all_at_once(self, acts: Sequence[Act]) -> None:
        """Let everybody act at the same time on what is there now."""
        rows = await self.court.owner.fetch(
            "SELECT d.id::text, d.status, d.kind, e.name AS place, d.touched_at, EXISTS (SELECT"
            " FROM pipeline_stages s WHERE s.deployment_id = d.id) AS staged FROM deployments d"
            " JOIN environments e ON e.id = d.environment_id WHERE d.service_id = ANY ($1)"
            " AND d.row_version > 0 ORDER BY d.deployed_at",
            self.services,
        )
        self.rows = [dict(row) for row in rows]
        await asyncio.gather(*(self.act(act) for act in acts))

    async def act(self, act: Act) -> None:
        """Do one thing, if there is something to do it to."""
        if act.what in EXECUTING:
            await EXECUTING[act.what](self, act)
            return
        method: Callable[[Act], Awaitable[None]] = getattr(self, f"_{act.what}")
        await method(act)

    def some(self, number: int, *statuses: str, place: str = "") -> Mapping[str, Any] | None:
        """Return a deployment in one of these statuses, the newest first."""
        fitting = [
            row
            for row in reversed(self.rows)
            if row["status"] in statuses and place in ("", row["place"])
        ]
        return fitting[number % min(len(fitting), 4)] if fitting else None

    async def say(self, who: str, method: str, request: Any, copies: int = 1) -> list[Any]:
        """Send a request so many times at once; return what came back."""
        request.request_id = str(new_id())
        claim = Claim(who, method, request)
        self.claims.append(claim)
        results = await self.repeat(claim, copies)
        lost(self.leases, request, results)
        return results

    async def repeat(self, claim: Claim, copies: int) -> list[Any]:
        """Send a request again, as it was."""
        results = await asyncio.gather(
            *(self._asked(claim.who, claim.method, claim.request) for _ in range(copies))
        )
        claim.results += results
        for result in results:
            told = result.reason if isinstance(result, DomainError) else "done"
            self.done[f"{claim.method} {told}"] += 1
        return results

    async def _asked(self, who: str, method: str, request: Message) -> Any:
        try:
            return await self.court.world.call(who, method, request)
        except DomainError as error:
            return error

    async def _request(self, act: Act) -> None:
        place = PLACES[act.two % 3]
        late = act.three % 16
        wanted: dict[str, Any] = {
            "release": self.releases[act.one % len(self.releases)],
            "environment": place,
            "allow_downgrade": True,
        }
        if late == 0:
            wanted["start_by"] = await self._ahead(seconds=3)
        if late == 1:
            wanted["not_before"] = await self._ahead(seconds=1)
        if late in (2, 3):
            gates = ("freeze", "lock", "promotion_order", "soak")
            override = pb.NewOverride(gate=gate(gates[act.one % 4]), reason="it burns")
            wanted["overrides"] = [override]
        kind: Any = pb.PromoteReleaseRequest if act.three % 2 else pb.CreateDeploymentRequest
        method = "PromoteRelease" if act.three % 2 else "CreateDeployment"
        await self.say(CALLERS[act.who % 6], method, kind(**wanted), act.copies)

    async def _ahead(self, **span: int) -> Any:
        now = await self.court.owner.fetchval("SELECT clock_timestamp()")
        return now + timedelta(**span)

    async def _approve(self, act: Act) -> None:
        if found := self.some(act.one, "pending", place="Prod" if act.two % 2 else ""):
            request = pb.ApproveDeploymentRequest(deployment=found["id"])
            await self.say(CALLERS[act.who % 6], "ApproveDeployment", request, act.copies)

    async def _reject(self, act: Act) -> None:
        if found := self.some(act.one, "pending"):
            request = pb.RejectDeploymentRequest(deployment=found["id"], comment="not today")
            await self.say(CALLERS[act.who % 6], "RejectDeployment", request, act.copies)

    async def _cancel(self, act: Act) -> None:
        await self._cancelled(self.some(act.one, "pending", *RUNNING), act)

    async def _stop(self, act: Act) -> None:
        await self._cancelled(self.some(act.one, *RUNNING), act)

    async def _cancelled(self, found: Mapping[str, Any] | None, act: Act) -> None:
        if found is not None:
            request = pb.CancelDeploymentRequest(deployment=found["id"], reason="no more")
            await self.say(LEADS[act.who % 3], "CancelDeployment", request, act.copies)

    async def _start(self, act: Act) -> None:
        found = self.some(act.one, "pending", place="Prod" if act.two % 2 else "")
        if found:
            await self._driven(found, CALLERS[act.who % 6], act)

    async def _finish(self, act: Act) -> None:
        if found := self.some(act.one, "in-progress", "paused"):
            await self._driven(found, CALLERS[act.who % 6], act)

    async def advance(self, deployment_id: str) -> None:
        """Do what comes next for a deployment that could go on, until it has ended well."""
        row = await self.court.owner.fetchrow(
            "SELECT d.id::text, d.status, EXISTS (SELECT FROM pipeline_stages s"
            " WHERE s.deployment_id = d.id) AS staged FROM deployments d WHERE d.id = $1",
            UUID(deployment_id),
        )
        found, act = dict(row or {}), Act("advance")
        if found["status"] == "cancelling":
            await stop_confirmed(self, deployment_id)
        elif found["status"] == "paused":
            await fail(self, deployment_id, "lead1")
        else:
            await self._driven(found, "lead1", act)

    async def _driven(self, row: Mapping[str, Any], who: str, act: Act) -> None:
        """Do what comes next for a deployment: a stage, a start or an end."""
        end = ENDS[act.three % len(ENDS)]
        # Whoever has no lease of what is claimed is refused; mostly it is the executor who drives.
        who, token = lease_of(self.leases if act.three % 4 != 1 else {}, row["id"], who)
        if row["staged"]:
            await self._staged(row["id"], (who, token), end, act.copies)
        elif row["status"] == "pending":
            request: Any = pb.StartDeploymentRequest(deployment=row["id"], lease_token=token)
            await self.say(who, "StartDeployment", request, act.copies)
        else:
            outcome = pb.DeploymentOutcome.Value(f"DEPLOYMENT_OUTCOME_{end.upper()}")
            request = pb.FinishDeploymentRequest(
                deployment=row["id"], outcome=outcome, lease_token=token
            )
            await self.say(who, "FinishDeployment", request, act.copies)

    async def _staged(
        self, deployment_id: str, lease: tuple[str, str], end: str, copies: int
    ) -> None:
        who, token = lease
        found = await self.court.world.get(deployment_id)
        todo = [one for one in found.stages if one.status in (1, 2)]
        status = "failed" if end == "errored" else end
        for stage in todo if end == "completed" else todo[:1]:
            value = pb.StageStatus.Value(f"STAGE_STATUS_{status.upper()}")
            request = pb.UpdatePipelineStageRequest(
                deployment=deployment_id, stage=stage.name, status=value, lease_token=token
            )
            results = await self.say(who, "UpdatePipelineStage", request, copies)
            if all(isinstance(result, DomainError) for result in results):
                return

    async def _roll_back(self, act: Act) -> None:
        here = [row for row in self.rows if row["place"] == PLACES[act.three % 3]]
        touched = [row for row in here or self.rows if row["touched_at"] is not None]
        if touched:
            latest = sorted(touched, key=lambda row: row["touched_at"], reverse=True)
            chosen = latest[act.one % min(len(latest), 3)]["id"]
            request = pb.ExecuteRollbackRequest(
                deployment=chosen, reason="it broke", preempt=act.two % 2 == 0
            )
            await self.say(CALLERS[act.who % 6], "ExecuteRollback", request, act.copies)

    async def _lock(self, act: Act) -> None:
        wanted: dict[str, Any] = {
            "service": self.apps[act.one % 2],
            "environment": PLACES[act.two % 3],
        }
        if act.three % 3:
            del wanted["service" if act.three % 3 == 1 else "environment"]
        request = rpb.CreateLockRequest(
            **wanted, reason="an incident", includes_rollbacks=act.three % 4 == 0
        )
        for made in await self.say(LEADS[act.who % 3], "CreateLock", request, act.copies):
            if not isinstance(made, DomainError):
                self.locks.append(made.lock.id)

    async def _unlock(self, act: Act) -> None:
        held, self.locks = set(self.locks), []
        for lock_id in sorted(held):
            request = rpb.ReleaseLockRequest(lock=lock_id, reason="it is over")
            results = await self.say(LEADS[act.who % 3], "ReleaseLock", request, act.copies)
            # Who is no lead at the moment leaves it to another; else it would lock all that follow.
            if all(isinstance(result, DomainError) for result in results):
                self.locks.append(lock_id)

    async def _freeze(self, act: Act) -> None:
        closed = act.two % 3 == 0
        request = new_window(
            services=[self.apps[act.one % 2]],
            kind=ALLOW if closed else DENY,
            once=once(1, 2) if closed else once(),
            includes_rollbacks=act.three % 3 == 0,
        )
        for made in await self.say("admin", "CreateFreezeWindow", request, act.copies):
            if not isinstance(made, DomainError):
                self.windows.append(made.window.id)

    async def _thaw(self, act: Act) -> None:
        open_ones, self.windows = set(self.windows), []
        for window_id in sorted(open_ones):
            request = rpb.ArchiveFreezeWindowRequest(window=window_id)
            await self.say("admin", "ArchiveFreezeWindow", request, act.copies)

    async def _override(self, act: Act) -> None:
        if found := self.some(act.one, "pending"):
            name = ("lock", "freeze", "promotion_order", "soak", "queue")[act.two % 5]
            request = rpb.OverrideGateRequest(
                deployment=found["id"], gate=gate(name), reason="it must be"
            )
            await self.say(LEADS[act.who % 3], "OverrideGate", request, act.copies)

    async def _publish(self, act: Act) -> None:
        place, policy = PLACES[1 + act.one % 2], OTHERS[act.two % len(OTHERS)]
        request = pb.PublishPolicyRequest(environment=place, policy=policy, reason="a rule")
        await self.say("admin", "PublishPolicy", request, act.copies)

    async def _demote(self, act: Act) -> None:
        who = ("dev2", "dev3", "lead1", "lead2")[act.who % 4]
        usual = "lead" if who.startswith("lead") else "developer"
        lower = ("viewer", "developer")[act.one % 2] if usual == "lead" else "viewer"
        await self.court.set_role(who, usual if who in self.demoted else lower)
        self.demoted ^= {who}

    async def _mark(self, act: Act) -> None:
        name = self.releases[act.one % len(self.releases)]
        request = pb.MarkReleaseBadRequest(
            release=name, environment=PLACES[act.two % 3], reason="it leaks"
        )
        await self.say(LEADS[act.who % 3], "MarkReleaseBad", request, act.copies)

    async def _clear(self, act: Act) -> None:
        marks = await self.court.owner.fetch(
            "SELECT s.name || '@' || r.version AS release, coalesce(e.name, '') AS place"
            " FROM release_marks m JOIN releases r ON r.id = m.release_id"
            " JOIN services s ON s.id = r.service_id"
            " LEFT JOIN environments e ON e.id = m.environment_id"
            " WHERE m.cleared_at IS NULL AND r.service_id = ANY ($1)",
            self.services,
        )
        for mark in marks:
            request = pb.ClearReleaseBadRequest(
                release=mark["release"], environment=mark["place"], reason="mended"
            )
            await self.say(LEADS[act.who % 3], "ClearReleaseBad", request, act.copies)

    async def _again(self, act: Act) -> None:
        """Send an earlier request once more, whenever it was."""
        if self.claims:
            await self.repeat(self.claims[act.one % len(self.claims)], act.copies)
