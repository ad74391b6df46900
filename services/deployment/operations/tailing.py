"""Giving back what a stage printed, from any place on, and what it prints meanwhile.

A place is a number of bytes, so a stream is a number and resuming one is passing that number. Each
window is a short read: no transaction is open while a slow reader takes it, and memory does not
depend on how much there is.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from prometheus_client import Gauge
from sqlalchemy.ext.asyncio import AsyncConnection

from services.deployment.operations import outputs
from services.deployment.rules.outputs import character_at, has_ended
from services.deployment.store import outputs as store
from services.deployment.store.outputs import WINDOW_BYTES, Printing, Window
from shared.db.engine import Database
from shared.domain_error import FieldViolation
from shared.errors import (
    FollowSlotsTaken,
    OutputOutOfRange,
    ResourceNotFound,
    ValidationFailed,
)
from shared.rpc.slots import Slots

PER_CALLER: Final = 10
TOTAL: Final = 200
LOOK_EVERY_S: Final = 1.0
# Below what is promised, since a message may have to wait its turn.
HEARTBEAT_S: Final = 10.0
# Windows read at a time, so that other calls find free connections.
READS_AT_ONCE: Final = 3

NEEDED: Final = FieldViolation("deployment", "is needed with the name of a stage", "required")

FOLLOWED = Gauge("stage_output_streams", "Streams that give the output of stages.")


@dataclass(frozen=True, slots=True)
class TailQuery:
    """Which output somebody wants: of a stage by its id, or by its deployment and name.

    `attempt` is 0 for the newest one.
    """

    caller: UUID
    stage: UUID | str
    deployment_id: UUID | None = None
    attempt: int = 0
    start: int = 0
    follow: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """Some output and its place, and whether it is the last of its attempt."""

    window: Window
    attempt: int
    complete: bool


@dataclass(frozen=True, slots=True)
class _Look:
    """What there was of an attempt at one moment."""

    window: Window
    size: int
    ended: bool

    @property
    def is_all(self) -> bool:
        """Whether nothing comes after the window for now."""
        return self.window.end >= self.size


Send = Callable[[Part], Awaitable[None]]


class Tailing:
    """Serves all readers of one process."""

    def __init__(self, database: Database) -> None:
        """Read from `database`."""
        self.slots = Slots(FollowSlotsTaken, per_caller=PER_CALLER, total=TOTAL)
        self._database = database
        self._reads = asyncio.Semaphore(READS_AT_ONCE)

    async def run(self, asked: TailQuery, send: Send) -> None:
        """Send what is asked for, as fast as `send` returns, to its end.

        The first part comes at once, whatever is in it. Raises ResourceNotFound and
        OutputOutOfRange.
        """
        with FOLLOWED.track_inprogress():
            await self._run(asked, send)

    async def _run(self, asked: TailQuery, send: Send) -> None:
        now = asyncio.get_running_loop().time
        stage_id, attempt = await self._find(asked)
        look = await self._look(stage_id, attempt, asked.start)
        sent_at = -HEARTBEAT_S
        while True:
            complete = look.ended and look.is_all
            if look.window.content or complete or now() - sent_at >= HEARTBEAT_S:
                await send(Part(look.window, attempt, complete))
                sent_at = now()
            if complete or (look.is_all and not asked.follow):
                return
            if look.is_all:
                await asyncio.sleep(LOOK_EVERY_S)
            look = await self._look(stage_id, attempt, look.window.end)

    async def _find(self, asked: TailQuery) -> tuple[UUID, int]:
        async with self._reads, self._database.snapshot() as tx:
            stage = await _stage(tx, asked)
            attempt = asked.attempt or stage.attempt
            if attempt > stage.attempt:
                raise ResourceNotFound(resource_type="attempt", resource=attempt)
            size, _ = await _size(tx, stage, attempt)
            if asked.start > size:
                raise OutputOutOfRange(
                    offset=asked.start, attempt=attempt, stage=stage.name, size=size
                )
        return stage.stage_id, attempt

    async def _look(self, stage_id: UUID, attempt: int, start: int) -> _Look:
        """Read the next window and whether more can come, at one moment."""
        async with self._reads, self._database.snapshot() as tx:
            stage = await store.of_stage(tx, stage_id)
            if stage is None:
                raise ResourceNotFound(resource_type="pipeline stage", resource=stage_id)
            ended = has_ended(attempt, stage.attempt, stage.status)
            size, whole = await _size(tx, stage, attempt)
            if start >= size:
                return _Look(Window(start, b""), size, ended)
            if whole is not None:
                return _Look(_part(whole, start), size, ended)
            return _Look(await store.window(tx, stage_id, attempt, start), size, ended)


async def _stage(tx: AsyncConnection, asked: TailQuery) -> Printing:
    """Return the stage that is asked for; raises ResourceNotFound."""
    by_id = isinstance(asked.stage, UUID)
    if isinstance(asked.stage, UUID):
        stage = await store.of_stage(tx, asked.stage)
    elif asked.deployment_id is not None:
        stage = await store.named(tx, asked.deployment_id, asked.stage)
    else:
        raise ValidationFailed(
            count=1, first=f"{NEEDED.field}: {NEEDED.description}", fields=(NEEDED,)
        )
    if stage is not None and asked.deployment_id in {None, stage.deployment_id}:
        return stage
    if asked.deployment_id is None or (by_id and stage is None):
        raise ResourceNotFound(resource_type="pipeline stage", resource=asked.stage)
    raise await outputs.not_found(tx, asked.deployment_id, str(asked.stage))


async def _size(tx: AsyncConnection, stage: Printing, attempt: int) -> tuple[int, bytes | None]:
    """Return how much there is to give, and all of it when it was set as a whole.

    What was set as a whole can be replaced until the attempt ends, so it is given only then.
    """
    newest = attempt == stage.attempt
    appended = stage.appended if newest else await store.size_of(tx, stage.stage_id, attempt)
    if appended:
        return appended, None
    if not has_ended(attempt, stage.attempt, stage.status):
        return 0, None
    whole = (await store.reported(tx, stage.stage_id, attempt)).encode()
    return len(whole), whole


def _part(whole: bytes, start: int) -> Window:
    """Return one window of what was set as a whole."""
    first = character_at(whole, start)
    return Window(first, whole[first : character_at(whole, min(start + WINDOW_BYTES, len(whole)))])
