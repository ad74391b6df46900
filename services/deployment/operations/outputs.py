"""What stages print: taking it in, and saying at the end of an attempt what all of it was."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from services.deployment.rules import outputs as rules
from services.deployment.rules.leases import check_token
from services.deployment.rules.stages import StageStatus
from services.deployment.store import children, leases
from services.deployment.store import outputs as store
from services.deployment.store.outputs import Prefix, Printing
from shared.errors import ResourceNotFound
from shared.outbox.change import Change

# Output renews a lease when that moves its end by this part of its length, not with each line.
RENEWED_AFTER: Final = 0.1


@dataclass(frozen=True, slots=True)
class Piece:
    """Text that belongs at a place of the output of a stage; a token while there is a lease."""

    deployment_id: UUID
    stage: str
    offset: int
    text: str
    lease_token: UUID | None = None


@dataclass(frozen=True, slots=True)
class Taken:
    """To which attempt a piece belongs, and how many bytes that has printed by now."""

    attempt: int
    size: int


async def append(change: Change, piece: Piece) -> Taken:
    """Take a piece in, unless it is there already. Neither a version nor an entry is made.

    It waits for the stage alone and not for the pair, so printing hinders no change of another
    stage or deployment.
    """
    held = await store.hold(change.tx, piece.deployment_id, piece.stage)
    if held is None:
        raise await not_found(change.tx, piece.deployment_id, piece.stage)
    await _admit(change, piece)
    rules.check_printing(held.name, held.status)
    rules.check_appendable(held.name, held.reported)
    content = piece.text.encode()
    if rules.is_repeat(held.name, piece.offset, len(content), held.appended, held.counted):
        await _compare(change.tx, held, piece.offset, content)
        return Taken(held.attempt, held.appended)
    await store.append(change.tx, held, piece.text, len(content))
    return Taken(held.attempt, held.appended + len(content))


async def check_replaceable(tx: AsyncConnection, deployment_id: UUID, stage: str) -> None:
    """Raise OutputMixed when output was appended to a stage; until the end none can be then."""
    held = await store.hold(tx, deployment_id, stage)
    if held is not None:
        rules.check_replaceable(held.name, held.appended)


async def read_before(tx: AsyncConnection, deployment_id: UUID, stage: str) -> Prefix | None:
    """Hash what a stage that is about to end has printed so far, while nobody waits for that.

    None when there is nothing of it, or it does not run.
    """
    found = await store.named(tx, deployment_id, stage)
    if found is None or not found.appended or found.status is not StageStatus.IN_PROGRESS:
        return None
    return await store.prefix(tx, found)


async def sealed(
    tx: AsyncConnection, stage_id: UUID, read: Prefix | None = None
) -> Mapping[str, Any]:
    """Return the details of the event that ends an attempt: what it has printed in all.

    To be called after the stage has been written with its result, which nothing is appended after.
    What was `read` before is not read again.
    """
    printed = await store.printed(tx, stage_id, read)
    return {"output_bytes": printed.size, "output_sha256": printed.sha256}


async def sealed_aborted(
    tx: AsyncConnection, aborted: Mapping[UUID, tuple[str, int]]
) -> Mapping[str, Any]:
    """Return the same for the stage that its deployment's end has stopped, with its name.

    `aborted` are the names and attempts of the running stages that were ended: one, or none.
    """
    details: dict[str, Any] = {}
    for stage_id, (name, attempt) in aborted.items():
        details = {"output_stage": name, "output_attempt": attempt, **await sealed(tx, stage_id)}
    return details


async def not_found(tx: AsyncConnection, deployment_id: UUID, stage: str) -> ResourceNotFound:
    """Return what is missing: the deployment, or only the stage."""
    if await children.exists(tx, deployment_id):
        return ResourceNotFound(resource_type="stage", resource=stage)
    return ResourceNotFound(resource_type="deployment", resource=deployment_id)


async def _admit(change: Change, piece: Piece) -> None:
    """Ask for the token of the lease, if there is one, and count the output as a sign of life."""
    lease = await leases.of(change.tx, piece.deployment_id)
    account = change.actor.user_id
    check_token(piece.deployment_id, lease, piece.lease_token, account, change.now)
    if lease is not None and piece.lease_token is not None:
        until = change.now + lease.duration
        if until - lease.expires_at > max(lease.duration * RENEWED_AFTER, timedelta(seconds=1)):
            await leases.renew_if_free(change.tx, piece.deployment_id, until)


async def _compare(tx: AsyncConnection, held: Printing, offset: int, content: bytes) -> None:
    """Raise OutputOffset unless `content` is what is there at `offset`."""
    place, end = offset, offset + len(content)
    while place < end:
        window = await store.window(tx, held.stage_id, held.attempt, place)
        # A place within a character begins before itself.
        there = window.content[place - window.start :][: end - place]
        if there != content[place - offset :][: len(there)]:
            raise rules.not_next(held.name, offset, held.appended, "something else is there")
        place += len(there)
