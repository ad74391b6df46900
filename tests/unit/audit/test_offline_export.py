"""The offline verifier and exports: what is genuine passes, and nothing else does."""

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from services.audit.rules.manifest import Form
from services.audit.verify.__main__ import CANNOT_TELL, GENUINE, NOT_GENUINE, main
from shared.merkle.tree import Span
from tests.unit.audit.offline import Desk, Offline, signer

ERASED = {3: ("user_id", "details"), 7: ("resource_id", "ip_address", "user_agent")}


@pytest.fixture
def ledger() -> Offline:
    """Twelve entries; two have erased fields, by the last two."""
    return Offline(12, erased=ERASED)


@pytest.fixture
def desk(tmp_path: Path, ledger: Offline) -> Desk:
    """Files and the right key."""
    return Desk(tmp_path, ledger)


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """Return what was said since the last time."""
    return lambda: capsys.readouterr().out


def whole(ledger: Offline) -> tuple[bytes, str]:
    count = len(ledger.told)
    data = ledger.ndjson(range(count))
    return data, ledger.manifest(data, range=ledger.range_proof(0, count))


def test_a_whole_export_leads_to_the_signed_root(
    ledger: Offline, desk: Desk, said: Callable[[], str]
) -> None:
    assert desk.export(*whole(ledger)) == GENUINE
    sentence = said()
    assert "12 entries as ndjson, positions 0 to 11" in sentence
    assert "root of the first 12 entries, so that none is missing" in sentence
    assert "2 of them have erased fields" in sentence


@pytest.mark.parametrize(("first", "end"), [(0, 5), (4, 9), (5, 12), (6, 6), (0, 0), (11, 12)])
def test_so_does_every_range(ledger: Offline, desk: Desk, first: int, end: int) -> None:
    data = ledger.ndjson(range(first, end))
    proof = ledger.range_proof(first, end)
    assert desk.export(data, ledger.manifest(data, leaves=Span(first, end), range=proof)) == GENUINE


def test_retired_entries_are_stood_for_by_their_hashes(
    ledger: Offline, desk: Desk, said: Callable[[], str]
) -> None:
    gone = ledger.retire("2026-01", Span(1, 5)), ledger.retire("2026-02", Span(8, 11))
    data = ledger.ndjson([0, *range(5, 8), *range(11, 14)])
    proof = ledger.range_proof(0, 14)
    note = ledger.manifest(data, range=replace(proof, retired=gone))
    assert desk.export(data, note) == GENUINE
    told = said()
    assert "7 positions were retired" in told
    assert "only the manifest says so" not in told
    fewer = ledger.manifest(data, range=replace(proof, retired=gone[:1]))
    assert desk.export(data, fewer) == NOT_GENUINE
    assert "those from 8 on are missing" in said()


def test_what_nobody_retired_is_missing(
    ledger: Offline, desk: Desk, said: Callable[[], str]
) -> None:
    """A manifest is signed by the ledger; what it leaves out must be said by an entry too."""
    told = ledger.retire("2026-01", Span(1, 5))
    data = ledger.ndjson([0, *range(6, 13)])
    larger = ledger.range_proof(0, 13, [Span(1, 6)])
    for retired_by in (12, 11):  # one for less, and another one
        hidden = replace(larger.retired[0], retired_by=retired_by)
        note = ledger.manifest(data, range=replace(larger, retired=(hidden,)))
        assert desk.export(data, note) == NOT_GENUINE
        assert "is not the entry that retired positions 1 to 5" in said()
    for retired_by in (5, 13, 2**40):
        hidden = replace(larger.retired[0], retired_by=retired_by)
        note = ledger.manifest(data, range=replace(larger, retired=(hidden,)))
        assert desk.export(data, note) == NOT_GENUINE
        assert "cannot have retired" in said()
    data = ledger.ndjson([0, *range(5, 12)])
    proof = replace(ledger.range_proof(0, 12), retired=(told,))
    note = ledger.manifest(data, leaves=Span(0, 12), range=proof)
    assert desk.export(data, note) == GENUINE
    assert "Of 1 retired intervals only the manifest says so" in said()


def test_of_a_filtered_export_completeness_is_not_claimed(
    ledger: Offline, desk: Desk, said: Callable[[], str]
) -> None:
    data = ledger.ndjson([1, 4, 8])
    assert desk.export(data, ledger.manifest(data)) == GENUINE
    assert "That no other entry matched the filter is not proved" in said()


