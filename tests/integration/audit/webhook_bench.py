"""A ledger with all that senders of webhooks need, on a clock that the test moves."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from services.audit.notifying.changing import Asked
from services.audit.notifying.entries import Entries
from services.audit.notifying.reading import Windows
from services.audit.notifying.receivers import Receivers
from services.audit.notifying.sender import FOREVER_S, Sender, Sending
from services.audit.notifying.webhooks import Found, Webhooks
from services.audit.reading.head_watch import HeadWatch, Seen
from services.audit.rules.events import Event
from services.audit.rules.webhook_retries import Patience
from services.audit.rules.webhook_targets import Targets
from services.audit.signing.checkpoint_file import CheckpointFile
from services.audit.signing.integrator import Integrator
from services.audit.signing.ledger_key import LedgerKeys
from shared.db.engine import Database
from shared.identity.actor import Actor, Call, Role, current_call
from shared.ids import new_id
from shared.paging import PageTokens
from tests.integration.audit.conftest import SECRET, World

HOUR = timedelta(hours=1)
LOCAL = Targets(frozenset({"127.0.0.1"}), plain_http=True)


@dataclass
class MovableClock:
    """A clock that stands still until it is moved."""

    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __call__(self) -> datetime:
        """Return its time."""
        return self.now


@dataclass
class Bench:
    """A ledger, its signer, and what senders need."""

    world: World
    integrator: Integrator
    sending: Sending
    watch: HeadWatch
    webhooks: Webhooks
    clock: MovableClock

    async def webhook(self, url: str, name: str = "chat") -> UUID:
        """Create a webhook."""
        made: list[Found] = []
        values = {
            "name": name,
            "url": url,
            "event_types": [],
            "environments": [],
            "services": [],
            "description": "",
            "paused": False,
        }

        def keep(found: Found) -> bytes:
            made.append(found)
            return b""

        await self.webhooks.create(values, Asked(), keep)
        found_id: UUID = made[0].webhook.id
        return found_id

    async def resume(self, name: str = "chat") -> None:
        """Let a paused webhook go on."""
        await self.webhooks.update(name, "", {"paused": False}, Asked(), lambda _found: b"")

    async def happen(self, number: int, *, sign: bool = True) -> list[str]:
        """Append so many starts of deployments; return their ids."""
        status = {"before": {"status": "pending"}, "after": {"status": "in-progress"}}
        details: dict[str, object] = {"release": "auth@1.0.0", "environment": "prod", **status}
        events = [
            Event("start", "deployment", f"d-{at}", event_id=new_id(), details=details)
            for at in range(number)
        ]
        for first in range(0, number, 100):
            await self.world.ledger.log_all(self.world.producer, events[first : first + 100])
        if sign:
            await self.sign()
        return [str(event.event_id) for event in events]

    async def sign(self) -> None:
        """Sign all there is."""
        while await self.integrator.integrate():
            pass

    async def seen(self) -> Seen:
        """Return how far the ledger is."""
        return await self.watch.look()

    async def run(self, sender: Sender, *, move: bool = True) -> None:
        """Step until there is nothing to do, moving the clock over every pause."""
        while (pause := await sender.step(await self.seen())) is not None and pause < FOREVER_S:
            if pause and not move:
                return
            self.clock.now += timedelta(seconds=pause)

    async def row(self, table: str, columns: str = "*") -> Sequence[Any]:
        """Return the rows of a table."""
        return list(await self.world.owner.fetch(f"SELECT {columns} FROM {table}"))

    async def told(self) -> list[str]:
        """Return what the ledger tells of webhooks."""
        rows = await self.world.rows()
        return [row["action"] for row in rows if row["resource_type"] == "webhook"]


@asynccontextmanager
async def running_bench(world: World, directory: Path) -> AsyncIterator[Bench]:
    """Provide what senders need, on the ledger of a world."""
    url, clock = world.url, MovableClock()
    object.__setattr__(world.producer, "username", "deployment")
    actor = Actor(world.user_id, "admin", Role.ADMIN)
    current_call.set(Call(request_id="r", method="/m", actor=actor))
    notifier = Database(url, role="rm_audit_notifier", application_name="test notifier")
    tree = Database(url, role="rm_audit_integrator", application_name="test integrator")
    integrator = Integrator(tree, LedgerKeys(directory), CheckpointFile(directory / "checkpoints"))
    # A time-out by the clock of the machine would ask for a retry by the one that stands still.
    entries, receivers = Entries(SECRET, clock), Receivers(LOCAL, 30.0)
    sending = Sending(
        database=notifier,
        windows=Windows(world.reader),
        receivers=receivers,
        entries=entries,
        clock=clock,
        patience=Patience(24 * HOUR, 72 * HOUR),
        secret=SECRET,
        source="/test",
        luck=lambda: 0.0,
    )
    tokens = PageTokens(SECRET)
    webhooks = Webhooks(notifier, tokens, entries, LOCAL, secret=SECRET, clock=clock)
    watch = HeadWatch(world.reader)
    yield Bench(world, integrator, sending, watch, webhooks, clock)
    await watch.close()
    await receivers.close()
    for database in (notifier, tree):
        await database.close()
