"""A new epoch: going on, under another name, after entries that were signed are gone.

For a database that was restored from an old backup, or lost its end in a fail-over. What survived
keeps its place; the next entry says what is lost, and quotes the checkpoints that prove it.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from services.audit.appending.own_entries import OwnEntries
from services.audit.rules.epochs import ACTION, RESOURCE_TYPE, Fork
from services.audit.rules.tiles import TileKey, hashes_in
from services.audit.signing import history
from services.audit.signing.checkpoint_file import CheckpointFile
from services.audit.signing.key_changes import CommandRefused, keep_public, key_name, replace
from services.audit.signing.ledger_key import KeyRing, LedgerKeys
from services.audit.store import epochs, trees
from services.audit.store.trees import StoredCheckpoint
from shared.db.engine import Database
from shared.merkle.checkpoint import Checkpoint, origin_of
from shared.merkle.key_files import PUBLIC
from shared.merkle.note import NoteInvalid, Verifier
from shared.merkle.tree import HASH_BYTES

LEAVES_AT_ONCE = 32_768
MOST_REASON = 1_000


@dataclass(frozen=True, slots=True)
class Plan:
    """What a new epoch would do: its number, and what was found out of the ledger.

    `fork` is the size up to which all that was signed holds, `entries` how many there are,
    `signed` how many were. `note` is the last published one, `stored` the last in the database.
    """

    number: int
    fork: int
    entries: int
    signed: int
    note: str
    stored: StoredCheckpoint | None
    notes: Sequence[str] = field(default_factory=tuple)

    @property
    def is_behind(self) -> bool:
        """Whether there are fewer entries than were signed."""
        return self.entries < self.signed

    @property
    def sentences(self) -> list[str]:
        """What will be done, for whoever decides."""
        least = max(0, self.signed - self.entries)
        most = self.signed - self.fork
        return [
            f"{self.signed} entries were signed, the ledger has {self.entries}.",
            f"Everything signed holds for the first {self.fork} entries.",
            f"So {least} to {most} entries are lost. What their producers kept is delivered again.",
            f"The entry at {self.entries} or after it will say so, with the reason.",
            f"From then on the ledger is signed as {origin_of(self.number)}.",
        ]


class NewEpoch:
    """Finds out what is lost, and begins an epoch that says so."""

    def __init__(
        self, owner: Database, entries: OwnEntries, directory: Path, published: CheckpointFile
    ) -> None:
        """Take the database as its owner, who makes entries, the keys, and the file outside."""
        self._owner = owner
        self._entries = entries
        self._directory = directory
        self._published = published

    async def plan(self) -> Plan:
        """Find out what a new epoch would do; changes nothing.

        Raises CommandRefused when nothing is lost, or when something else is the matter.
        """
        ring = LedgerKeys(self._directory).ring
        published = await asyncio.to_thread(self._all_published, ring)
        async with self._owner.snapshot() as tx:
            head = await trees.head(tx)
            number = await epochs.newest_number(tx)
            stored = await self._all_stored(tx, ring)
            strays = await epochs.stray_entries(tx, head.next_index)
            if strays:
                raise CommandRefused(f"{strays} entries are beyond the end: that is no restore.")
            if ring.epoch < number:
                raise CommandRefused(
                    f"The database is that of {head.origin}: put back the newest {PUBLIC} first."
                )
            begun = await epochs.forks(tx)
            everything = [
                one
                for one in [*published, *(checkpoint for checkpoint, _row in stored)]
                if not any(one.epoch < later.number and one.size > later.fork for later in begun)
            ]
            fork = await self._fork(tx, everything, head.next_index)
            newest = await trees.newest_checkpoint(tx)
            retired = await epochs.retired_up_to(tx)
        if fork.size < retired:
            raise CommandRefused(
                f"Entries up to {retired} were retired, and only the tree has their leaves: it must"
                f" not be cut back to {fork.size}. That is no restore."
            )
        signed = max((one.size for one in everything), default=0)
        if fork.differing is None and fork.beyond is None and ring.origin == head.origin:
            raise CommandRefused("Nothing is lost: every checkpoint holds. Nothing was changed.")
        last = published and self._published.last(*ring.verifiers)
        note = last[1] if last else ""
        lost = [row.note for checkpoint, row in stored[-1:] if checkpoint.size > fork.size]
        number = 1 + max([number, *(one.epoch for one in published)])
        return Plan(
            number, fork.size, head.next_index, signed, note or "".join(lost), newest, tuple(lost)
        )

    async def begin(self, plan: Plan, reason: str) -> AsyncGenerator[str, None]:
        """Carry out a plan, unless the ledger has changed in more than new entries since.

        Yields a sentence after each step. Until the last one nothing has changed but files that
        are only added, and `ledger.pub`; given again, the command does the rest. Raises
        CommandRefused.
        """
        async with self._owner.transaction() as tx:
            if not await epochs.may_begin(tx):
                raise CommandRefused("Only the owner of the tables may begin an epoch.")
            await epochs.lock_commands(tx)
            ring = LedgerKeys(self._directory).ring
            following = Verifier(origin_of(plan.number), ring.verifier.public)
            await trees.lock_integration(tx)
            epoch, _next_index = await epochs.lock_head(tx)
            last = self._published.last(*ring.verifiers)
            stored = await trees.newest_checkpoint(tx)
            if epoch >= plan.number or (last or (None, ""))[1] not in {plan.note, ""}:
                raise CommandRefused("Another epoch was begun meanwhile. Nothing was changed.")
            if stored != plan.stored:
                raise CommandRefused("The ledger was signed meanwhile. Nothing was changed.")
            yield "Nobody appends or signs until this is done."
            details = await self._details(tx, plan, ring, reason)
            entry = await self._entries.sealed(
                tx, ACTION, RESOURCE_TYPE, origin_of(plan.number), details
            )
            index = await epochs.begin(tx, plan.number, plan.fork, plan.note, entry)
            yield f"The entry at {index} is ready."
            for verifier in ring.verifiers:
                keep_public(self._directory, verifier)
            replace(self._directory / PUBLIC, f"{following}\n".encode())
            yield f"{PUBLIC} has the name {following.name}: give it to everybody who checks."
        yield f"Epoch {plan.number} has begun with the entry at {index}."

    async def _details(
        self, tx: AsyncConnection, plan: Plan, ring: KeyRing, reason: str
    ) -> dict[str, Any]:
        known = await epochs.later_epochs(tx)
        numbers = [*(epoch.number for epoch in known), plan.number]
        forks = [*(epoch.fork for epoch in known), plan.fork]
        _epoch, entries = await epochs.lock_head(tx)
        told = history.details(
            number=plan.number,
            origin=origin_of(plan.number),
            fork=plan.fork,
            note=plan.note,
            notes=plan.notes,
            lost=await epochs.abandoned(tx, numbers, forks, plan.number),
        )
        return told | {
            "reason": reason,
            "entries": entries,
            "signed_entries": plan.signed,
            "lost_at_least": max(0, plan.signed - plan.entries),
            "lost_at_most": plan.signed - plan.fork,
            "signing_key": key_name(ring.verifier),
        }

    def _all_published(self, ring: KeyRing) -> list[Checkpoint]:
        return [
            checkpoint
            for note in self._published.all()
            if (checkpoint := _opened(note, ring)) is not None
        ]

    async def _all_stored(
        self, tx: AsyncConnection, ring: KeyRing
    ) -> list[tuple[Checkpoint, StoredCheckpoint]]:
        found: list[tuple[Checkpoint, StoredCheckpoint]] = []
        above = -1
        while rows := await trees.checkpoints(tx, above=above, limit=epochs.NOTES_AT_ONCE):
            for row in rows:
                checkpoint = _opened(row.note, ring)
                if checkpoint is None:
                    raise CommandRefused(
                        f"The checkpoint of {row.size} entries in the database is of no known key."
                    )
                found.append((checkpoint, row))
            above = rows[-1].size
        return found

    async def _fork(self, tx: AsyncConnection, checkpoints: Sequence[Checkpoint], end: int) -> Fork:
        fork = Fork(set(checkpoints))
        for first in range(0, end, LEAVES_AT_ONCE):
            fork.add(await _leaves(tx, first, min(end, first + LEAVES_AT_ONCE)))
            if fork.differing is not None:
                break
        return fork


def _opened(note: str, ring: KeyRing) -> Checkpoint | None:
    try:
        return ring.opened(note)
    except NoteInvalid:
        return None


async def _leaves(tx: AsyncConnection, first: int, end: int) -> list[bytes]:
    """Return the leaves of a range: those of entries, and of retired ones those in the tiles."""
    found = dict(await trees.leaves(tx, first, end))
    if len(found) < end - first:
        keys = {TileKey(0, place) for place in range(first // 256, (end + 255) // 256)}
        for key, content in (await trees.tiles(tx, keys)).items():
            for at, leaf in enumerate(hashes_in(content), 256 * key.place):
                found.setdefault(at, leaf)
    missing = next((at for at in range(first, end) if len(found.get(at, b"")) != HASH_BYTES), None)
    if missing is not None:
        raise CommandRefused(f"The entry at {missing} is missing: that is no restore.")
    return [found[at] for at in range(first, end)]