@pytest.mark.parametrize("form", [Form.CSV, Form.SPREADSHEET, Form.OCSF])
def test_other_formats_are_bound_by_their_digest(ledger: Offline, desk: Desk, form: Form) -> None:
    data = b'{"class_uid":3004}\n' * 3 if form is Form.OCSF else ledger.csv(range(3))
    note = ledger.manifest(data, form=form, rows=3)
    assert desk.export(data, note) == GENUINE
    assert desk.export(data[:-1], note) == NOT_GENUINE
    assert desk.export(data + data[-20:], note) == NOT_GENUINE
    assert desk.export(data.replace(b"\n", b"\r\n"), note) == NOT_GENUINE


def test_no_byte_of_a_file_can_be_changed(desk: Desk) -> None:
    data, note = whole(Offline(1))
    for at in range(len(data)):
        assert desk.export(flipped(data, at), note) == NOT_GENUINE, at


def test_no_byte_of_a_manifest_can_be_changed(desk: Desk) -> None:
    data, note = whole(Offline(1))
    content = note.encode()
    for at in range(len(content)):
        assert desk.export(data, flipped(content, at)) == NOT_GENUINE, at


def test_no_byte_of_a_key_can_be_changed(ledger: Offline, desk: Desk) -> None:
    data, note = whole(ledger)
    key = desk.key.read_bytes()
    for at in range(len(key)):
        desk.put("ledger.pub", flipped(key, at))
        assert desk.export(data, note) in {NOT_GENUINE, CANNOT_TELL}, at


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1 << at % 8]) + content[at + 1 :]


def test_lines_are_where_they_were(ledger: Offline, desk: Desk, said: Callable[[], str]) -> None:
    data, note = whole(ledger)
    lines = data.splitlines(keepends=True)
    tampered = {
        "Line 5 has position 5: those from 4 on are missing": [*lines[:4], *lines[5:]],
        "Line 6 repeats or goes back: position 4 when 5 was due": [*lines[:5], *lines[4:]],
        "Line 5 has position 5": [*lines[:4], lines[5], lines[4], *lines[6:]],
        "The entries from position 11 on are missing": lines[:-1],
        "Line 1 has position 1: those from 0 on": lines[1:],
        "Line 12 is cut off": [*lines[:-1], lines[-1][:-1]],
        "Line 2 ends with CR LF": [*lines[:1], lines[1][:-1] + b"\r\n", *lines[2:]],
        "Line 3 is not JSON": [*lines[:2], b"\n", *lines[3:]],
        "Line 4 is not UTF-8": [*lines[:3], lines[3][:-5] + b"\xff\n"],
        "Line 13 repeats": [*lines, lines[0]],
    }
    for sentence, other in tampered.items():
        assert desk.export(b"".join(other), note) == NOT_GENUINE
        assert sentence in said(), sentence


def test_of_a_filtered_export_too_as_far_as_its_digest_goes(ledger: Offline, desk: Desk) -> None:
    data = ledger.ndjson([1, 4, 8])
    note = ledger.manifest(data)
    for other in ([1, 4], [4, 8], [1, 4, 8, 9], [1, 5, 8], [1, 4, 4, 8], [4, 1, 8], []):
        assert desk.export(ledger.ndjson(other), note) == NOT_GENUINE, other


@pytest.mark.parametrize(
    ("position", "changes", "sentence"),
    [
        (2, {"action": "delete"}, "Line 3 (position 2) does not match its leaf"),
        (2, {"producer": "someone"}, "Line 3 (position 2) does not match its leaf"),
        (2, {"user_agent": ""}, "Line 3 (position 2) does not match its leaf"),
        (2, {"details": {"number": 0.1}}, "Line 3 (position 2) does not match its leaf"),
        (2, {"leaf_hash": "00" * 32}, "Line 3 (position 2) does not match its leaf"),
        (2, {"leaf_version": 2}, "has a leaf of version 2"),
        (2, {"salt": None}, "has a member that no entry can have"),
        (2, {"salt": "AB" * 16}, "has a member that no entry can have"),
        (2, {"leaf_index": 2.0}, "has a member that no entry can have"),
        (2, {"leaf_index": 2**70}, "has a member that no entry can have"),
        (2, {"ip_address": "somewhere"}, "has a member that no entry can have"),
        (2, {"occurred_at": "2026-05-17 09:30:00"}, "has a member that no entry can have"),
        (2, {"created_at": "9999-99-99T00:00:00.000000Z"}, "has a member that no entry can have"),
        (2, {"details": []}, "has a member that no entry can have"),
        (2, {"details": None}, "lacks what only a redaction can take away"),
        (2, {"redactions": {}}, "has a member that no entry can have"),
        (3, {"details": {}}, "has what is said to be erased"),
        (3, {"redactions": None}, "lacks what only a redaction can take away"),
        (7, {"resource_id": ""}, "has what is said to be erased"),
        (7, {"salt": "00" * 16}, "has what is said to be erased"),
    ],
)
def test_changed_members_are_named(  # noqa: PLR0917  (the case)
    ledger: Offline,
    desk: Desk,
    said: Callable[[], str],
    position: int,
    changes: dict[str, object],
    sentence: str,
) -> None:
    _data, note = whole(ledger)
    ledger.told[position] |= changes
    assert desk.export(ledger.ndjson(range(12)), note) == NOT_GENUINE
    assert sentence in said()


