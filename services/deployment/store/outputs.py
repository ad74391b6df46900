"""Output of stages: chunks, which are added and never change, and how much a stage has of them."""

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Row, and_, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from services.deployment.rules.outputs import (
    LEAST_COUNTED,
    LONGEST_CHARACTER,
    SHOWN_IN_PASSING,
    character_at,
)
from services.deployment.rules.stages import StageStatus
from shared.db.models.deployment import PipelineStage
from shared.db.models.execution import StageAttempt, StageOutputChunk

# A window ends with the chunk that reaches this size, and a chunk has at most as much again.
WINDOW_BYTES: Final = 262_144
# However little is in each of them.
WINDOW_CHUNKS: Final = 1_000


@dataclass(frozen=True, slots=True)
class Printing:
    """A stage, and how much its newest attempt has printed: appended, or `output` as a whole.

    `counted` is what was appended as it counts of the most that may be, see `LEAST_COUNTED`.
    """

    stage_id: UUID
    deployment_id: UUID
    name: str
    status: StageStatus
    attempt: int
    appended: int
    counted: int
    reported: int


@dataclass(frozen=True, slots=True)
class Window:
    """Some output and its place; the bytes are whole characters."""

    start: int
    content: bytes

    @property
    def end(self) -> int:
        """Where it ends."""
        return self.start + len(self.content)


@dataclass(frozen=True, slots=True)
class Printed:
    """All that an attempt has printed, in a number and a hash by which it can be proved."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Prefix:
    """The hash of the first `size` bytes of an attempt, which never change."""

    stage_id: UUID
    attempt: int
    size: int
    digest: "hashlib._Hash"


_PRINTING: Final = select(
    PipelineStage.id,
    PipelineStage.deployment_id,
    PipelineStage.name,
    PipelineStage.status,
    PipelineStage.attempt,
    PipelineStage.appended_bytes,
    PipelineStage.counted_bytes,
    func.octet_length(PipelineStage.output),
)


async def hold(tx: AsyncConnection, deployment_id: UUID, name: str) -> Printing | None:
    """Lock a stage, so that it does not end and nothing is appended meanwhile.

    Whoever appends waits for nothing else after this, so nobody waits in a circle.
    """
    named = and_(PipelineStage.deployment_id == deployment_id, PipelineStage.name == name)
    query = _PRINTING.where(named).with_for_update(key_share=True)
    return _printing((await tx.execute(query)).one_or_none())


async def named(tx: AsyncConnection, deployment_id: UUID, name: str) -> Printing | None:
    """Return a stage by its name."""
    of_deployment = and_(PipelineStage.deployment_id == deployment_id, PipelineStage.name == name)
    return _printing((await tx.execute(_PRINTING.where(of_deployment))).one_or_none())


async def of_stage(tx: AsyncConnection, stage_id: UUID) -> Printing | None:
    """Return a stage by its id."""
    query = _PRINTING.where(PipelineStage.id == stage_id)
    return _printing((await tx.execute(query)).one_or_none())


async def append(tx: AsyncConnection, held: Printing, text: str, size: int) -> None:
    """Add a chunk of `size` bytes to a stage that is held, and its end to what is shown."""
    await tx.execute(
        insert(StageOutputChunk).values(
            stage_id=held.stage_id,
            attempt=held.attempt,
            start_byte=held.appended,
            size_bytes=size,
            content=text,
        )
    )
    shown = func.right(PipelineStage.output + text[-SHOWN_IN_PASSING:], SHOWN_IN_PASSING)
    await tx.execute(
        update(PipelineStage)
        .where(PipelineStage.id == held.stage_id)
        .values(
            appended_bytes=held.appended + size,
            counted_bytes=held.counted + max(size, LEAST_COUNTED),
            output=shown,
        )
    )


async def size_of(tx: AsyncConnection, stage_id: UUID, attempt: int) -> int:
    """Return how many bytes were appended to the output of an attempt."""
    chunk = StageOutputChunk
    query = (
        select(chunk.start_byte + chunk.size_bytes)
        .where(chunk.stage_id == stage_id, chunk.attempt == attempt)
        .order_by(chunk.start_byte.desc())
        .limit(1)
    )
    return (await tx.execute(query)).scalar_one_or_none() or 0


async def window(tx: AsyncConnection, stage_id: UUID, attempt: int, start: int) -> Window:
    """Return what was appended from a place on, as far as one window goes.

    It begins with the character at that place.
    """
    chunk = StageOutputChunk
    mine = and_(chunk.stage_id == stage_id, chunk.attempt == attempt)
    first = select(func.max(chunk.start_byte)).where(mine, chunk.start_byte <= start)
    query = (
        select(chunk.start_byte, chunk.content)
        .where(
            mine,
            chunk.start_byte >= first.scalar_subquery(),
            chunk.start_byte < start + WINDOW_BYTES,
        )
        .order_by(chunk.start_byte)
        .limit(WINDOW_CHUNKS)
    )
    found = (await tx.execute(query)).all()
    if not found:
        return Window(start, b"")
    content = "".join(row.content for row in found).encode()
    before = found[0].start_byte
    skipped = character_at(content, min(start - before, len(content)))
    return Window(before + skipped, content[skipped:])


async def reported(tx: AsyncConnection, stage_id: UUID, attempt: int) -> str:
    """Return the output that was set as a whole of an attempt; of the newest, it is the stage's."""
    newest = select(PipelineStage.output).where(
        PipelineStage.id == stage_id, PipelineStage.attempt == attempt
    )
    older = select(StageAttempt.output).where(
        StageAttempt.stage_id == stage_id, StageAttempt.attempt == attempt
    )
    for query in (newest, older):
        found = (await tx.execute(query)).scalar_one_or_none()
        if found is not None:
            return found
    return ""


