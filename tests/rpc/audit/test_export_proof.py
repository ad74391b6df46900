"""ExportAuditLogs: formats, manifests, and what the offline verifier makes of them."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import grpc
import pytest
from ocsf.v1_5_0.events import ApiActivity, EntityManagement
from pydantic import BaseModel
from release_manager.audit.v1 import audit_pb2 as pb
from release_manager.audit.v1 import retention_pb2

from services.audit.exporting import export
from services.audit.exporting import windows as export_windows
from services.audit.rules import manifest
from services.audit.rules.exported import read_line, recomputed
from services.audit.verify.__main__ import GENUINE, NOT_GENUINE, main
from shared.ids import new_id
from shared.merkle.note import Verifier, open_note
from shared.rpc.status import from_rpc_error
from tests.rpc.audit.conftest import Service, as_, event
from tests.support.walls import lose_end

pytestmark = pytest.mark.asyncio(loop_scope="session")

CSV, SPREADSHEET = pb.EXPORT_FORMAT_CSV_EXACT, pb.EXPORT_FORMAT_CSV_SPREADSHEET
NDJSON, OCSF = pb.EXPORT_FORMAT_NDJSON, pb.EXPORT_FORMAT_OCSF
FORMATS = (CSV, SPREADSHEET, NDJSON, OCSF)
ALL = pb.AuditLogFilter(category=pb.AUDIT_CATEGORY_ALL)
NASTY = (
    *('a"b', "line\nbreak", "comma,", "=1+1", "\x01\x02\x1f\x7f", "\\.", "\\n", "'", "😀\u2028"),
    *("{}", '{"a":1}', "\ufeff", "e\u0301", " ", "null"),
)


@pytest.fixture(autouse=True)
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many windows and chunks from few entries."""
    for name in ("FIRST_WINDOW", "SMALLEST_WINDOW", "LARGEST_WINDOW"):
        monkeypatch.setattr(export_windows, name, 7)
    monkeypatch.setattr(export_windows, "SPOOL_BYTES", 800)
    monkeypatch.setattr(export, "CHUNK_BYTES", 500)


