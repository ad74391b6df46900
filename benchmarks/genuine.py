"""A genuine ledger: entries appended as the service does it, signed, so that all of it verifies."""

import asyncio
from collections.abc import Iterator, Mapping
from itertools import islice
from uuid import UUID

from release_manager.audit.v1 import audit_pb2 as pb

from benchmarks.load import new_events
from benchmarks.stage import PRODUCER, USERS, Audit
from services.audit.messages import new_event
from services.audit.rules.events import Sealed, seal
from services.audit.store.appending import append
from shared.clock import system_clock

BATCH = 1_000
KEY = b"k" * 32
POLL_S = 0.2
PEOPLE = "SELECT username, id FROM users WHERE username = ANY($1)"


async def fill(audit: Audit, entries: int) -> None:
    """Append so many entries, rounded to whole batches, and wait until a checkpoint covers them."""
    rows = await audit.owner.fetch(PEOPLE, list(USERS))
    people = {row["username"]: row["id"] for row in rows}
    events = _sealed(people)
    size = await audit.owner.fetchval("SELECT next_index FROM audit_log_head")
    for _ in range(max(1, entries // BATCH)):
        await append(audit.owner, list(islice(events, BATCH)))
        size += BATCH
    await audit.owner.execute("VACUUM (ANALYZE) audit_logs", timeout=600)
    await covered(audit, size)


def _sealed(people: Mapping[str | None, UUID]) -> Iterator[Sealed]:
    for sent in new_events():
        event = new_event(sent)
        user_id = people[event.user]
        now = system_clock()
        yield seal(event, producer=PRODUCER, user_id=user_id, now=now, mac_key=KEY)


async def covered(audit: Audit, size: int) -> None:
    """Wait until the newest checkpoint covers `size` entries."""
    while True:
        answer = await audit.stub.GetCheckpoint(pb.GetCheckpointRequest(), metadata=audit.metadata)
        if answer.checkpoint.tree_size >= size:
            return
        await asyncio.sleep(POLL_S)
