"""The verification of the ledger or a range of it: fields → digest → leaf → tiles → root → note.

It stops at the first position that does not match. What is read is pinned to the size that the
ledger had at the start; entries do not change, so appending goes on meanwhile.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace

from sqlalchemy.exc import NoResultFound

from services.audit.checking.recheck_process import rechecked
from services.audit.checking.rechecking import Window
from services.audit.checking.surroundings import problem_around
from services.audit.checking.tree_checks import Pinned, TreeCheck, WholeTree, part_of_tree
from services.audit.rules.replay import Mismatch, Root
from services.audit.signing.checkpoint_file import CheckpointFile, CheckpointFileInvalid
from services.audit.signing.history import History, read_history
from services.audit.signing.integrator import Integrator
from services.audit.signing.ledger_key import LOOK_EVERY_S, Keys
from services.audit.store import trees
from services.audit.store.trees import StoredCheckpoint
from shared.db.engine import Database
from shared.domain_error import FieldViolation
from shared.errors import PositionOutOfRange, SigningStopped, ValidationFailed
from shared.merkle.checkpoint import Checkpoint
from shared.merkle.note import NoteInvalid
from shared.merkle.tree import EMPTY_ROOT

WAITING_S = 5.0


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a verification is: entries verified, and how many there and covered by signature.

    Of those verified, `redacted` have erased fields and `retired` are gone with their month. The
    last one is `complete`, with the mismatch if there is one.
    """

    verified: int
    entries: int
    signed: int
    complete: bool = False
    mismatch: Mismatch | None = None
    redacted: int = 0
    retired: int = 0

    def after(self, verified: int, window: Window | None) -> "Progress":
        """Return the progress after so many entries, the last of them those of a window."""
        if window is None:
            return replace(self, verified=verified)
        redacted, retired = self.redacted + window.redacted, self.retired + window.retired
        return replace(self, verified=verified, redacted=redacted, retired=retired)


