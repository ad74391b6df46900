"""What writers, readers and followers do to a ledger at once, and what each of them has seen."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any, Final, TypeVar

import grpc
from google.protobuf.message import Message
from release_manager.audit.v1 import audit_pb2 as pb

from shared.ids import new_id
from shared.merkle.checkpoint import Checkpoint, opened
from shared.merkle.note import Verifier
from shared.merkle.tree import verify_consistency, verify_inclusion

Answer = TypeVar("Answer")
Metadata = tuple[tuple[str, str], ...]

ATTEMPT_S: Final = 5.0
RECOVERED_WITHIN_S: Final = 60.0
# What a caller meets while something is down or busy. Anything else is a fault of the product.
PASSING: Final = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    }
)
ALL: Final = pb.AuditLogFilter(category=pb.AUDIT_CATEGORY_ALL)


@dataclass
class Hammer:
    """The callers' common knowledge. Every list is only added to."""

    stubs: list[Any]
    writing: Metadata
    reading: Metadata
    verifier: Verifier
    chance: Random
    ending: asyncio.Event = field(default_factory=asyncio.Event)
    # By event id: the position that was acknowledged.
    acknowledged: dict[str, int] = field(default_factory=dict)
    aggregates: dict[str, list[str]] = field(default_factory=dict)
    checkpoints: dict[int, Checkpoint] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    longest_outage: float = 0.0

    async def insist(
        self, call: Callable[[Any], Awaitable[Answer]], *, seconds: float = RECOVERED_WITHIN_S
    ) -> Answer:
        """Ask one replica after the other until one answers; what is no passing error ends it."""
        began = time.monotonic()
        while True:
            stub = self.chance.choice(self.stubs)
            try:
                answer = await call(stub)
            except grpc.aio.AioRpcError as failure:
                self.note_failure(failure)
                if time.monotonic() - began > seconds:
                    raise
                await asyncio.sleep(0.05)
                continue
            self.longest_outage = max(self.longest_outage, time.monotonic() - began)
            return answer

    async def ask(self, method: str, request: Message) -> Any:
        """Read something from any replica that answers."""

        async def call(stub: Any) -> Any:
            return await getattr(stub, method)(request, metadata=self.reading, timeout=ATTEMPT_S)

        return await self.insist(call)

    def note_failure(self, failure: grpc.aio.AioRpcError) -> None:
        """Count a passing error, raise any other one."""
        self.failed[failure.code().name] += 1
        if failure.code() not in PASSING:
            raise failure

    def saw(self, note: str) -> Checkpoint:
        """Keep a checkpoint, which must agree with every other one of its size."""
        checkpoint = opened(note, self.verifier)
        known = self.checkpoints.setdefault(checkpoint.size, checkpoint)
        assert known.root == checkpoint.root, f"two roots of {checkpoint.size} entries"
        self.notes.append(note)
        return checkpoint


async def write(hammer: Hammer, number: int) -> None:
    """Append batches of one aggregate, each until it is acknowledged; repeat some of them."""
    aggregate, sequence = f"hammer:{number}", 0
    mine = hammer.aggregates.setdefault(aggregate, [])
    while not hammer.ending.is_set():
        size = hammer.chance.choice((1, 1, 5, 20, 100))
        events = [
            pb.AuditEvent(
                event_id=str(new_id()),
                action="deploy",
                resource_type="deployment",
                resource_id=f"{number}/{sequence + place}",
                aggregate=aggregate,
                aggregate_seq=sequence + place,
            )
            for place in range(1, size + 1)
        ]
        sequence += size
        mine += [event.event_id for event in events]
        request = pb.LogActionsRequest(events=events)
        if hammer.chance.random() < 0.1:  # at both replicas at once, whatever comes of it
            both = (_append(hammer, request, stub) for stub in hammer.stubs)
            for outcome in await asyncio.gather(*both, return_exceptions=True):
                if isinstance(outcome, grpc.aio.AioRpcError):
                    hammer.note_failure(outcome)
                elif isinstance(outcome, BaseException):
                    raise outcome
        await hammer.insist(partial(_append, hammer, request))
        hammer.done["batches"] += 1
        if hammer.chance.random() < 0.05:
            again = await hammer.insist(partial(_append, hammer, request))
            assert {result.outcome for result in again.results} == {pb.APPEND_OUTCOME_DUPLICATE}


async def _append(hammer: Hammer, request: pb.LogActionsRequest, stub: Any) -> Any:
    answer = await stub.LogActions(request, metadata=hammer.writing, timeout=ATTEMPT_S)
    before = -1
    for event, result in zip(request.events, answer.results, strict=True):
        assert result.outcome != pb.APPEND_OUTCOME_REFUSED, result
        assert result.event_id == event.event_id
        known = hammer.acknowledged.setdefault(event.event_id, result.leaf_index)
        assert known == result.leaf_index, f"{event.event_id} at {known} and {result.leaf_index}"
        assert result.leaf_index > before, "out of order"
        before = result.leaf_index
    return answer


