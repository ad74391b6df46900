"""A signed ledger with entries of past months, and what erases, drops and holds them."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from services.audit.checking.verification import Progress, Verification
from services.audit.reading.entries import Reading
from services.audit.retention.announcing import Announcer
from services.audit.rules.events import Event, Sealed, microseconds, seal
from services.audit.rules.leaf import TAGS, commitments, field_salt
from services.audit.rules.recheck import entry_id, values_of
from services.audit.rules.redaction import redact_details
from services.audit.servicer_retention import Keeping
from services.audit.signing.checkpoint_file import CheckpointFile
from services.audit.signing.integrator import Integrator
from services.audit.signing.ledger_key import LedgerKeys
from services.audit.signing.proofs import Proofs
from services.audit.store.appending import append_past
from services.audit.store.retention import Hold
from shared.clock import system_clock
from shared.db.engine import Database
from shared.identity.actor import Actor, Call, Role, current_call
from shared.ids import new_id
from shared.paging import PageTokens
from tests.integration.audit.conftest import SECRET, World

# Three months that are over for longer than 90 days, and how many entries each has.
MONTHS = (date(2025, 1, 1), date(2025, 2, 1), date(2025, 3, 1))
PER_MONTH = 20
PAST = len(MONTHS) * PER_MONTH
LATER = 10


@dataclass
class Kept:
    """The ledger of a world, its integrator, and the operations of retention."""

    world: World
    keeper: Database
    integrator: Integrator
    verification: Verification
    proofs: Proofs
    reading: Reading
    keeping: Keeping
    directory: Path

    @property
    def owner(self) -> Any:
        return self.world.owner

    async def run(self, known: str = "") -> Progress:
        """Return the end of a verification."""
        return [made async for made in self.verification.run(known)][-1]

    async def intact(self) -> tuple[int, int]:
        """Verify; return how many entries are redacted and how many retired."""
        last = await self.run()
        assert last.mismatch is None, last.mismatch
        return last.redacted, last.retired

    async def found(self) -> tuple[int, str]:
        """Verify; return what does not match."""
        last = await self.run()
        assert last.mismatch is not None, "nothing was found"
        return last.mismatch

    async def redact(self, key: Any, *fields: str) -> Any:
        """Erase fields; return the entry that orders it."""
        order = (await self.keeping.redacting.redact(key, fields, "x")).order
        assert order is not None
        return order

    async def row(self, position: int) -> Any:
        """Return an entry as it is stored."""
        return await self.owner.fetchrow(
            "SELECT *, details::text AS text FROM audit_logs WHERE leaf_index = $1", position
        )

    async def append(self, count: int = 1) -> None:
        """Append entries of today."""
        events = [event(number, new_id()) for number in range(count)]
        await self.world.ledger.log_all(self.world.producer, events)

    async def walls_down(self) -> None:
        """Do as a superuser may."""
        for table in ("audit_logs", "audit_retirements", "audit_kept_entries"):
            await self.owner.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")


def event(number: int, event_id: Any = None) -> Event:
    """Return an event with something in every field that can be erased."""
    return Event(
        "deploy",
        "deployment",
        f"d-{number}",
        event_id=event_id,
        user="somebody" if number % 3 else None,
        details={"n": number, "share": 0.5, "list": [1, None, True, "\u00e9"], "far": 1e-7},
        ip_address="192.0.2.7" if number % 2 else "2001:db8::7",
        user_agent="agent" if number % 4 else None,
    )


# In the second month, an entry that orders a redaction of one of the first month.
ORDER, ORDERED = PER_MONTH + 4, 3


def order() -> Event:
    """Return the event of the entry at ORDER."""
    stored = datetime(2025, 1, 1, tzinfo=UTC) + timedelta(hours=ORDERED)
    entry = UUID(int=entry_id(microseconds(stored), ORDERED))
    details = redact_details(ORDERED, ["details"], None, "x")
    return Event("redact", "audit_log", str(entry), details=details)


async def erase_as_ordered(kept: "Kept") -> None:
    """Do by hand what the entry at ORDER says."""
    row = await kept.row(ORDERED)
    values = values_of(dict(row) | {"details": row["text"]})
    committed = dict(zip(TAGS, commitments(values, row["salt"]), strict=True))
    redactions = {
        "leaf": ORDER,
        "fields": {"details": committed["details"].hex()},
        "salts": {tag: field_salt(row["salt"], tag).hex() for tag in TAGS if tag != "details"},
    }
    await kept.owner.execute(
        "UPDATE audit_logs SET details = '{}', salt = NULL, redactions = $2 WHERE leaf_index = $1",
        *(ORDERED, json.dumps(redactions)),
    )


async def fill(world: World, *, ordered: bool) -> None:
    """Append the entries of the past months, then some of today."""
    events: list[Sealed] = []
    times: list[datetime] = []
    for month in MONTHS:
        await world.owner.execute("SELECT audit_ensure_partitions($1, 1)", month)
        start = datetime(month.year, month.month, 1, tzinfo=UTC)
        for number in range(PER_MONTH):
            times.append(start + timedelta(hours=number))
            is_order = ordered and len(events) == ORDER
            events.append(
                seal(
                    order() if is_order else event(len(events)),
                    producer="audit" if is_order else "deployment",
                    user_id=world.user_id if len(events) % 3 else None,
                    now=times[-1],
                    mac_key=SECRET,
                )
            )
    await append_past(world.owner, events, times)
    today = [event(number, new_id()) for number in range(LATER)]
    await world.ledger.log_all(world.producer, today)


@asynccontextmanager
async def keeping(world: World, directory: Path, *, ordered: bool = False) -> AsyncIterator[Kept]:
    """Provide a filled ledger whose integrator runs, with the caller `somebody`, an admin.

    With `ordered` it has the entry at ORDER.
    """
    await fill(world, ordered=ordered)
    tree = Database(world.url, role="rm_audit_integrator", application_name="test integrator")
    keeper = Database(world.url, role="rm_audit_keeper", application_name="test keeper")
    keys, file = LedgerKeys(directory), CheckpointFile(directory / "checkpoints")
    integrator = Integrator(tree, keys, file)
    tokens = PageTokens(SECRET)
    announcer = Announcer(SECRET, system_clock)
    made = Kept(
        world,
        keeper,
        integrator,
        Verification(world.reader, integrator, keys, file),
        Proofs(world.reader, integrator),
        Reading(world.reader, tokens),
        Keeping.of((keeper, world.reader), tokens, integrator, announcer),
        directory,
    )
    admin = Actor(world.user_id, "somebody", Role.ADMIN)
    known = current_call.set(Call("/test", "request", "198.51.100.1", "test agent", admin))
    integrator.start()
    try:
        yield made
    finally:
        current_call.reset(known)
        await integrator.stop()
        await tree.close()
        await keeper.close()


def hold(world: World, name: str = "case-1", **narrowed: Any) -> Hold:
    """Return a hold on everything but for what is narrowed."""
    nothing: dict[str, Any] = dict.fromkeys(
        (
            *("user_id", "action", "resource_type", "resource_id", "start_at", "end_at"),
            *("producer", "category", "details"),
        )
    )
    fixed = {"id": new_id(), "name": name, "reason": "a case", "placed_by": world.user_id}
    return Hold(**(nothing | fixed | narrowed))


def without(fields: Sequence[str], row: Any) -> dict[str, Any]:
    """Return the columns of a row but for some, and for what a redaction changes beside them."""
    beside = {*fields, "salt", "redactions", "text"}
    return {name: value for name, value in dict(row).items() if name not in beside}