class Verification:
    """Verifies the ledger, for one caller at a time."""

    def __init__(
        self,
        database: Database,
        integrator: Integrator,
        keys: Keys,
        published: CheckpointFile,
    ) -> None:
        """Take a database under the reader's role, the public keys, and the file outside."""
        self._database = database
        self._integrator = integrator
        self._keys = keys
        self._published = published
        self._one_at_a_time = asyncio.Lock()

    async def run(
        self, known: str = "", first: int = 0, end: int = 0
    ) -> AsyncGenerator[Progress, None]:
        """Verify the entries from `first` up to, not including, `end`, 0 for the last.

        `known` is a note that the caller has kept. Raises ValidationFailed when that is no
        checkpoint of this ledger's key, and PositionOutOfRange for a range that is not there.
        """
        kept = [self._kept(known)] if known else []
        async with self._one_at_a_time:
            try:
                pinned, history = await self._pin()
            except NoResultFound:
                missing = Mismatch(0, "The head of the ledger is missing.")
                yield Progress(0, 0, 0, complete=True, mismatch=missing)
                return
            end = _checked_end(pinned, first, end)
            mismatch = await self._outside(pinned, history, kept) or _below(pinned)
            made = Progress(0, pinned.entries, pinned.signed)
            if mismatch is None:
                tree = await self._tree(pinned, first, end)
                async with aclosing(self._held(tree, first, end)) as steps:
                    async for done, mismatch, window in steps:  # noqa: B007  (the last one counts)
                        made = made.after(done - first, window)
                        yield made
                mismatch = (
                    mismatch
                    or _beyond(pinned, tree.held)
                    or await problem_around(self._database, first, end, pinned.entries)
                )
            yield replace(made, complete=True, mismatch=mismatch)

    async def _tree(self, pinned: Pinned, first: int, end: int) -> TreeCheck:
        if (first, end) == (0, pinned.entries):
            return WholeTree(self._database, pinned)
        return await part_of_tree(self._database, pinned, first, end)

    async def _held(
        self, tree: TreeCheck, first: int, end: int
    ) -> AsyncGenerator[tuple[int, Mismatch | None, Window | None], None]:
        """Yield up to where entries match, window by window, and at last what does not."""
        async with aclosing(rechecked(self._database, first, end)) as windows:
            async for window in windows:
                done = window.first + len(window.leaves)
                mismatch = await tree.window(window)
                if mismatch is not None:
                    yield max(window.first, min(mismatch.first, done)), mismatch, None
                    return
                yield done, None, window
        problem = tree.end()
        if problem is not None:
            yield end, problem, None

    def _kept(self, note: str) -> tuple[Checkpoint, str]:
        try:
            checkpoint = self._keys.ring.opened(note)
        except NoteInvalid as error:
            violation = FieldViolation("known_checkpoint", f"is not one of this ledger: {error}")
            raise ValidationFailed(
                count=1, first=f"known_checkpoint {violation.description}", fields=(violation,)
            ) from error
        return checkpoint, "that you have kept"

    async def _pin(self) -> tuple[Pinned, History]:
        async with self._database.snapshot() as tx:
            size = (await trees.head(tx)).next_index
        # So that as much as possible is held against a signature.
        with suppress(SigningStopped, TimeoutError):
            async with asyncio.timeout(WAITING_S):
                await self._integrator.covering(size)
        async with self._database.snapshot() as tx:
            head = await trees.head(tx)
            stored = await trees.newest_checkpoint(tx)
            lowest, highest = await trees.ends(tx)
            history = await read_history(tx, self._keys.ring)
            return Pinned(head.next_index, stored, lowest, highest, self._signed), history

    async def _outside(
        self, pinned: Pinned, history: History, kept: Sequence[tuple[Checkpoint, str]]
    ) -> Mismatch | None:
        """Add what is known outside; anything the matter with the file or epochs is a mismatch."""
        verifiers = self._keys.ring.verifiers
        try:
            published = await asyncio.to_thread(self._published.newest, *verifiers)
        except CheckpointFileInvalid as error:
            return Mismatch(0, str(error))
        known = [*kept]
        if published is not None:
            known.append((published, "published outside the database"))
        mismatches = [history.problem, await self._begun_without_key(history)]
        for checkpoint, label in known:
            root = history.root(checkpoint, label)
            if isinstance(root, Mismatch):
                mismatches.append(root)
            elif root is not None:
                pinned.known.append(root)
        return min(filter(None, mismatches), default=None)

    async def _begun_without_key(self, history: History) -> Mismatch | None:
        """Find an epoch that `ledger.pub` does not know.

        Whoever has only the database can write one, with an entry that gives up what was signed.
        The command writes the key's new name first, which is seen a moment later.
        """
        last = history.beginnings[-1].number if history.beginnings else 0
        if last > self._keys.ring.epoch:
            await asyncio.sleep(2 * LOOK_EVERY_S)
        newest = self._keys.ring.epoch
        begun = next((one for one in history.beginnings if one.number > newest), None)
        if begun is None:
            return None
        return Mismatch(
            begun.fork,
            f"The epoch {begun.number} that the entry at {begun.leaf_index} began is not that of"
            f" the keys, which sign epoch {newest}: either ledger.pub is not the newest, or"
            " somebody who has only the database gave up what was signed.",
        )

    def _signed(self, row: StoredCheckpoint) -> Root:
        """Return what a stored checkpoint says; one that was not signed so cannot match."""
        label = "stored"
        try:
            checkpoint = self._keys.ring.opened(row.note)
        except NoteInvalid as error:
            return Root(row.size, b"", f"{label} ({error})")
        said = (checkpoint.size, checkpoint.root, checkpoint.epoch)
        if said != (row.size, row.root, row.epoch):
            return Root(row.size, b"", f"{label}, which is not what was signed")
        return Root(row.size, row.root, label)


def _checked_end(pinned: Pinned, first: int, end: int) -> int:
    """Return where a range ends; raises PositionOutOfRange unless the ledger has all of it."""
    entries = pinned.entries
    if end > entries or (first and first >= entries):
        raise PositionOutOfRange(position=max(first, end - 1), size=entries)
    return end or entries


def _below(pinned: Pinned) -> Mismatch | None:
    """Find what is there before the first entry, or was signed of an empty ledger."""
    if pinned.lowest is not None and pinned.lowest < 0:
        return Mismatch(pinned.lowest, f"There is an entry at {pinned.lowest}.")
    wrong = [root for root in pinned.known if root.size == 0 and root.root != EMPTY_ROOT]
    return Mismatch(0, wrong[0].problem) if wrong else None


def _beyond(pinned: Pinned, held: int) -> Mismatch | None:
    """Find what is there after the last entry, or what was there once.

    Where something was there once, nothing proves the entries after the first `held`.
    """
    entries = pinned.entries
    proved = min(held, entries)
    longest = max(pinned.known, default=Root(0, b"", ""))
    if longest.size > entries:
        return Mismatch(
            proved,
            f"The ledger ends at {entries}, but the checkpoint {longest.label} covers"
            f" {longest.size} entries.",
        )
    if pinned.signed > entries:
        return Mismatch(
            proved, f"The ledger ends at {entries}, but {pinned.signed} entries were signed."
        )
    if pinned.highest is not None and pinned.highest >= entries:
        return Mismatch(entries, f"There is an entry at {pinned.highest}, beyond the end.")
    return None