async def end_of(tx: AsyncConnection, stage_id: UUID, attempt: int, characters: int) -> str:
    """Return the last characters of what was appended to the output of an attempt."""
    size = await size_of(tx, stage_id, attempt)
    found = ""
    async for piece in _pieces(
        tx, stage_id, attempt, max(size - characters * LONGEST_CHARACTER, 0)
    ):
        found = (found + piece.decode())[-characters:]
    return found


async def prefix(tx: AsyncConnection, stage: Printing) -> Prefix:
    """Hash what was appended to the newest attempt at a stage; more may follow meanwhile."""
    digest, size = hashlib.sha256(), 0
    async for piece in _pieces(tx, stage.stage_id, stage.attempt, 0):
        digest.update(piece)
        size += len(piece)
    return Prefix(stage.stage_id, stage.attempt, size, digest)


async def printed(tx: AsyncConnection, stage_id: UUID, read: Prefix | None = None) -> Printed:
    """Return size and hash of all that the newest attempt at a stage has printed.

    It is read in windows, so memory does not depend on how much there is, and only from where
    `read` ends. To be called when nothing can be appended any more.
    """
    stage = await of_stage(tx, stage_id)
    if stage is None or not stage.appended:
        content = "" if stage is None else await reported(tx, stage_id, stage.attempt)
        encoded = content.encode()
        return Printed(len(encoded), hashlib.sha256(encoded).hexdigest())
    digest, start = hashlib.sha256(), 0
    if read is not None and (read.stage_id, read.attempt) == (stage_id, stage.attempt):
        digest, start = read.digest, read.size
    async for piece in _pieces(tx, stage_id, stage.attempt, start):
        digest.update(piece)
    return Printed(stage.appended, digest.hexdigest())


async def _pieces(
    tx: AsyncConnection, stage_id: UUID, attempt: int, start: int
) -> AsyncIterator[bytes]:
    """Yield what was appended from a place on."""
    while (found := await window(tx, stage_id, attempt, start)).content:
        yield found.content
        start = found.end


def _printing(row: Row[Any] | None) -> Printing | None:
    if row is None:
        return None
    stage_id, deployment_id, name, status, attempt, appended, counted, shown = tuple(row)
    whole = 0 if appended else shown
    return Printing(
        stage_id, deployment_id, name, StageStatus(status), attempt, appended, counted, whole
    )
