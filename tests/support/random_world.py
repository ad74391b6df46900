"""Random situations of a service, reached by real calls of several people.

What is asked for in a situation and what then happens is compared by whoever uses them.
"""

import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from release_manager.deployment.v1 import deployment_pb2 as pb

from shared.domain_error import DomainError
from tests.support import restricting
from tests.support.deployments import STAGES, World
from tests.support.freezing import freeze, thaw
from tests.support.publishing import clear, mark, publish

PLACES = ("dev", "staging", "prod")
QUEUES = (
    *(pb.QUEUE_MODE_QUEUE, pb.QUEUE_MODE_QUEUE),
    *(pb.QUEUE_MODE_SUPERSEDE, pb.QUEUE_MODE_REJECT),
)
GATES = ("soak", "lock", "queue", "promotion_order", "freeze", "dependency")
MOSTLY_EARLY = ("dev", "dev", "dev", "staging", "staging", "prod")
CALLERS = ("dev1", "dev2", "lead1", "admin")
ABSENT_AT_TIMES = ("dev3", "lead2")
STEPS_BETWEEN = 4
LATER = timedelta(days=30)
LONG = Duration(seconds=3_600)

Step = Callable[[], Awaitable[Any]]


@dataclass
class RandomWorld:
    """A world in which things happen at random; the same numbers make the same things happen."""

    world: World
    source: random.Random
    app: str
    releases: list[str] = field(default_factory=list)
    locks: list[str] = field(default_factory=list)
    windows: list[str] = field(default_factory=list)

    async def begin(self) -> None:
        """Let every place ask for what people can give, and some releases be there.

        Some have run in the first place, so that there is something to go back to.
        """
        for lock in await restricting.locks(self.world):
            await restricting.unlock(self.world, lock.id)
        for needed, place in enumerate(PLACES):
            queue = self.source.choice(QUEUES)
            policy = pb.Policy(required_approvals=needed, author_may_approve=True, queue=queue)
            await publish(self.world, place, policy)
        for _ in range(4):
            await self._released()
        for release in self.releases[:3]:
            await self.outcome(self.world.deployed(release, PLACES[0]))

    async def next(self) -> None:
        """Let a few things happen; what is refused does not happen."""
        for _ in range(self.source.randint(1, STEPS_BETWEEN)):
            steps: Sequence[tuple[int, Step]] = (
                *((6, self._released), (12, self._approved), (10, self._ended)),
                *((14, self._wanted), (1, self._cancelled), (2, self._governed)),
                *((1, self._marked), (2, self._cleared), (1, self._put_away), (1, self._absent)),
                *((1, self._locked), (2, self._unlocked), (2, self._overridden)),
                *((1, self._frozen), (2, self._thawed), (1, self._needing)),
            )
            weights, acts = zip(*steps, strict=True)
            await self.outcome(self.source.choices(acts, weights)[0]())

    async def ask(self, who: str, method: str, request: Message) -> Any:
        """Return the answer to a call, or the error with which it is refused."""
        return await self.outcome(self.world.call(who, method, request))

    async def outcome(self, call: Awaitable[Any]) -> Any:
        """Return what a call returns, or the error that it raises."""
        try:
            return await call
        except DomainError as error:
            return error

    def who(self) -> str:
        """Return somebody."""
        return self.source.choice(CALLERS)

    def request(self) -> dict[str, Any]:
        """Return the fields of a request for a deployment, sensible or not."""
        wanted: dict[str, Any] = {
            "release": self.source.choice(self.releases[-5:]),
            "environment": self.source.choice(MOSTLY_EARLY),
            "allow_downgrade": self.source.random() < 0.6,
        }
        if self.source.random() < 0.1:
            wanted["not_before"] = datetime.now(UTC) + LATER
        return wanted

    async def some(self, *statuses: str) -> str | None:
        """Return a deployment in one of the statuses, in any if none is given."""
        rows = await self.world.database.fetch(
            "SELECT id::text FROM deployments WHERE service_id = $1"
            " AND (status = ANY($2) OR cardinality($2) = 0) ORDER BY deployed_at DESC LIMIT 12",
            *(self.world.services[self.app], list(statuses)),
        )
        return self.source.choice(rows)[0] if rows else None

    async def last_touched(self) -> str | None:
        """Return the deployment that reached one of the places last, None if none has."""
        rows = await self.world.database.fetch(
            "SELECT DISTINCT ON (environment_id) id::text FROM deployments WHERE service_id = $1"
            " AND touched_at IS NOT NULL ORDER BY environment_id, touched_at DESC",
            self.world.services[self.app],
        )
        return self.source.choice(rows)[0] if rows else None

    async def staged(self, deployment: str) -> bool:
        """Say whether a deployment has stages."""
        found = await self.world.database.fetchval(
            "SELECT count(*) FROM pipeline_stages WHERE deployment_id = $1", UUID(deployment)
        )
        return bool(found)

    async def _released(self) -> None:
        number = len(self.releases) + 1
        status = "draft" if self.source.random() < 0.05 else "published"
        author = self.source.choice(CALLERS)
        name = f"{self.app}@{number}"
        self.releases.append(await self.world.release(name, author=author, status=status))

    async def _wanted(self) -> None:
        method = self.source.choice((self.world.create, self.world.promote))
        wanted = self.request()
        await method(wanted["release"], wanted["environment"], self.who())

    async def _approved(self) -> None:
        waiting = await self.some("pending")
        for person in self.source.sample(CALLERS, 3) if waiting else ():
            await self.outcome(self.world.approve(waiting or "", person))

    async def _ended(self) -> None:
        deployment = await self.some("pending", "in-progress")
        if deployment is None:
            return
        if not await self.staged(deployment):
            await self.outcome(self.world.start(deployment))
            await self.world.finish(deployment, self._end())
            return
        for stage in STAGES:
            await self.outcome(self.world.stage(deployment, stage, self._end()))

    def _end(self) -> str:
        return self.source.choice(("completed",) * 6 + ("failed",))

    async def _cancelled(self) -> None:
        deployment = await self.some("pending", "in-progress") or ""
        request = pb.CancelDeploymentRequest(deployment=deployment, reason="changed my mind")
        await self.world.call("admin", "CancelDeployment", request)

    async def _governed(self) -> None:
        needed = self.source.choice((0, 0, 1, 1, 2, 6))
        policy = pb.Policy(
            required_approvals=needed,
            lead_required=needed > 0 and self.source.random() < 0.5,
            requester_may_approve=self.source.random() < 0.3,
            author_may_approve=self.source.random() < 0.5,
            queue=self.source.choice(QUEUES),
        )
        if self.source.random() < 0.2:
            policy.soak.CopyFrom(LONG)
        if self.source.random() < 0.2:
            policy.stable_after.CopyFrom(LONG)
        await publish(self.world, self.source.choice(PLACES), policy)

    async def _marked(self) -> None:
        place = self.source.choice((*PLACES, ""))
        await mark(self.world, self.source.choice(self.releases), place)

    async def _cleared(self) -> None:
        rows = await self.world.database.fetch(
            "SELECT s.name || '@' || r.version, coalesce(e.name, '') FROM release_marks m"
            " JOIN releases r ON r.id = m.release_id JOIN services s ON s.id = r.service_id"
            " LEFT JOIN environments e ON e.id = m.environment_id WHERE m.cleared_at IS NULL"
            " ORDER BY m.id"
        )
        if rows:
            await clear(self.world, *self.source.choice(rows))

    async def _put_away(self) -> None:
        """Archive a release and take the others out: the rows alone, as the catalog does."""
        version = self.source.choice(self.releases).partition("@")[2]
        await self.world.database.execute(
            "UPDATE releases SET archived_at = CASE WHEN archived_at IS NULL AND version = $2"
            " THEN now() END WHERE service_id = $1",
            *(self.world.services[self.app], version),
        )

    async def _absent(self) -> None:
        await self.world.database.execute(
            "UPDATE users SET active = NOT active WHERE username = $1",
            self.source.choice(ABSENT_AT_TIMES),
        )

    async def _locked(self) -> None:
        place = self.source.choice(((self.app, ""), ("", "staging")))
        await self._unlocked()
        includes = self.source.random() < 0.5
        made = await restricting.lock(self.world, *place, includes_rollbacks=includes)
        self.locks.append(made.lock.id)

    async def _unlocked(self) -> None:
        if self.locks:
            await restricting.unlock(self.world, self.locks.pop())

    async def _frozen(self) -> None:
        includes = self.source.random() < 0.5
        await self._thawed()  # what an error says of a gate is cut where it gets long
        made = await freeze(self.world, services=[self.app], includes_rollbacks=includes)
        self.windows.append(made.window.id)

    async def _thawed(self) -> None:
        if self.windows:
            await thaw(self.world, self.windows.pop())

    async def _needing(self) -> None:
        """Let the service need another one, which runs nowhere, or need it no longer."""
        needed = f"{self.app}-needed"
        if needed not in self.world.services:
            await self.world.release(f"{needed}@1")
        pair = (self.world.services[self.app], self.world.services[needed])
        gone = await self.world.database.execute(
            "DELETE FROM service_dependencies WHERE service_id = $1 AND needs_id = $2", *pair
        )
        if gone == "DELETE 0":
            names = ("service_id", "needs_id", "minimum_version")
            row = dict(zip(names, (*pair, ""), strict=True))
            await self.world.insert("service_dependencies", **row)

    async def _overridden(self) -> None:
        waiting = await self.some("pending")
        gate = self.source.choice(GATES)
        await restricting.override(self.world, waiting or "", gate)
