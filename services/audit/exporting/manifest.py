"""The manifest of an export, put together and signed when the last row is sent."""

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from services.audit.exporting.windows import Digest, Pinned
from services.audit.rules.manifest import Form, Manifest, RangeProof, Retired
from services.audit.rules.ranges import subtrees
from services.audit.rules.tiles import hash_of, tile_of
from services.audit.signing.integrator import Integrator
from services.audit.signing.ledger_key import Keys
from services.audit.store import trees
from services.audit.store.queries import Filter
from shared.clock import Clock
from shared.db.engine import Database
from shared.errors import ExportChanged, SigningStopped
from shared.merkle.checkpoint import epoch_of
from shared.merkle.tree import Node, Span

CATEGORIES = ("change", "access", "security")
# How often whoever waits for a checkpoint looks whether the ledger is still the one of the export.
LOOK_EVERY_S = 0.5
_DATES = ("start", "end")


class Manifests:
    """Makes manifests with the keys of the ledger, of trees that a checkpoint covers."""

    def __init__(
        self, database: Database, integrator: Integrator, keys: Keys, clock: Clock
    ) -> None:
        """Take a database under the reader's role, who makes checkpoints, the keys, a clock."""
        self._database = database
        self._integrator = integrator
        self._keys = keys
        self._clock = clock

    async def signed(  # noqa: PLR0913  (what a manifest says)
        self,
        form: Form,
        wanted: Filter,
        pinned: Pinned,
        digest: Digest,
        *,
        caller: UUID,
        user: str = "",
    ) -> str:
        """Return the note of a manifest, as soon as a checkpoint covers the export.

        Raises SigningStopped, and ExportChanged when entries were lost since the export began.
        """
        await self._covered(pinned)
        problem = self._integrator.problem
        if problem is not None:
            raise SigningStopped(size=pinned.size, problem=problem)
        checkpoint, proof = await self._proof(pinned, whole=is_range(wanted))
        manifest = Manifest(
            form=form,
            filter=described(wanted, user),
            leaves=Span(pinned.whole.first, pinned.whole.end),
            rows=digest.rows,
            tree_size=pinned.size,
            size=digest.size,
            sha256=digest.sha256.digest(),
            created_at=_text(self._clock()),
            exported_by=str(caller),
            checkpoint=checkpoint,
            range=proof,
        )
        return await asyncio.to_thread(self._keys.ring.sign, str(manifest))

    async def _covered(self, pinned: Pinned) -> None:
        """Return once a checkpoint covers the export, unless entries of it are lost by then.

        A ledger that lost them may never get as long again.
        """
        while self._integrator.covered < pinned.size:
            async with self._database.snapshot() as tx:
                head = await trees.head(tx)
            if epoch_of(head.origin) != pinned.epoch or head.next_index < pinned.size:
                raise ExportChanged(position=pinned.whole.first)
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._integrator.covering(pinned.size)

    async def _proof(self, pinned: Pinned, *, whole: bool) -> tuple[str, RangeProof | None]:
        """Return the newest checkpoint and, of a whole range, what leads to its root."""
        async with self._database.snapshot() as tx:
            newest = await trees.newest_checkpoint(tx)
            if newest is None:
                raise SigningStopped(size=pinned.size, problem="no checkpoint was ever signed")
            if newest.epoch != pinned.epoch or newest.size < pinned.size:
                # A later epoch says that entries were lost: perhaps some that were exported.
                raise ExportChanged(position=pinned.whole.first)
            if not whole:
                return newest.note, None
            before = subtrees(Span(0, pinned.whole.first))
            after = subtrees(Span(pinned.whole.end, newest.size))
            gone = [subtrees(one.leaves) for one in pinned.retired]
            nodes = [*before, *after, *(node for nodes in gone for node in nodes)]
            tiles = await trees.tiles(tx, {tile_of(node) for node in nodes})

        def hashes(wanted: list[Node]) -> tuple[bytes, ...]:
            return tuple(hash_of(node, tiles) for node in wanted)

        retired = [
            Retired(one.leaves, one.retired_by, hashes(nodes))
            for one, nodes in zip(pinned.retired, gone, strict=True)
        ]
        return newest.note, RangeProof(hashes(before), hashes(after), tuple(retired))


def is_range(wanted: Filter) -> bool:
    """Tell whether nothing but dates narrows a filter, so that its entries follow one another."""
    return all(
        value is None
        for name, value in _members(wanted).items()
        if name not in {*_DATES, "categories"}
    ) and set(wanted.categories) == {*CATEGORIES}


def described(wanted: Filter, user: str) -> Mapping[str, Any]:
    """Return a filter as manifests tell it; `user` is the name by which the caller said it."""
    told: dict[str, Any] = {
        name: value for name, value in _members(wanted).items() if value is not None
    }
    for name in _DATES:
        moment = told.pop(name, None)
        if moment is not None:
            told[f"{name}_date"] = _text(moment)
    if wanted.details is not None:
        told["details"] = json.loads(wanted.details)
    if wanted.user_id is not None:
        told |= {"user_id": str(wanted.user_id), "user": user}
    return told | {"categories": sorted(wanted.categories)}


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _members(wanted: Filter) -> dict[str, Any]:
    return {name: getattr(wanted, name) for name in wanted.__slots__}
