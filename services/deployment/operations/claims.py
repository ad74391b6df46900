"""Who drives a deployment: claiming it, showing life, giving it back, and losing it."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from services.deployment.operations import examine, moves, stopping
from services.deployment.operations.details import Depth, Detail, detail
from services.deployment.operations.examine import Examined
from services.deployment.rules.leases import CLAIMABLE, USUAL, Lease, check_claimable, check_token
from services.deployment.rules.lifecycle import (
    Action,
    DeploymentStatus,
    FailureCause,
    advance,
)
from services.deployment.rules.moments import at_second
from services.deployment.store import leases
from shared.errors import ConcurrentChange, LeaseLost
from shared.outbox.change import Change


@dataclass(frozen=True, slots=True)
class Claim:
    """Drive a deployment under the name `executor`."""

    deployment_id: UUID
    executor: str
    duration: timedelta = USUAL
    etag: str = ""


@dataclass(frozen=True, slots=True)
class Held:
    """What the holder of a lease wants to do with it."""

    deployment_id: UUID
    token: UUID
    reason: str = ""
    etag: str = ""


@dataclass(frozen=True, slots=True)
class Claimed:
    """A new lease, and the deployment with its stages."""

    lease: Lease
    deployment: Detail


@dataclass(frozen=True, slots=True)
class Renewed:
    """Until when a lease holds, and where its deployment is; with its deadline while it stops."""

    expires_at: datetime
    status: DeploymentStatus
    deadline: datetime | None


@dataclass(frozen=True, slots=True)
class Driver:
    """Who may go on; `executor` is empty when nobody has claimed."""

    executor: str = ""


async def claim(change: Change, command: Claim) -> Claimed | None:
    """Claim a deployment; None when its last executor turns out to be lost, which has ended it.

    A lease whose time is over counts as lost from that moment on, whoever notices first.
    """
    case = await moves.open_for_change(change, command.deployment_id, command.etag)
    old = await leases.held(change.tx, command.deployment_id)
    if old is not None and old.is_over(change.now):
        await lose(change, case, old)
        case = await examine.deployment(change.tx, command.deployment_id)
        old = None
        if case.status not in CLAIMABLE:
            touched = case.dossier.touched_at is not None
            change.refuse(moves.not_now(case.dossier.id, case.status, "claim", touched=touched))
            return None
    touched = case.dossier.touched_at is not None
    check_claimable(command.deployment_id, case.status, old, change.now, touched=touched)
    lease = Lease(
        deployment_id=command.deployment_id,
        token=uuid4(),
        executor=command.executor,
        holder_id=change.actor.user_id,
        holder=change.actor.username,
        duration=command.duration,
        claimed_at=change.now,
        expires_at=change.now + command.duration,
    )
    await leases.add(change.tx, lease)
    details = {"lease_seconds": int(lease.duration.total_seconds())}
    await moves.hand_over(change, case, "claim", (None, lease.executor), details)
    return Claimed(lease, await detail(change.tx, command.deployment_id, Depth.STAGES))


async def driver(change: Change, case: Examined, token: UUID | None) -> Driver | None:
    """Let the holder of the lease go on, which renews it, and anybody where there is none.

    Raises LeaseHeld or LeaseLost. None when the lease turns out to be over: what follows from that
    is stored, and the call answers with a refusal.
    """
    deployment_id = case.dossier.id
    lease = await leases.held(change.tx, deployment_id)
    if lease is not None and lease.is_over(change.now):
        await lose(change, case, lease)
        lost = LeaseLost(deployment=deployment_id)
        change.refuse(ConcurrentChange() if token is None else lost)
        return None
    check_token(deployment_id, lease, token, change.actor.user_id, change.now)
    if lease is None:
        return Driver()
    await leases.renew(change.tx, deployment_id, change.now + lease.duration)
    return Driver(lease.executor)


async def nobody_was_lost(change: Change, case: Examined) -> bool:
    """Say whether a deployment is still as its executor left it, for whoever needs no token.

    If its lease turns out to be over, what follows is stored, and the caller repeats the call.
    """
    lease = await leases.held(change.tx, case.dossier.id)
    if lease is None or not lease.is_over(change.now):
        return True
    await lose(change, case, lease)
    change.refuse(ConcurrentChange())
    return False


async def renew(change: Change, command: Held) -> Renewed | None:
    """Move the end of a lease on; None when it was over, see `driver`."""
    await moves.hold(change, command.deployment_id)
    case = await examine.deployment(change.tx, command.deployment_id)
    if await driver(change, case, command.token) is None:
        return None
    lease = await leases.held(change.tx, command.deployment_id)
    if lease is None:
        raise LeaseLost(deployment=command.deployment_id)
    stopping_now = case.status is DeploymentStatus.CANCELLING
    return Renewed(lease.expires_at, case.status, case.dossier.deadline if stopping_now else None)


async def release(change: Change, command: Held) -> Detail | None:
    """Give a deployment back as it stands, for another executor or for people."""
    case = await moves.open_for_change(change, command.deployment_id, command.etag)
    holder = await driver(change, case, command.token)
    if holder is None:
        return None
    if case.status is DeploymentStatus.CANCELLING:
        raise moves.not_now(command.deployment_id, case.status, "release_lease", touched=False)
    await leases.end(change.tx, command.deployment_id)
    details = {"reason": command.reason}
    await moves.hand_over(change, case, "release_lease", (holder.executor, None), details)
    return await detail(change.tx, command.deployment_id, Depth.ALONE)


async def confirm(change: Change, command: Held) -> Detail | None:
    """End a cancelling deployment, because its executor says that it has stopped."""
    case = await moves.open_for_change(change, command.deployment_id, command.etag)
    if await driver(change, case, command.token) is None:
        return None
    await stopping.finish(change, case, "confirm_cancelled")
    return await detail(change.tx, command.deployment_id, Depth.STAGES)


async def lose_if_over(change: Change, deployment_id: UUID) -> None:
    """Carry out that a lease is over, if it is."""
    await moves.hold(change, deployment_id)
    lease = await leases.held(change.tx, deployment_id)
    if lease is not None and lease.is_over(change.now):
        await lose(change, await examine.deployment(change.tx, deployment_id), lease)


async def lose(change: Change, case: Examined, lease: Lease) -> None:
    """End a lease whose time is over, and with it the work that was going on under it."""
    details = {"lease_expired_at": lease.expires_at}
    if case.status is DeploymentStatus.CANCELLING:
        await stopping.finish(change, case, "lose_lease", details)
        return
    if case.status is not DeploymentStatus.IN_PROGRESS:
        await leases.end(change.tx, lease.deployment_id)
        await moves.hand_over(change, case, "lose_lease", (lease.executor, None), details)
        return
    cause = FailureCause.EXECUTOR_LOST
    failure: dict[str, Any] = {"failure_cause": cause, "failure_class": cause.usual_class}
    why = f"Executor {lease.executor} was not heard of until {at_second(lease.expires_at)}."
    await moves.move(
        change,
        case.dossier,
        advance(case.status, Action.FAIL),
        "lose_lease",
        details={**details, **failure},
        status_reason=why,
        **failure,
    )
