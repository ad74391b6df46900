"""Exports of a ledger from which months have gone, and of one from which they go meanwhile."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from services.audit.exporting import windows as export_windows
from services.audit.exporting.export import Chunk, ExportQuery, Exports
from services.audit.exporting.manifest import CATEGORIES, Manifests
from services.audit.rules.manifest import Form
from services.audit.signing.ledger_key import LedgerKeys
from services.audit.store.queries import Filter
from services.audit.verify.__main__ import GENUINE, NOT_GENUINE, main
from shared.clock import system_clock
from shared.errors import ExportChanged
from shared.paging import PageTokens
from tests.integration.audit.conftest import SECRET, World
from tests.integration.audit.keeping import MONTHS, PER_MONTH, Kept, keeping


@pytest_asyncio.fixture
async def kept(world: World, tmp_path: Path) -> AsyncIterator[Kept]:
    """A signed ledger of past months."""
    async with keeping(world, tmp_path) as made:
        yield made


class Exporter:
    """Somebody who exports everything as NDJSON, and verifies it offline."""

    def __init__(self, kept: Kept) -> None:
        keys = LedgerKeys(kept.directory)
        manifests = Manifests(kept.world.reader, kept.integrator, keys, system_clock)
        self._exports = Exports(kept.world.reader, PageTokens(SECRET), manifests)
        self._kept = kept

    async def export(self, token: str = "", *, stop_at: int = 0) -> list[Chunk]:
        """Export; a month goes after `stop_at` chunks."""
        chunks: list[Chunk] = []

        async def take(chunk: Chunk) -> None:
            chunks.append(chunk)
            if len(chunks) == stop_at:
                await self.retire(1)

        everything = Filter(categories=CATEGORIES)
        caller = self._kept.world.user_id
        asked = ExportQuery("export", caller, everything, Form.NDJSON, resume_token=token)
        await self._exports.run(asked, take)
        return chunks

    async def retire(self, number: int) -> None:
        """Let a month go."""
        await self._kept.keeping.retiring.retire(MONTHS[number], "over")

    def verified(self, data: bytes, note: str) -> int:
        """Verify; return the exit code."""
        directory = self._kept.directory
        (directory / "export").write_bytes(data)
        (directory / "note").write_text(note)
        arguments = [str(directory / "export"), "--manifest", str(directory / "note")]
        return main(["export", *arguments, "--key", str(directory / "ledger.pub")])


def joined(chunks: list[Chunk]) -> bytes:
    return b"".join(chunk.data for chunk in chunks)


async def test_what_is_left_still_leads_to_the_signed_root(
    kept: Kept, capsys: pytest.CaptureFixture[str]
) -> None:
    exporter = Exporter(kept)
    for number in (1, 0):
        await exporter.retire(number)
        chunks = await exporter.export()
        data, note = joined(chunks), chunks[-1].manifest
        assert exporter.verified(data, note) == GENUINE
        gone = PER_MONTH * (2 - number)
        assert f"{gone} positions were retired" in capsys.readouterr().out
        lines = data.splitlines(keepends=True)
        for at in range(0, len(lines), 7):
            assert exporter.verified(b"".join(lines[:at] + lines[at + 1 :]), note) == NOT_GENUINE


async def test_a_month_that_goes_meanwhile_ends_the_export(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So that a few entries have several windows, and a month can go between two of them.
    for name in ("FIRST_WINDOW", "SMALLEST_WINDOW", "LARGEST_WINDOW"):
        monkeypatch.setattr(export_windows, name, 5)
    exporter = Exporter(kept)
    before = await exporter.export()
    token = before[1].resume_token
    assert token
    assert joined(before[:2]) + joined(await exporter.export(token)) == joined(before)
    with pytest.raises(ExportChanged) as ended:
        await exporter.export(stop_at=2)
    assert ended.value.facts == {"position": str(PER_MONTH)}
    with pytest.raises(ExportChanged):
        await exporter.export(token)
    after = await exporter.export()
    assert exporter.verified(joined(after), after[-1].manifest) == GENUINE


async def test_a_month_that_was_exported_already_may_go(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("FIRST_WINDOW", "SMALLEST_WINDOW", "LARGEST_WINDOW"):
        monkeypatch.setattr(export_windows, name, 5)
    exporter = Exporter(kept)
    past_it = 2 * PER_MONTH // 5 + 2
    chunks = await exporter.export(stop_at=past_it)
    assert joined(chunks).count(b"\n") == chunks[-1].rows
    assert exporter.verified(joined(chunks), chunks[-1].manifest) == GENUINE
