"""A ledger with keys and a file of checkpoints, which is signed when a test says so."""

from dataclasses import dataclass
from pathlib import Path

import asyncpg

from services.audit.appending.own_entries import OwnEntries
from services.audit.checking.verification import Progress, Verification
from services.audit.rules.events import Event
from services.audit.signing.checkpoint_file import CheckpointFile
from services.audit.signing.integrator import Integrator
from services.audit.signing.ledger_key import LedgerKeys
from services.audit.signing.new_epoch import NewEpoch
from shared.db.engine import Database
from shared.ids import new_id
from tests.integration.audit.conftest import SECRET, World
from tests.support.walls import lose_end


@dataclass
class SignedLedger:
    """The ledger of a world, its key directory, and databases under the roles of commands."""

    world: World
    directory: Path
    tree: Database
    as_owner: Database

    @property
    def keys(self) -> LedgerKeys:
        """The keys, read now."""
        return LedgerKeys(self.directory)

    @property
    def file(self) -> CheckpointFile:
        """The file outside."""
        return CheckpointFile(self.directory / "checkpoints")

    @property
    def entries(self) -> OwnEntries:
        """Who makes the entries of commands."""
        return OwnEntries(self.world.writer, self.world.reader, SECRET)

    @property
    def new_epoch(self) -> NewEpoch:
        """The command that begins an epoch."""
        return NewEpoch(self.as_owner, self.entries, self.directory, self.file)

    @property
    def owner(self) -> asyncpg.Connection:
        """The owner's connection."""
        return self.world.owner

    def integrator(self) -> Integrator:
        """Return a new replica's integrator, not started."""
        return Integrator(self.tree, self.keys, self.file)

    async def append(self, count: int, *, prefix: str = "d", signed: bool = True) -> list[Event]:
        """Append events and return them; sign them too, unless told not to."""
        events = [
            Event(
                "deploy",
                "deployment",
                f"{prefix}-{number}",
                event_id=new_id(),
                aggregate=f"deployment:{prefix}-{new_id()}",
                aggregate_seq=1,
            )
            for number in range(count)
        ]
        if events:
            await self.world.ledger.log_all(self.world.producer, events)
        if signed:
            await self.sign()
        return events

    async def sign(self) -> None:
        """Make passes until everything is signed; raises SigningRefused."""
        integrator = self.integrator()
        while await integrator.integrate():
            pass

    async def verified(self, known: str = "") -> Progress:
        """Return what a verification says at its end."""
        integrator = self.integrator()
        integrator.start()
        try:
            verification = Verification(self.world.reader, integrator, self.keys, self.file)
            return [made async for made in verification.run(known)][-1]
        finally:
            await integrator.stop()

    async def notes(self) -> list[str]:
        """Return all stored notes, in the order of epochs and sizes."""
        rows = await self.owner.fetch(
            "SELECT note FROM audit_checkpoints ORDER BY epoch, tree_size"
        )
        return [row["note"] for row in rows]

    async def restore(self, size: int, *, tree_too: bool = True) -> None:
        """Take the database back to `size` entries; see `lose_end`."""
        await lose_end(self.owner, size, tree_too=tree_too)