async def prove(hammer: Hammer) -> None:
    """Take checkpoints that must go on from one another, and prove entries in them."""
    held: Checkpoint | None = None
    while not hammer.ending.is_set():
        known = list(hammer.acknowledged.items())[-2_000:]
        newest = max(hammer.checkpoints, default=0)
        answer = await hammer.ask("GetCheckpoint", pb.GetCheckpointRequest())
        checkpoint = hammer.saw(answer.checkpoint.note)
        assert checkpoint.size >= newest, "an older checkpoint than one that was given before"
        if held is not None:
            asked = pb.GetConsistencyProofRequest(from_size=held.size, to_size=checkpoint.size)
            proof = await hammer.ask("GetConsistencyProof", asked)
            assert verify_consistency(
                *(held.size, checkpoint.size, proof.hashes, held.root, checkpoint.root)
            )
            hammer.done["consistency proofs"] += 1
        held = checkpoint
        covered = [index for _event_id, index in known if index < checkpoint.size]
        for index in hammer.chance.sample(covered, min(5, len(covered))):
            await _prove_one(hammer, index, checkpoint)
        await asyncio.sleep(0.05)


async def _prove_one(hammer: Hammer, index: int, checkpoint: Checkpoint) -> None:
    entry = await hammer.ask("GetAuditLog", pb.GetAuditLogRequest(leaf_index=index))
    assert hammer.acknowledged[entry.audit_log.event_id] == index
    asked = pb.GetInclusionProofRequest(leaf_index=index, tree_size=checkpoint.size)
    answer = await hammer.ask("GetInclusionProof", asked)
    leaf, hashes = entry.audit_log.leaf_hash, answer.proof.hashes
    assert verify_inclusion(leaf, index, checkpoint.size, hashes, checkpoint.root), index
    hammer.done["inclusion proofs"] += 1


async def scan(hammer: Hammer) -> None:
    """List everything from the beginning, page by page, again and again."""
    before: list[tuple[int, str, bytes]] = []
    while not hammer.ending.is_set():
        acknowledged = dict(hammer.acknowledged)
        seen: list[tuple[int, str, bytes]] = []
        token = ""
        while True:
            asked = pb.ListAuditLogsRequest(
                filter=ALL, page_size=1_000, page_token=token, oldest_first=True
            )
            page = await hammer.ask("ListAuditLogs", asked)
            seen += [(one.leaf_index, one.event_id, one.leaf_hash) for one in page.audit_logs]
            token = page.next_page_token
            if not token or hammer.ending.is_set():
                break
        assert [entry[0] for entry in seen] == list(range(len(seen))), "a list with gaps"
        assert before[: len(seen)] == seen[: len(before)], "the past has changed"
        if not token:
            listed = {event_id: index for index, event_id, _leaf in seen}
            assert acknowledged.items() <= listed.items(), "acknowledged and not listed"
            hammer.done["scans"] += 1
        before = max(before, seen, key=len)
        await asyncio.sleep(0.2)


async def export(hammer: Hammer, exports: list[bytes]) -> None:
    """Export everything, going on from the last token after each failure."""
    while not hammer.ending.is_set():
        data, token, complete = b"", "", False
        while not complete and not hammer.ending.is_set():
            asked = pb.ExportAuditLogsRequest(resume_token=token)
            pending = b""
            try:
                stream = hammer.chance.choice(hammer.stubs).ExportAuditLogs(
                    asked, metadata=hammer.reading, timeout=30
                )
                async for chunk in stream:
                    pending += chunk.data
                    if chunk.resume_token or chunk.complete:
                        data, pending = data + pending, b""
                        token = chunk.resume_token
                    complete = chunk.complete
            except grpc.aio.AioRpcError as failure:
                hammer.note_failure(failure)
                await asyncio.sleep(0.05)
        if complete:
            hammer.done["exports"] += 1
            exports.append(data)
        await asyncio.sleep(0.5)


async def _cut(hammer: Hammer, stream: Any) -> None:
    await hammer.ending.wait()
    stream.cancel()


async def follow(hammer: Hammer, followed: list[tuple[int, str, bytes]]) -> None:
    """Follow from the first entry, going on from the last position after each failure."""
    position = 0
    while not hammer.ending.is_set():
        asked = pb.FollowAuditLogsRequest(filter=ALL, from_index=position)
        stream = hammer.chance.choice(hammer.stubs).FollowAuditLogs(asked, metadata=hammer.reading)
        ending = asyncio.create_task(_cut(hammer, stream))
        try:
            async for message in stream:
                followed += [
                    (one.leaf_index, one.event_id, one.leaf_hash) for one in message.audit_logs
                ]
                assert message.next_index >= position, "a stream that goes back"
                position = message.next_index
                assert position == len(followed), "a stream with gaps or repetitions"
                if message.HasField("checkpoint"):
                    assert hammer.saw(message.checkpoint.note).size <= position
                    hammer.done["followed checkpoints"] += 1
        except grpc.aio.AioRpcError as failure:
            hammer.note_failure(failure)
        except asyncio.CancelledError:
            if not hammer.ending.is_set():
                raise
        finally:
            ending.cancel()
        hammer.done["follows"] += 1
        await asyncio.sleep(0.05)