def test_an_erasure_that_nobody_ordered_is_told(
    ledger: Offline, desk: Desk, said: Callable[[], str]
) -> None:
    ledger.told[3]["redactions"]["leaf"] = 11  # which ordered that of 7
    data = ledger.ndjson(range(12))
    note = ledger.manifest(data, range=ledger.range_proof(0, 12))  # signed nevertheless
    assert desk.export(data, note) == NOT_GENUINE
    assert "Line 12 is not the entry that ordered the erasure of fields of position 3" in said()


def test_a_line_that_is_signed_but_wrong_is_found(ledger: Offline, desk: Desk) -> None:
    ledger.told[5]["action"] = "delete"
    data = ledger.ndjson(range(12))
    assert desk.export(data, ledger.manifest(data, range=ledger.range_proof(0, 12))) == NOT_GENUINE


def test_a_root_that_is_not_that_of_the_lines_is_found(
    ledger: Offline, desk: Desk, said: Callable[[], str]
) -> None:
    data = ledger.ndjson(range(12))
    proof = ledger.range_proof(0, 12)
    other = Offline(12).checkpoint(12)
    assert desk.export(data, ledger.manifest(data, range=proof, checkpoint=other)) == NOT_GENUINE
    assert "do not lead to the signed root" in said()


def test_a_manifest_needs_a_checkpoint_that_covers_it(ledger: Offline, desk: Desk) -> None:
    data, _note = whole(ledger)
    proof = ledger.range_proof(0, 12)
    for checkpoint in (ledger.checkpoint(11), "", ledger.checkpoint(12).replace("audit", "other")):
        note = ledger.manifest(data, range=proof, checkpoint=checkpoint)
        assert desk.export(data, note) == NOT_GENUINE


def test_hostile_lines_are_told_and_survived(
    ledger: Offline, desk: Desk, said: Callable[[], str]
) -> None:
    _data, note = whole(ledger)
    first = ledger.ndjson([0])
    twice = first.replace(b'"action":', b'"action":"x","action":')
    deep = first.replace(b'"details":{}', b'"details":' + b"[" * 200_000 + b"]" * 200_000)
    number = first.replace(b'"details":{}', b'"details":{"n":' + b"9" * 10_000 + b"}")
    for line in (twice, deep, number, b"{}\n", b"[]\n", b"null\n", b"NaN\n", b"\x00\n"):
        assert desk.export(line, note) == NOT_GENUINE
        assert said().startswith("NOT GENUINE: Line 1")


