"""The integrator: puts committed entries into the tree and signs its state, at least every second.

Any replica may do it; a pass is one transaction under an advisory lock, so a crash at any point
just leaves its work to the next pass. Before it signs, a pass holds what is stored against the last
checkpoint in the database and the last one outside of it. Where they contradict, it signs nothing:
two signed histories could never be told apart again.
"""

import asyncio
from contextlib import suppress

import structlog
from prometheus_client import Gauge
from sqlalchemy.ext.asyncio import AsyncConnection

from services.audit.rules.epochs import Beginning, placed
from services.audit.rules.replay import Mismatch
from services.audit.rules.tiles import TileKey, Tiles, TileTooShort, edge_of, grown, root_of
from services.audit.signing.checkpoint_file import CheckpointFile, CheckpointFileInvalid
from services.audit.signing.ledger_key import KeyRing, Keys
from services.audit.store import epochs, trees
from services.audit.store.trees import Head, StoredCheckpoint
from shared.db.engine import Database
from shared.errors import SigningStopped
from shared.merkle.checkpoint import Checkpoint
from shared.merkle.note import NoteInvalid
from shared.merkle.tree import EMPTY_ROOT
from shared.rpc.stopping import ended

# Half of the promised second, since a pass takes time too.
EVERY_S = 0.5
# Callers that wait for the next checkpoint cannot hurry it more than this.
BETWEEN_S = 0.02
# How long a pass may take to end when the service stops.
STOPPING_S = 2.0
# One pass hashes this many leaves in some 30 ms, during which no call is answered.
LEAVES_AT_ONCE = 16_384

SIGNED = Gauge("ledger_signed_entries", "Entries covered by the newest signed checkpoint.")
STOPPED = Gauge(
    "ledger_signing_stopped", "1 while checkpoints are not signed, because something contradicts."
)
log = structlog.get_logger(__name__)


class SigningRefused(Exception):
    """What is stored contradicts what was signed; the text says how."""


