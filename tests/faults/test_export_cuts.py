"""A large export cut again and again is the export that nobody cut, and it needs little memory.

`EXPORT_ENTRIES` makes it larger; the full size is a million.
"""

import hashlib
import os
import random
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest
import pytest_asyncio

from services.audit.exporting import export
from services.audit.exporting import windows as export_windows
from services.audit.exporting.export import Chunk, ExportQuery, Exports
from services.audit.exporting.manifest import Manifests
from services.audit.rules.events import Event, Sealed, seal
from services.audit.rules.manifest import Form
from services.audit.signing.checkpoint_file import CheckpointFile
from services.audit.signing.integrator import Integrator
from services.audit.signing.ledger_key import LedgerKeys
from services.audit.store.appending import append, ensure_partitions
from services.audit.store.queries import Filter
from services.audit.verify.__main__ import GENUINE, main
from shared.clock import system_clock
from shared.db.engine import Database
from shared.ids import new_id
from shared.paging import PageTokens
from shared.setting_values import driver_url

pytestmark = pytest.mark.timeout(3_600)

ENTRIES = int(os.environ.get("EXPORT_ENTRIES", "60000"))
ENOUGH_FOR_WINDOWS = 500_000
CUTS = 20
BATCH = 5_000
MOST_GROWTH = 64 * 1024 * 1024
EVERYTHING = Filter(categories=("change", "access", "security"))


class Cut(Exception):
    """The connection of a reader breaks."""


class Reader:
    """Somebody who keeps what arrives, until the connection breaks after so many bytes."""

    def __init__(self, patience: float) -> None:
        self.left = patience
        self.kept = bytearray()
        self.complete = bytearray()
        self.token = ""
        self.manifest = ""

    async def take(self, chunk: Chunk) -> None:
        """Keep a chunk; what arrived after the last token is worth nothing."""
        self.left -= len(chunk.data)
        if self.left < 0:
            raise Cut
        self.kept += chunk.data
        if chunk.resume_token:
            self.complete += self.kept
            self.kept.clear()
            self.token, self.manifest = chunk.resume_token, chunk.manifest


class Installation:
    """What exports need, without the wire."""

    def __init__(self, url: str, directory: Path) -> None:
        self.reader = Database(url, role="rm_audit_reader", application_name="test reader")
        self.tree = Database(url, role="rm_audit_integrator", application_name="test integrator")
        keys = LedgerKeys(directory)
        self.key = directory / "ledger.pub"
        self.integrator = Integrator(self.tree, keys, CheckpointFile(directory / "checkpoints"))
        manifests = Manifests(self.reader, self.integrator, keys, system_clock)
        self.exports = Exports(self.reader, PageTokens(b"k" * 32), manifests)
        self.integrator.start()

    async def close(self) -> None:
        """End everything."""
        await self.integrator.stop()
        await self.reader.close()
        await self.tree.close()


@pytest_asyncio.fixture
async def installation(database_url: str, tmp_path: Path) -> AsyncIterator[Installation]:
    """A ledger of many entries."""
    owner = await asyncpg.connect(driver_url(database_url))
    today = datetime.now(UTC).date()
    await ensure_partitions(owner, date(today.year, today.month, 1), 2)
    for first in range(0, ENTRIES, BATCH):
        await append(owner, [entry(number) for number in range(first, first + BATCH)])
    await owner.close()
    (tmp_path / "keys").mkdir()
    made = Installation(database_url, tmp_path / "keys")
    yield made
    await made.close()


def entry(number: int) -> Sealed:
    event = Event("deploy", "deployment", f"d-{number}", details={"n": number, "text": "é\n" * 9})
    now = datetime.now(UTC)
    return seal(event, producer="deployment", user_id=None, now=now, mac_key=b"k" * 32)


@pytest.fixture(autouse=True)
def many_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a small ledger have many windows to be cut in; a large one has them by itself."""
    if ENTRIES < ENOUGH_FOR_WINDOWS:
        monkeypatch.setattr(export_windows, "WINDOW_BYTES", 256 * 1024)
        monkeypatch.setattr(export, "CHUNK_BYTES", 64 * 1024)


async def test_an_export_cut_twenty_times_is_the_same_file(
    installation: Installation, tmp_path: Path
) -> None:
    for form in (Form.CSV, Form.NDJSON):
        await cut_again_and_again(installation, tmp_path, form)


async def cut_again_and_again(installation: Installation, directory: Path, form: Form) -> None:
    """Compare an export that was cut with one that was not, and verify both."""
    caller = new_id()
    whole = Reader(float("inf"))
    await installation.exports.run(asked(form, caller), whole.take)
    chance = random.Random(form)
    size = len(whole.complete)
    cut = Reader(0)
    began = resident()
    cuts, resumed = 0, set[str]()
    while not cut.manifest:
        cut.left = chance.randrange(size // 40, size // (CUTS + 1)) if cuts < CUTS else size
        cut.kept.clear()
        try:
            await installation.exports.run(asked(form, caller, cut.token), cut.take)
        except Cut:
            cuts += 1
            resumed.add(cut.token)
    assert cuts == CUTS
    # Most cuts came after another token: the file was resumed, and not begun anew each time.
    assert len(resumed - {""}) > CUTS // 2
    assert hashlib.sha256(cut.complete).digest() == hashlib.sha256(whole.complete).digest()
    assert resident() - began - size < MOST_GROWTH
    for made in (whole, cut):
        (directory / "file").write_bytes(made.complete)
        (directory / "note").write_text(made.manifest)
        arguments = [str(directory / "file"), "--manifest", str(directory / "note")]
        assert main(["export", *arguments, "--key", str(installation.key)]) == GENUINE


def asked(form: Form, caller: UUID, token: str = "") -> ExportQuery:
    return ExportQuery("export", caller, EVERYTHING, form, resume_token=token)


def resident() -> int:
    """Return how many bytes of memory this process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096
