"""Exports during which entries are lost and a new epoch begins."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from services.audit.exporting.export import Chunk, ExportQuery, Exports
from services.audit.exporting.manifest import CATEGORIES, Manifests
from services.audit.rules.manifest import Form
from services.audit.signing import ledger_key
from services.audit.store.queries import Filter
from shared.clock import system_clock
from shared.db.engine import Database
from shared.errors import ExportChanged
from shared.paging import PageTokens
from tests.integration.audit.conftest import SECRET, World
from tests.integration.audit.signing import SignedLedger

SIZE, LEFT, AGAIN = 10, 6, 12
ENDED_S = 60  # an export that does not end waits for ever


@pytest_asyncio.fixture
async def ledger(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[SignedLedger]:
    """A signed ledger whose keys are looked at each time."""
    monkeypatch.setattr(ledger_key, "LOOK_EVERY_S", 0.0)
    tree = Database(world.url, role="rm_audit_integrator", application_name="test integrator")
    owner = Database(world.url, role=None, application_name="test command")
    made = SignedLedger(world, tmp_path, tree, owner)
    await made.append(SIZE)
    yield made
    await tree.close()
    await owner.close()


async def exported(ledger: SignedLedger, wanted: Filter, meanwhile: Any) -> list[Chunk]:
    """Export; something happens when the first chunk was sent, and all is signed after that."""
    keys, chunks = ledger.keys, list[Chunk]()
    integrator = ledger.integrator()
    await integrator.integrate()

    async def take(chunk: Chunk) -> None:
        chunks.append(chunk)
        if len(chunks) == 1:
            await meanwhile()
            await integrator.integrate()
            integrator.start()

    manifests = Manifests(ledger.world.reader, integrator, keys, system_clock)
    exports = Exports(ledger.world.reader, PageTokens(SECRET), manifests)
    asked = ExportQuery("export", ledger.world.user_id, wanted, Form.NDJSON)
    try:
        await asyncio.wait_for(exports.run(asked, take), ENDED_S)
    finally:
        await integrator.stop()
    return chunks


WANTED = [Filter(categories=CATEGORIES), Filter(resource_type="deployment")]


@pytest.mark.parametrize("again", [AGAIN, 0], ids=["longer", "shorter"])
@pytest.mark.parametrize("wanted", WANTED, ids=["everything", "narrowed"])
async def test_what_was_lost_after_it_was_exported_gets_no_manifest(
    ledger: SignedLedger, wanted: Filter, again: int
) -> None:
    """Also when the ledger never gets as long again as the export was."""

    async def lose() -> None:
        await ledger.restore(LEFT)
        command = ledger.new_epoch
        async for _sentence in command.begin(await command.plan(), "the disk failed"):
            pass
        await ledger.append(again)

    with pytest.raises(ExportChanged):
        await exported(ledger, wanted, lose)


@pytest.mark.parametrize("wanted", WANTED, ids=["everything", "narrowed"])
async def test_what_was_lost_before_it_began_hinders_no_manifest(
    ledger: SignedLedger, wanted: Filter
) -> None:
    await ledger.restore(LEFT)
    command = ledger.new_epoch
    async for _sentence in command.begin(await command.plan(), "the disk failed"):
        pass

    async def grow() -> None:
        await ledger.append(AGAIN)

    chunks = await exported(ledger, wanted, grow)
    assert chunks[-1].manifest
    assert chunks[-1].problem == ""