class Integrator:
    """Integrates the ledger of one database, beside the replicas that do the same."""

    def __init__(self, database: Database, keys: Keys, published: CheckpointFile) -> None:
        """Take a database under the integrator's role, the keys, and the file outside."""
        self._database = database
        self._keys = keys
        self._published = published
        self._size = -1
        self._newest: StoredCheckpoint | None = None
        self._refused: str | None = None
        self._wanted = asyncio.Event()
        self._passed = asyncio.Event()
        self._stopping = False
        self._task: asyncio.Task[None] | None = None

    @property
    def covered(self) -> int:
        """How many entries this process knows to be signed by a log that is as it should be."""
        return self._size

    @property
    def newest(self) -> StoredCheckpoint | None:
        """The newest checkpoint that this process knows; None before the first."""
        return self._newest

    @property
    def problem(self) -> str | None:
        """Why nothing is signed at this moment; None while all is well."""
        return self._refused

    def start(self) -> None:
        """Begin to integrate."""
        self._task = asyncio.create_task(self._run(), name="audit integrator")

    async def stop(self) -> None:
        """Finish the pass that runs, and end; what is left waits for the next start."""
        self._stopping = True
        self._wanted.set()
        if self._task is None:
            return
        await asyncio.wait({self._task}, timeout=STOPPING_S)
        await ended([self._task], STOPPING_S)  # if the database did not answer

    async def covering(self, size: int) -> None:
        """Return once a signed checkpoint covers `size` entries, which are committed already.

        Raises SigningStopped.
        """
        while self._size < size:
            passed = self._passed
            self._wanted.set()
            await passed.wait()
            if self._refused is not None and self._size < size:
                raise SigningStopped(size=size, problem=self._refused)

    async def _run(self) -> None:
        failed = ""
        while not self._stopping:
            self._wanted.clear()
            pause = 0.0
            try:
                behind = await self.integrate()
            except SigningRefused as refused:
                self._stopped(str(refused))
                pause = EVERY_S
            except Exception as error:  # noqa: BLE001  (a database that is away comes back)
                if type(error).__name__ != failed:
                    failed = type(error).__name__
                    log.warning("ledger_not_integrated", error=failed)
                pause = EVERY_S
            else:
                self._stopped(None)
                failed = ""
            self._passed.set()
            self._passed = asyncio.Event()
            await asyncio.sleep(pause or BETWEEN_S)
            if not pause and not behind:
                with suppress(TimeoutError):
                    async with asyncio.timeout(EVERY_S):
                        await self._wanted.wait()

    def _stopped(self, problem: str | None) -> None:
        if problem != self._refused:
            if problem is None:
                log.info("ledger_signing_resumed")
            else:
                log.error("ledger_signing_stopped", problem=problem)
        self._refused = problem
        STOPPED.set(problem is not None)

    async def integrate(self) -> bool:
        """Make one pass; tell whether there is more than one could take. Raises SigningRefused."""
        async with self._database.transaction() as tx:
            await trees.lock_integration(tx)
            ring = self._keys.ring
            head = await trees.head(tx)
            stored = await trees.newest_checkpoint(tx)
            # A restored database may have less than was seen here before.
            self._size = min(self._size, stored.size if stored else -1)
            published = await self._outside(ring)
            self._check(ring, head, stored)
            published = await _of_this_epoch(tx, ring, published)
            _check_sizes(head, stored, published)
            end = min(head.next_index, (stored.size if stored else 0) + LEAVES_AT_ONCE)
            if published is not None:  # at least so far, to be held against it
                end = max(end, published.size)
            if stored is None or end > stored.size:
                stored = await self._extend(tx, ring, stored, published, end)
            elif published is None or published.size < stored.size:
                await self._publish_again(tx, stored, published)
        self._newest, self._size = stored, stored.size
        SIGNED.set(stored.size)
        return stored.size < head.next_index

    async def _outside(self, ring: KeyRing) -> Checkpoint | None:
        try:
            return await asyncio.to_thread(self._published.newest, *ring.verifiers)
        except CheckpointFileInvalid as error:
            raise SigningRefused(str(error)) from error

    def _check(self, ring: KeyRing, head: Head, stored: StoredCheckpoint | None) -> None:
        """Refuse another log than that of the keys, and a checkpoint that they did not sign."""
        if head.origin != ring.origin:
            raise SigningRefused(f"the database is that of the log {head.origin}")
        if stored is None:
            return
        try:
            said = ring.opened(stored.note)
        except NoteInvalid as error:
            raise SigningRefused(f"the newest checkpoint in the database: {error}") from error
        if (said.size, said.root, said.epoch) != (stored.size, stored.root, stored.epoch):
            raise SigningRefused("the newest checkpoint in the database is not what was signed")
        self._newest = stored

    async def _extend(
        self,
        tx: AsyncConnection,
        ring: KeyRing,
        stored: StoredCheckpoint | None,
        published: Checkpoint | None,
        end: int,
    ) -> StoredCheckpoint:
        """Add the entries up to `end` to the tree, sign it, publish and store the checkpoint."""
        size, root = (stored.size, stored.root) if stored else (0, EMPTY_ROOT)
        tiles = await trees.tiles(tx, edge_of(size) | _edge(published))
        leaves = await trees.leaves(tx, size, end)
        if [index for index, _leaf in leaves] != list(range(size, end)):
            raise SigningRefused(f"entries are missing between {size} and {end}")
        try:
            if root_of(size, tiles) != root:
                raise SigningRefused(f"the tiles do not have the root signed for {size} entries")
            changed = grown(tiles, size, [leaf for _index, leaf in leaves])
            tiles |= changed
            _check_published(published, tiles)
            checkpoint = Checkpoint(ring.origin, end, root_of(end, tiles))
        except TileTooShort as error:
            raise SigningRefused(str(error)) from error
        note = await asyncio.to_thread(ring.signed, checkpoint)
        if changed:
            await trees.put_tiles(tx, changed)
        added = StoredCheckpoint(end, checkpoint.root, note, ring.epoch)
        await trees.put_checkpoint(tx, added)
        await self._publish_durable(note)
        return added

    async def _publish_again(
        self, tx: AsyncConnection, stored: StoredCheckpoint, published: Checkpoint | None
    ) -> None:
        """Publish what was stored and is not in the file: it is new, or another replica's."""
        _check_published(published, await trees.tiles(tx, _edge(published)))
        await self._publish_durable(stored.note)

    async def _publish_durable(self, note: str) -> None:
        """Publish what covers entries that this pass saw, once no fail-over can lose them.

        The checkpoint is stored after that, as nobody may see one that is not in the file. So the
        commit that waits for the disks is one of its own, beside the pass.
        """
        async with self._database.transaction() as beside:
            await trees.write_ahead(beside)
        await asyncio.to_thread(self._publish, note)

    def _publish(self, note: str) -> None:
        try:
            self._published.append(note)
        except CheckpointFileInvalid as error:
            raise SigningRefused(str(error)) from error


async def _of_this_epoch(
    tx: AsyncConnection, ring: KeyRing, published: Checkpoint | None
) -> Checkpoint | None:
    """Return what was published, None when this epoch was begun because it is lost."""
    if published is None or published.origin == ring.origin:
        return published
    if published.epoch > ring.epoch:
        raise SigningRefused(f"the log goes on as {published.origin}: ledger.pub is not the newest")
    try:
        begun = [
            Beginning(one.number, one.leaf_index, one.fork, [ring.opened(one.note)])
            for one in await epochs.forks(tx)
            if one.note
        ]
    except NoteInvalid as error:
        raise SigningRefused(f"the checkpoint that ended the last epoch: {error}") from error
    root = placed(published, "published outside the database", begun)
    if isinstance(root, Mismatch):
        raise SigningRefused(root.problem)
    return None if root is None else published


def _check_sizes(head: Head, stored: StoredCheckpoint | None, published: Checkpoint | None) -> None:
    """Refuse what contradicts at first sight."""
    if stored is not None and head.next_index < stored.size:
        raise SigningRefused(f"the ledger has {head.next_index} entries, {stored.size} were signed")
    if published is None:
        return
    if head.next_index < published.size:
        raise SigningRefused(
            f"the ledger has {head.next_index} entries, {published.size} were published"
        )
    if stored is not None and stored.size == published.size and stored.root != published.root:
        raise SigningRefused(f"another root was published for {published.size} entries")


def _edge(published: Checkpoint | None) -> set[TileKey]:
    return edge_of(published.size) if published is not None else set()


def _check_published(published: Checkpoint | None, tiles: Tiles) -> None:
    """Refuse tiles that do not have the root that was published."""
    if published is None:
        return
    try:
        root = root_of(published.size, tiles)
    except TileTooShort as error:
        raise SigningRefused(str(error)) from error
    if root != published.root:
        raise SigningRefused(f"another root was published for {published.size} entries")
