"""The offline verifier, entries and checkpoints, from JSON as grpcurl and buf print it."""

import json
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.struct_pb2 import Struct
from release_manager.audit.v1 import audit_pb2 as pb

from services.audit.verify.__main__ import CANNOT_TELL, GENUINE, NOT_GENUINE, main
from shared.merkle.checkpoint import LOG, Checkpoint, signed
from shared.merkle.tree import Span, consistency_spans, span_hash
from tests.unit.audit.offline import Desk, Offline, signer

SIZE = 12
CATEGORIES = {
    "change": pb.AUDIT_CATEGORY_CHANGE,
    "access": pb.AUDIT_CATEGORY_ACCESS,
    "security": pb.AUDIT_CATEGORY_SECURITY,
}


@pytest.fixture
def ledger() -> Offline:
    """Entries, of which one has erased fields."""
    return Offline(SIZE, erased={3: ("user_id", "details", "resource_id")})


@pytest.fixture
def desk(tmp_path: Path, ledger: Offline) -> Desk:
    """Files and the right key."""
    return Desk(tmp_path, ledger)


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """Return what was said since the last time."""
    return lambda: capsys.readouterr().out


def message(told: dict[str, Any]) -> pb.AuditLog:
    """Return an entry as the service answers it."""
    same = ("leaf_index", "id", "event_id", "action", "resource_type", "producer")
    maybe = ("user_id", "resource_id", "ip_address", "user_agent", "aggregate", "aggregate_seq")
    made = pb.AuditLog(
        **{name: told[name] for name in same},
        **{name: told[name] for name in maybe if told[name] is not None},
        category=CATEGORIES[told["category"]],
        leaf_hash=bytes.fromhex(told["leaf_hash"]),
        salt=bytes.fromhex(told["salt"] or ""),
        details=json_format.ParseDict(told["details"] or {}, Struct()),
    )
    made.created_at.FromJsonString(told["created_at"])
    made.occurred_at.FromJsonString(told["occurred_at"])
    if told["redactions"] is not None:
        erased = told["redactions"]
        made.redaction.leaf_index = erased["leaf"]
        made.redaction.fields.extend(erased["fields"])
        for name, parts in (("commitments", erased["fields"]), ("salts", erased["salts"])):
            for tag, value in parts.items():
                getattr(made.redaction, name)[tag] = bytes.fromhex(value)
    return made


def entry_file(desk: Desk, ledger: Offline, position: int, *, snake: bool = False) -> Path:
    answer = pb.GetAuditLogResponse(audit_log=message(ledger.told[position]))
    return desk.put("entry.json", printed(answer, snake=snake))


def printed(answer: Any, *, snake: bool = False) -> str:
    return json_format.MessageToJson(answer, preserving_proto_field_name=snake)


def proof(ledger: Offline, position: int, size: int = SIZE) -> pb.GetInclusionProofResponse:
    return pb.GetInclusionProofResponse(
        proof=pb.InclusionProof(
            leaf_index=position,
            leaf_hash=ledger.leaves[position],
            tree_size=size,
            hashes=ledger.inclusion(position, size),
            checkpoint=ledger.checkpoint(size),
        )
    )


def verified(desk: Desk, entry: Path, made: Any, *more: str) -> int:
    text = made if isinstance(made, str) else printed(made)
    file = desk.put("proof.json", text)
    return main(["entry", str(entry), "--proof", str(file), "--key", str(desk.key), *more])


@pytest.mark.parametrize("snake", [True, False])
def test_every_entry_is_proved_by_what_the_service_answers(
    ledger: Offline, desk: Desk, said: Callable[[], str], *, snake: bool
) -> None:
    for position in range(SIZE):
        entry = entry_file(desk, ledger, position, snake=snake)
        answer = printed(proof(ledger, position), snake=snake)
        assert verified(desk, entry, answer) == GENUINE
        sentence = said()
        assert f"is at position {position} of the first 12 entries of {LOG}" in sentence
        erased = "Erased from it were: user_id, resource_id, details." in sentence
        assert erased == (position == 3)


def test_a_line_of_an_export_is_an_entry_too(ledger: Offline, desk: Desk) -> None:
    for position in range(SIZE):
        entry = desk.put("line.json", ledger.ndjson([position]))
        assert verified(desk, entry, proof(ledger, position)) == GENUINE


@pytest.mark.parametrize("changes", [{"id": 5}, {"leaf_version": True}, {"redactions": "null"}])
def test_a_line_has_the_types_of_an_export(
    ledger: Offline, desk: Desk, changes: dict[str, object]
) -> None:
    entry = desk.put("line.json", ledger.line(ledger.told[1] | changes))
    assert verified(desk, entry, proof(ledger, 1)) == NOT_GENUINE