class Desk:
    """Where exports are kept, beside the public key."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.key = directory / "keys" / "ledger.pub"

    def verified(self, data: bytes, note: str) -> int:
        """Verify an export offline; return the exit code."""
        file, beside = self.directory / "export", self.directory / "manifest"
        file.write_bytes(data)
        beside.write_text(note, newline="")
        return main(["export", str(file), "--manifest", str(beside), "--key", str(self.key)])

    def told(self, note: str) -> dict[str, Any]:
        """Return what a manifest says."""
        text = open_note(note, Verifier.parse(self.key.read_text()))
        assert str(manifest.parse(text)) == text
        told: dict[str, Any] = json.loads(text.split("\n")[1])
        return told


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """Somebody with the files and the key of the service."""
    return Desk(tmp_path)


async def exported(audit: Service, by: str = "lead1", **asked: Any) -> list[Any]:
    call = audit.stub.ExportAuditLogs(pb.ExportAuditLogsRequest(**asked), metadata=as_(by))
    return [chunk async for chunk in call]


def joined(chunks: list[Any]) -> bytes:
    return b"".join(chunk.data for chunk in chunks)


async def fill(audit: Service, count: int = 45) -> None:
    batch = []
    for number in range(count):
        text = NASTY[number % len(NASTY)]
        made = event(number, resource_id=text, user_agent=text, user="lead2" if number % 2 else "")
        made.ip_address = ("", "10.0.0.1", "2001:db8::1", "::102:304")[number % 4]
        made.action = ("create", "deploy", "update")[number % 3]
        if number % 5 == 0:
            made.category = pb.AUDIT_CATEGORY_SECURITY
        made.details.update({"text": text, text: [number, None, 0.1 * number, -1e-300, 1e15]})
        if number % 4 == 1:
            made.aggregate, made.aggregate_seq = f"deployment:{new_id()}", 1
        batch.append(made)
    await audit.log(*batch)


@pytest.mark.parametrize("form", FORMATS)
async def test_every_export_proves_itself(audit: Service, desk: Desk, form: int) -> None:
    await fill(audit)
    for wanted in (ALL, None, pb.AuditLogFilter(action="deploy", user="lead2")):
        chunks = await exported(audit, format=form, filter=wanted)
        data, note = joined(chunks), chunks[-1].manifest
        assert desk.verified(data, note) == GENUINE
        told = desk.told(note)
        assert told["rows"] == chunks[-1].rows
        assert told["exported_by"] == str(audit.user_id("lead1"))
        assert ("range" in told) == (wanted is ALL)
        for other in (data[:-1], data + b"\n", data[1:], data.replace(b"1", b"2", 1), b""):
            assert desk.verified(other, note) == NOT_GENUINE


async def test_an_empty_export_proves_itself(audit: Service, desk: Desk) -> None:
    for form in FORMATS:
        chunks = await exported(audit, format=form, filter=pb.AuditLogFilter(action="none"))
        assert desk.verified(joined(chunks), chunks[-1].manifest) == GENUINE


async def test_the_manifest_tells_the_filter(audit: Service, desk: Desk) -> None:
    await fill(audit)
    wanted = pb.AuditLogFilter(user="lead2", action="x\x7f\x01\u2028", producer="deployment")
    wanted.start_date.FromJsonString("0001-01-01T00:00:00.123456Z")
    wanted.end_date.FromJsonString("9999-12-31T23:59:59.999999Z")
    wanted.details.update({"a": [1.5, None, {"b": "\x7f"}]})
    chunks = await exported(audit, filter=wanted)
    told = desk.told(chunks[-1].manifest)
    assert told["filter"] == {
        "user": "lead2",
        "user_id": str(audit.user_id("lead2")),
        "action": "x\x7f\x01\u2028",
        "producer": "deployment",
        "start_date": "0001-01-01T00:00:00.123456Z",
        "end_date": "9999-12-31T23:59:59.999999Z",
        "details": {"a": [1.5, None, {"b": "\x7f"}]},
        "categories": ["change", "security"],
    }
    assert told["first_index"] == 0
    assert told["last_index"] == told["tree_size"] - 1
    assert told["truncated"] is False


async def test_lines_have_all_that_a_leaf_is_made_of(audit: Service) -> None:
    await fill(audit)
    lines = joined(await exported(audit, format=NDJSON, filter=ALL)).splitlines(keepends=True)
    stored = await audit.owner.fetch("SELECT * FROM audit_logs ORDER BY leaf_index")
    assert len(lines) >= 45
    for line, row in zip(lines, stored, strict=False):
        told = read_line(line)
        assert recomputed(told).leaf == row["leaf_hash"]
        assert told["resource_id"] == row["resource_id"]
        assert told["user_agent"] == row["user_agent"]
        assert told["details"] == json.loads(row["details"])
        assert told["salt"] == row["salt"].hex()


@pytest.mark.parametrize("form", FORMATS)
async def test_a_cut_export_has_the_same_manifest(audit: Service, desk: Desk, form: int) -> None:
    await fill(audit)
    end = await audit.owner.fetchval("SELECT max(created_at) + interval '1 us' FROM audit_logs")
    wanted = pb.AuditLogFilter(category=pb.AUDIT_CATEGORY_ALL)
    wanted.end_date.FromDatetime(end)
    whole = await exported(audit, format=form, filter=wanted)
    cuts = [cut for cut, chunk in enumerate(whole) if chunk.resume_token]
    assert len(cuts) > 6
    before = desk.told(whole[-1].manifest)
    for cut in cuts:
        await audit.log(event(1000 + cut))
        token = whole[cut].resume_token
        rest = await exported(audit, format=form, filter=wanted, resume_token=token)
        data = joined(whole[: cut + 1]) + joined(rest)
        assert data == joined(whole)
        assert desk.verified(data, rest[-1].manifest) == GENUINE
        after = desk.told(rest[-1].manifest)
        moving = ("checkpoint", "created_at", "range")
        assert {name: after[name] for name in after if name not in moving} == {
            name: before[name] for name in before if name not in moving
        }


async def test_ranges_of_dates_are_whole(audit: Service, desk: Desk) -> None:
    for _ in range(4):
        await fill(audit, 10)
    times = await audit.owner.fetch("SELECT DISTINCT created_at FROM audit_logs ORDER BY 1")
    wanted = pb.AuditLogFilter(category=pb.AUDIT_CATEGORY_ALL)
    wanted.start_date.FromDatetime(times[1][0])
    wanted.end_date.FromDatetime(times[3][0])
    chunks = await exported(audit, format=NDJSON, filter=wanted)
    told = desk.told(chunks[-1].manifest)
    assert (told["first_index"], told["last_index"], told["rows"]) == (10, 29, 20)
    data = joined(chunks)
    assert desk.verified(data, chunks[-1].manifest) == GENUINE
    lines = data.splitlines(keepends=True)
    for at in range(len(lines)):
        less = b"".join(lines[:at] + lines[at + 1 :])
        assert desk.verified(less, chunks[-1].manifest) == NOT_GENUINE


async def test_lines_of_ocsf_are_events_of_their_class(audit: Service) -> None:
    await fill(audit)
    lines = joined(await exported(audit, format=OCSF, filter=ALL)).splitlines()
    stored = await audit.owner.fetch("SELECT * FROM audit_logs ORDER BY leaf_index")
    for line, row in zip(lines, stored, strict=False):
        told = json.loads(line)
        change = row["category"] == "change"
        model: type[BaseModel] = EntityManagement if change else ApiActivity
        unmapped = told.pop("unmapped")
        strict(model.model_validate_json(json.dumps(told), strict=False))
        assert told["type_uid"] == told["class_uid"] * 100 + told["activity_id"]
        assert told["metadata"]["uid"] == str(row["id"])
        assert told["time"] == int(row["occurred_at"].timestamp() * 1000)
        assert unmapped["leaf_hash"] == row["leaf_hash"].hex()
        assert unmapped["details"] == json.loads(row["details"])


def strict(made: object) -> None:
    """Refuse members that the schema does not have; the models let them pass."""
    if isinstance(made, BaseModel):
        assert not made.model_extra, (type(made).__name__, made.model_extra)
        for name in made.model_fields_set:
            strict(getattr(made, name))
    elif isinstance(made, list):
        for one in made:
            strict(one)


async def test_while_signing_is_stopped_the_data_comes_without_a_manifest(
    audit: Service, desk: Desk
) -> None:
    await fill(audit)
    published = desk.directory / "keys" / "checkpoints"
    await exported(audit)  # so that there is one
    aside = published.with_suffix(".aside")
    directory = published.with_suffix(".directory")
    directory.symlink_to(desk.directory)
    aside.hardlink_to(published)
    os.rename(directory, published)  # noqa: PTH104  (in one step: a checkpoint may come any time)
    await asyncio.sleep(1.5)
    chunks = await exported(audit, format=NDJSON)
    last = chunks[-1]
    assert last.complete
    assert not last.manifest
    assert "checkpoint file" in last.problem
    os.rename(aside, published)  # noqa: PTH104
    rest: list[Any] = []
    async with asyncio.timeout(30):
        while not rest or rest[-1].problem:
            rest = await exported(audit, format=NDJSON, resume_token=last.resume_token)
    assert joined(rest) == b""
    assert desk.verified(joined(chunks), rest[-1].manifest) == GENUINE


async def test_what_was_erased_meanwhile_ends_an_export(audit: Service, desk: Desk) -> None:
    await fill(audit)
    chunks = await exported(audit, format=NDJSON, filter=ALL)
    middle = [chunk for chunk in chunks if chunk.resume_token][2]  # after 21 entries
    await redact(audit, 30)
    assert await changed(audit, middle.resume_token) == "30"
    assert await changed(audit, chunks[-1].resume_token) == "30"
    again = await exported(audit, format=NDJSON, filter=ALL)
    assert desk.verified(joined(again), again[-1].manifest) == GENUINE
    line = read_line(joined(again).splitlines(keepends=True)[30])
    assert line["details"] is line["ip_address"] is line["salt"] is None
    assert set(line["redactions"]["fields"]) == {"details", "ip_address", "resource_id"}
    ocsf = joined(await exported(audit, format=OCSF, filter=ALL)).splitlines()[30]
    assert set(json.loads(ocsf)["unmapped"]["redacted"]) == set(line["redactions"]["fields"])
    before = [chunk for chunk in again if chunk.resume_token][5]
    await redact(audit, 40)
    assert await changed(audit, before.resume_token) == "40"


async def test_what_was_lost_meanwhile_ends_an_export(audit: Service) -> None:
    await fill(audit)
    chunks = await exported(audit, format=NDJSON, filter=ALL)
    await lose_end(audit.owner, 40, tree_too=False)
    place = int(await changed(audit, chunks[-1].resume_token))
    assert 40 <= place < chunks[-1].tree_size


async def redact(audit: Service, position: int) -> None:
    """Erase fields of an entry."""
    request = retention_pb2.RedactAuditLogRequest(
        leaf_index=position, fields=["details", "ip_address", "resource_id"], reason="asked for"
    )
    await audit.retention.RedactAuditLog(request, metadata=as_("admin"))


async def changed(audit: Service, token: str) -> str:
    """Return the position for which an export cannot go on."""
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await exported(audit, format=NDJSON, filter=ALL, resume_token=token)
    error = from_rpc_error(failure.value)
    assert error is not None
    assert error.reason == "EXPORT_CHANGED"
    return str(error.facts["position"])
