"""What executors do to deployments at once, and those who intervene in what has paused."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, NamedTuple, Protocol

from release_manager.deployment.v1 import deployment_pb2 as pb
from release_manager.deployment.v1 import execution_pb2 as xpb

from shared.domain_error import DomainError
from tests.properties.court import Court

CALLERS: Final = ("dev1", "dev2", "dev3", "lead1", "lead2", "admin")
LEADS: Final = ("lead1", "lead2", "admin")

# By deployment: who has claimed it, and with which token; the last of them is tried first.
Leases = dict[str, list[tuple[str, str]]]


class Act(NamedTuple):
    """Something that somebody does: a name, who, three numbers that choose, how many copies."""

    what: str
    who: int = 0
    one: int = 0
    two: int = 0
    three: int = 0
    copies: int = 1


class Crew(Protocol):
    """What these acts need to know of the people who act."""

    court: Court
    leases: Leases

    def some(self, number: int, *statuses: str, place: str = "") -> Mapping[str, Any] | None:
        """Return a deployment in one of these statuses."""

    async def say(self, who: str, method: str, request: Any, copies: int = 1) -> list[Any]:
        """Send a request so many times at once."""


def lease_of(leases: Leases, deployment_id: str, who: str = "dev1") -> tuple[str, str]:
    """Return who has a lease of a deployment and its token, or `who` and no token."""
    known = leases.get(deployment_id)
    return known[-1] if known else (who, "")


def lost(leases: Leases, request: Any, results: list[Any]) -> None:
    """Forget a lease that has turned out to be lost."""
    if any(getattr(result, "reason", "") == "LEASE_LOST" for result in results):
        known = leases.get(request.deployment, [])
        known[:] = [one for one in known if one[1] != request.lease_token]


async def claim(crew: Crew, act: Act) -> None:
    """Claim something that waits or runs, of which the latter is rare."""
    running = crew.some(act.one, "in-progress") if act.two % 2 else None
    if found := running or crew.some(act.one, "pending", "in-progress"):
        request = xpb.ClaimDeploymentRequest(deployment=found["id"], executor=f"ci-{act.who}")
        who = CALLERS[act.who % 6]
        for answer in await crew.say(who, "ClaimDeployment", request, act.copies):
            if not isinstance(answer, DomainError):
                crew.leases.setdefault(found["id"], []).append((who, answer.lease_token))


async def give_back(crew: Crew, act: Act) -> None:
    """Give a claimed deployment back."""
    if found := crew.some(act.one, "pending", "in-progress", "cancelling"):
        who, token = lease_of(crew.leases, found["id"])
        if token:
            request = xpb.ReleaseLeaseRequest(
                deployment=found["id"], lease_token=token, reason="another one shall do it"
            )
            await crew.say(who, "ReleaseLease", request, act.copies)


async def confirm(crew: Crew, act: Act) -> None:
    """Confirm that something has stopped."""
    if found := crew.some(act.one, "cancelling"):
        await stop_confirmed(crew, found["id"], act.copies)


async def stop_confirmed(crew: Crew, deployment_id: str, copies: int = 1) -> None:
    """Confirm as whoever claimed a deployment that it has stopped."""
    who, token = lease_of(crew.leases, deployment_id)
    if token:
        request = xpb.ConfirmCancelledRequest(deployment=deployment_id, lease_token=token)
        await crew.say(who, "ConfirmCancelled", request, copies)


async def retry(crew: Crew, act: Act) -> None:
    """Run a failed stage again."""
    if stage := await _stage(crew, act, "failed", "paused"):
        request = xpb.RetryStageRequest(deployment=stage[0], stage=stage[1])
        await crew.say(CALLERS[act.who % 6], "RetryStage", request, act.copies)


async def ignore(crew: Crew, act: Act) -> None:
    """Let a failed stage be as if it had completed."""
    if stage := await _stage(crew, act, "failed", "paused"):
        request = xpb.IgnoreStageRequest(deployment=stage[0], stage=stage[1], reason="known")
        await crew.say(CALLERS[act.who % 6], "IgnoreStage", request, act.copies)


async def skip(crew: Crew, act: Act) -> None:
    """Leave a stage out."""
    if stage := await _stage(crew, act, "pending", "pending", "in-progress"):
        request = xpb.SkipStageRequest(deployment=stage[0], stage=stage[1], reason="not here")
        await crew.say(CALLERS[act.who % 6], "SkipStage", request, act.copies)


async def give_up(crew: Crew, act: Act) -> None:
    """Fail what has paused."""
    if found := crew.some(act.one, "paused", "in-progress"):
        await fail(crew, found["id"], CALLERS[act.who % 6], act.copies)


async def fail(crew: Crew, deployment_id: str, who: str, copies: int = 1) -> None:
    """Say that a deployment has failed."""
    request = xpb.FailDeploymentRequest(
        deployment=deployment_id, reason="no use", failure_class=pb.FAILURE_CLASS_FAILED
    )
    await crew.say(who, "FailDeployment", request, copies)


async def _stage(crew: Crew, act: Act, status: str, *statuses: str) -> tuple[str, str] | None:
    """Return a deployment and the name of a stage of it in a status, if there is one."""
    found = crew.some(act.one, *statuses)
    if found is None:
        return None
    name = await crew.court.owner.fetchval(
        "SELECT name FROM pipeline_stages WHERE deployment_id::text = $1 AND status = $2"
        " ORDER BY stage_order LIMIT 1",
        *(found["id"], status),
    )
    return (found["id"], name) if name else None


EXECUTING: Final[Mapping[str, Callable[[Crew, Act], Awaitable[None]]]] = {
    "claim": claim,
    "give_back": give_back,
    "confirm": confirm,
    "retry": retry,
    "ignore": ignore,
    "skip": skip,
    "give_up": give_up,
}