def test_one_answer_does_not_hold_two_entries(
    ledger: Offline, desk: Desk, said: Callable[[], str]
) -> None:
    both = json.loads(entry_file(desk, ledger, 1).read_text())
    both["audit_log"] = both["auditLog"] | {"action": "delete"}
    assert verified(desk, desk.put("e", json.dumps(both)), proof(ledger, 1)) == NOT_GENUINE
    assert "has 'audit_log' and 'auditLog'" in said()


def test_the_whole_answer_to_an_append_is_both(ledger: Offline, desk: Desk) -> None:
    made = pb.LogActionResponse(audit_log=message(ledger.told[1]), proof=proof(ledger, 1).proof)
    assert verified(desk, desk.put("answer.json", printed(made)), made) == GENUINE


def test_no_byte_of_an_entry_can_mean_anything_else(ledger: Offline, desk: Desk) -> None:
    for position in (1, 3):
        content = entry_file(desk, ledger, position).read_bytes()
        before = json.loads(content)
        for at in range(len(content)):
            flipped = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
            if verified(desk, desk.put("entry.json", flipped), proof(ledger, position)) == GENUINE:
                assert meaning(json.loads(flipped)) == meaning(before), flipped


def meaning(answer: dict[str, Any]) -> dict[str, Any]:
    """Return an entry but for who erased its fields, which only the ledger proves."""
    entry = dict(answer["auditLog"])
    redaction = entry.pop("redaction", {})
    return entry | {name: value for name, value in redaction.items() if name != "leafIndex"}


def test_no_byte_of_a_proof_can_mean_anything_else(ledger: Offline, desk: Desk) -> None:
    entry = entry_file(desk, ledger, 1)
    content = printed(proof(ledger, 1))
    for at in range(len(content)):
        flipped = content[:at] + chr(ord(content[at]) ^ 1) + content[at + 1 :]
        if verified(desk, entry, flipped) == GENUINE:
            left = json.loads(flipped)["proof"]
            assert left | {"leafHash": 0} == json.loads(content)["proof"] | {"leafHash": 0} or (
                "leafHash" not in left
            )


@pytest.mark.parametrize(
    ("changes", "outcome", "sentence"),
    [
        ({"action": "delete"}, NOT_GENUINE, "The entry does not match its leaf"),
        ({"approvedBy": "x"}, NOT_GENUINE, "has a member 'approvedBy', which nothing proves"),
        ({"leafHash": ""}, NOT_GENUINE, "does not match its leaf"),
        ({"leafHash": "*"}, NOT_GENUINE, "is not base64"),
        ({"leafIndex": "x"}, NOT_GENUINE, "is not a whole number"),
        ({"leafIndex": "-1"}, NOT_GENUINE, "is not a whole number"),
        ({"createdAt": "yesterday"}, NOT_GENUINE, "is not a time of the ledger"),
        ({"createdAt": 7}, NOT_GENUINE, "is not a text"),
        ({"category": "AUDIT_CATEGORY_ALL"}, NOT_GENUINE, "does not match its leaf"),
        ({"details": [1]}, NOT_GENUINE, "has a member that no entry can have"),
        ({"redaction": {"leafIndex": "9"}}, NOT_GENUINE, "erased fields cannot be read"),
        ({"user_id": "somebody else"}, NOT_GENUINE, "has 'user_id' and 'userId'"),
        ({"salt": ""}, CANNOT_TELL, "has no salt"),
    ],
)
def test_what_is_wrong_with_an_entry_is_said(  # noqa: PLR0917  (the case)
    ledger: Offline,
    desk: Desk,
    said: Callable[[], str],
    changes: dict[str, object],
    outcome: int,
    sentence: str,
) -> None:
    answer = json.loads(entry_file(desk, ledger, 1).read_text())
    answer["auditLog"] |= changes
    entry = desk.put("entry.json", json.dumps(answer))
    assert verified(desk, entry, proof(ledger, 1)) == outcome
    assert sentence in said()


def test_a_proof_belongs_to_an_entry_and_a_tree(
    ledger: Offline, desk: Desk, said: Callable[[], str]
) -> None:
    entry = entry_file(desk, ledger, 1)
    assert verified(desk, entry, proof(ledger, 2)) == CANNOT_TELL
    assert verified(desk, entry, entry.read_text()) == CANNOT_TELL
    assert "has no inclusion proof" in said()
    assert verified(desk, entry, "") == CANNOT_TELL
    assert "is empty" in said()
    other = proof(ledger, 1)
    other.proof.hashes[0] = ledger.leaves[5]
    assert verified(desk, entry, other) == NOT_GENUINE
    assert "is not in the tree" in said()
    shorter = proof(ledger, 1)
    del shorter.proof.hashes[-1]
    assert verified(desk, entry, shorter) == NOT_GENUINE
    foreign = proof(ledger, 1)
    foreign.proof.checkpoint = Offline(SIZE).checkpoint(SIZE)
    assert verified(desk, entry, foreign) == NOT_GENUINE
    unsigned = proof(ledger, 1, 9)
    unsigned.proof.checkpoint = ""
    assert verified(desk, entry, unsigned) == CANNOT_TELL
    kept = desk.put("kept", ledger.checkpoint(9))
    assert verified(desk, entry, unsigned, "--checkpoint", str(kept)) == GENUINE
    kept = desk.put("kept", ledger.checkpoint(8))
    assert verified(desk, entry, unsigned, "--checkpoint", str(kept)) == CANNOT_TELL