def test_a_line_without_end_does_not_fill_the_memory(
    ledger: Offline, desk: Desk, said: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.audit.verify.entries.MOST_BYTES", 10_000)
    assert desk.export(b"x" * 20_000, whole(ledger)[1]) == NOT_GENUINE
    assert "Line 1 is longer than a line can be" in said()


def test_the_key_must_be_the_right_one(
    ledger: Offline, desk: Desk, said: Callable[[], str], tmp_path: Path
) -> None:
    data, note = whole(ledger)
    right, wrong = desk.key.read_text(), f"{signer(2).verifier}\n"
    desk.put("ledger.pub", wrong)
    assert desk.export(data, note) == NOT_GENUINE
    told = said()
    assert "not signed by" in told
    assert f"but with {ledger.signer.verifier.key_id.hex()}" in told
    assert "give the public half of the older one too" in told
    desk.put("ledger.pub", f"{wrong}\n{right}")
    assert desk.export(data, note) == GENUINE
    desk.put("ledger.pub", wrong)
    assert desk.export(data, note, "--key", str(desk.put("more.pub", right))) == GENUINE
    for content in ("", "no key\n", "\u00e9\n"):
        desk.put("ledger.pub", content)
        assert desk.export(data, note) == CANNOT_TELL
    desk.key = tmp_path / "missing"
    assert desk.export(data, note) == CANNOT_TELL


def test_the_manifest_may_be_as_tools_print_it(ledger: Offline, desk: Desk) -> None:
    data, note = whole(ledger)
    assert desk.export(data, note + "\n") == GENUINE
    assert desk.export(data, note.replace("\n", "\r\n")) == NOT_GENUINE
    assert desk.export(data, "") == CANNOT_TELL
    assert desk.export(data, note[: len(note) // 2]) == NOT_GENUINE
    assert desk.export(data, "\ufeff" + note) == NOT_GENUINE
    assert desk.export(data, b"\xff\xfe") == NOT_GENUINE


def test_a_failure_of_the_verifier_is_no_verdict(
    ledger: Offline, desk: Desk, said: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.audit.verify.export_file.HEADER", None)
    data = ledger.csv(range(1))
    assert desk.export(data, ledger.manifest(data, form=Form.CSV)) == CANNOT_TELL
    assert "the verifier itself failed" in said()


def test_a_missing_file_is_no_answer(desk: Desk, said: Callable[[], str], tmp_path: Path) -> None:
    note = desk.put("manifest", whole(Offline(2))[1])
    arguments = [str(tmp_path / "none"), "--manifest", str(note), "--key", str(desk.key)]
    assert main(["export", *arguments]) == CANNOT_TELL
    assert main(["export", str(tmp_path), *arguments[1:]]) == CANNOT_TELL
    assert "cannot be read" in said()
    with pytest.raises(SystemExit) as ended:
        main(["export", "file"])
    assert ended.value.code == CANNOT_TELL


def test_a_checkpoint_that_was_kept_must_agree(
    ledger: Offline, desk: Desk, said: Callable[[], str]
) -> None:
    data = ledger.ndjson(range(4, 10))
    note = ledger.manifest(data, leaves=Span(4, 10), range=ledger.range_proof(4, 10))
    for size in (4, 5, 9, 10, 12):
        kept = str(desk.put("kept", ledger.checkpoint(size)))
        assert desk.export(data, note, "--checkpoint", kept) == GENUINE
        assert f"your checkpoint of {size:,}" in said()
        other = str(desk.put("other", Offline(12).checkpoint(size)))
        assert desk.export(data, note, "--checkpoint", other) == NOT_GENUINE
        assert "your checkpoint" in said() or size == 12
    for size in (3, 11):
        kept = str(desk.put("kept", ledger.checkpoint(size)))
        assert desk.export(data, note, "--checkpoint", kept) == CANNOT_TELL
        assert "consistency proof" in said()
    for between in ("", "\n"):
        whole_file = between.join(ledger.checkpoint(size) for size in (4, 5, 9))
        kept = str(desk.put("kept", whole_file))
        assert desk.export(data, note, "--checkpoint", kept) == CANNOT_TELL
        assert "has several checkpoints" in said()


def test_a_large_export_at_random(tmp_path: Path) -> None:
    ledger = Offline(700, erased={5: ("details",), 600: ("user_id", "details")})
    desk = Desk(tmp_path, ledger)
    chance = random.Random(3)
    for _ in range(10):
        first, end = sorted(chance.sample(range(701), 2))
        data = ledger.ndjson(range(first, end))
        proof = ledger.range_proof(first, end)
        note = ledger.manifest(data, leaves=Span(first, end), range=proof)
        assert desk.export(data, note) == GENUINE
        if end - first > 1:
            at = chance.randrange(first, end)
            left = [position for position in range(first, end) if position != at]
            assert desk.export(ledger.ndjson(left), note) == NOT_GENUINE


@pytest.mark.timeout(300)
def test_several_processes_find_the_same(
    tmp_path: Path, said: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.audit.verify.entries.ALONE_BYTES", 0)
    ledger = Offline(1_300, erased={5: ("details",), 1_200: ("user_id", "details")})
    desk = Desk(tmp_path, ledger)
    data, note = whole(ledger)
    assert desk.export(data, note) == GENUINE
    assert "2 of them have erased fields" in said()
    ledger.told[1_100]["action"] = "delete"
    ledger.told[1_250]["action"] = "delete"
    assert desk.export(ledger.ndjson(range(1_300)), note) == NOT_GENUINE
    assert "Line 1101 (position 1100) does not match its leaf" in said()