@pytest.mark.parametrize(
    "text", ["", "[]", "null", "{", "[" * 100_000, '{"proof":{"hashes":7}}', '{"a":1,"a":2}']
)
def test_what_is_no_proof_proves_nothing(ledger: Offline, desk: Desk, text: str) -> None:
    assert verified(desk, entry_file(desk, ledger, 0), text) in {NOT_GENUINE, CANNOT_TELL}
    assert verified(desk, desk.put("entry.json", text), proof(ledger, 0)) in {
        NOT_GENUINE,
        CANNOT_TELL,
    }


def compared(desk: Desk, old: str, new: str, made: str | None) -> int:
    files = [str(desk.put("old", old)), str(desk.put("new", new))]
    more = [] if made is None else ["--proof", str(desk.put("proof.json", made))]
    return main(["checkpoints", *files, *more, "--key", str(desk.key)])


def consistency(ledger: Offline, old: int, new: int) -> str:
    spans = consistency_spans(old, new)
    hashes = [span_hash(span, ledger._hash) for span in spans]  # noqa: SLF001  (its own test)
    return printed(pb.GetConsistencyProofResponse(from_size=old, to_size=new, hashes=hashes))


def test_later_checkpoints_begin_with_earlier_ones(ledger: Offline, desk: Desk) -> None:
    for old in range(SIZE + 1):
        for new in range(old, SIZE + 1):
            made = consistency(ledger, old, new)
            first, last = ledger.checkpoint(old), ledger.checkpoint(new)
            assert compared(desk, first, last, made) == GENUINE
            without = GENUINE if old in {0, new} else CANNOT_TELL
            assert compared(desk, first, last, None) == without
            if old:
                forged = Offline(SIZE).checkpoint(old)
                assert compared(desk, forged, last, made) == NOT_GENUINE


def test_checkpoints_may_be_answers_of_the_service(ledger: Offline, desk: Desk) -> None:
    old = pb.GetCheckpointResponse(checkpoint=pb.Checkpoint(note=ledger.checkpoint(5)))
    made = consistency(ledger, 5, SIZE)
    assert compared(desk, printed(old), ledger.checkpoint(SIZE), made) == GENUINE
    assert compared(desk, '{"checkpoint": {}}', ledger.checkpoint(SIZE), made) == NOT_GENUINE


def test_what_cannot_be_compared_is_said(
    ledger: Offline, desk: Desk, said: Callable[[], str]
) -> None:
    five, seven = ledger.checkpoint(5), ledger.checkpoint(7)
    assert compared(desk, seven, five, consistency(ledger, 5, 7)) == CANNOT_TELL
    assert "newer" in said()
    assert compared(desk, five, seven, consistency(ledger, 5, 6)) == CANNOT_TELL
    later = signer(name=f"{LOG}/1")
    desk.key.write_text(desk.key.read_text() + f"{later.verifier}\n")
    epoch = signed(Checkpoint(later.verifier.name, 7, ledger.root(7)), later)
    assert compared(desk, five, epoch, consistency(ledger, 5, 7)) == GENUINE
    lost = signed(Checkpoint(later.verifier.name, 7, Offline(7).root(7)), later)
    assert compared(desk, five, lost, consistency(ledger, 5, 7)) == CANNOT_TELL
    assert "two epochs" in said()
    assert compared(desk, five, Offline(7).checkpoint(5), None) == NOT_GENUINE
    assert "Two histories were signed" in said()


def test_no_byte_of_a_consistency_proof_can_mean_anything_else(ledger: Offline, desk: Desk) -> None:
    content = consistency(ledger, 5, 11)
    old, new = ledger.checkpoint(5), ledger.checkpoint(11)
    for at in range(len(content)):
        flipped = content[:at] + chr(ord(content[at]) ^ 1) + content[at + 1 :]
        if compared(desk, old, new, flipped) == GENUINE:
            assert json.loads(flipped) == json.loads(content)


def test_base64_has_one_spelling(ledger: Offline, desk: Desk) -> None:
    answer = json.loads(printed(proof(ledger, 1)))
    first = answer["proof"]["hashes"][0]
    assert b64encode(ledger.leaves[0]).decode() == first
    answer["proof"]["hashes"][0] = first[:-2] + chr(ord(first[-2]) + 1) + "="  # a stray bit
    assert verified(desk, entry_file(desk, ledger, 1), json.dumps(answer)) == NOT_GENUINE


def test_spans_are_those_of_the_product(ledger: Offline) -> None:
    assert ledger.root(SIZE) == span_hash(Span(0, SIZE), ledger._hash)  # noqa: SLF001
