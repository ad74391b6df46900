"""Checkpoints, proofs, tiles and the verification as callers see them."""

from hashlib import sha256

import pytest
from release_manager.audit.v1 import audit_pb2 as pb

from shared.ids import new_id
from shared.merkle.checkpoint import opened
from shared.merkle.note import Verifier
from shared.merkle.tree import EMPTY_ROOT, verify_consistency, verify_inclusion
from tests.rpc.audit.conftest import Service, as_, event, refusal

pytestmark = pytest.mark.asyncio(loop_scope="session")
LEAD = as_("lead1")


async def newest(audit: Service) -> pb.GetCheckpointResponse:
    answer: pb.GetCheckpointResponse = await audit.stub.GetCheckpoint(
        pb.GetCheckpointRequest(), metadata=LEAD
    )
    return answer


async def verdict(audit: Service, known: str = "") -> pb.VerifyLedgerResponse:
    request = pb.VerifyLedgerRequest(known_checkpoint=known)
    made = [one async for one in audit.stub.VerifyLedger(request, metadata=LEAD)]
    assert all(one.verdict == pb.LEDGER_VERDICT_UNSPECIFIED for one in made[:-1])
    last: pb.VerifyLedgerResponse = made[-1]
    return last


async def test_an_empty_ledger_has_a_checkpoint(audit: Service) -> None:
    answer = await newest(audit)
    assert (answer.checkpoint.tree_size, answer.checkpoint.root) == (0, EMPTY_ROOT)
    assert (await verdict(audit)).verdict == pb.LEDGER_VERDICT_INTACT


async def test_an_entry_is_proved_when_the_producer_waits_for_it(audit: Service) -> None:
    await audit.log(*(event(number) for number in range(20)))
    sent = event(20)
    request = pb.LogActionRequest(event=sent, wait_for=pb.WAIT_FOR_INTEGRATED)
    answer = await audit.stub.LogAction(request, metadata=as_("deployment"))
    proof = answer.proof
    key = Verifier.parse((await newest(audit)).verifier_key)
    checkpoint = opened(proof.checkpoint, key)
    assert (proof.leaf_index, proof.tree_size, checkpoint.size) == (20, 21, 21)
    leaf = answer.audit_log.leaf_hash
    assert proof.leaf_hash == leaf
    assert verify_inclusion(leaf, 20, 21, proof.hashes, checkpoint.root)
    again = await audit.stub.LogAction(request, metadata=as_("deployment"))
    assert again.deduplicated
    assert again.proof.leaf_index == 20
    request.wait_for = pb.WAIT_FOR_SEQUENCED
    quick = await audit.stub.LogAction(request, metadata=as_("deployment"))
    assert not quick.HasField("proof")


async def test_history_is_proved_between_two_checkpoints(audit: Service) -> None:
    # Of the caller's own, so that asking for their proofs is no entry in between.
    await audit.log(*(event(number, user="lead1") for number in range(7)))
    index = pb.GetInclusionProofRequest(leaf_index=6)
    await audit.stub.GetInclusionProof(index, metadata=LEAD)
    old = await newest(audit)
    await audit.log(*(event(number, user="lead1") for number in range(9)))
    index.leaf_index = 15
    await audit.stub.GetInclusionProof(index, metadata=LEAD)
    new = await newest(audit)
    assert old.verifier_key == new.verifier_key
    proof = await audit.stub.GetConsistencyProof(
        pb.GetConsistencyProofRequest(from_size=7), metadata=LEAD
    )
    assert (proof.from_size, proof.to_size) == (7, 16)
    assert (proof.from_checkpoint, proof.to_checkpoint) == (
        old.checkpoint.note,
        new.checkpoint.note,
    )
    assert verify_consistency(7, 16, proof.hashes, old.checkpoint.root, new.checkpoint.root)
    last = await verdict(audit, old.checkpoint.note)
    # The last one says that the ledger is being verified, and may be signed by now.
    assert (last.verified, last.entries) == (17, 17)
    assert last.tree_size in {16, 17}
    assert last.verdict == pb.LEDGER_VERDICT_INTACT
    assert not last.HasField("first_mismatch")


async def test_an_entry_is_proved_by_its_id_in_a_tree_of_any_size(audit: Service) -> None:
    await audit.log(*(event(number) for number in range(5)))
    entry = (
        await audit.stub.GetAuditLog(pb.GetAuditLogRequest(leaf_index=2), metadata=LEAD)
    ).audit_log
    request = pb.GetInclusionProofRequest(id=entry.id, tree_size=4)
    proof = (await audit.stub.GetInclusionProof(request, metadata=LEAD)).proof
    assert (proof.leaf_index, proof.tree_size, proof.leaf_hash) == (2, 4, entry.leaf_hash)
    tile = pb.GetTileRequest(level=0, tile=0, width=4)
    hashes = (await audit.stub.GetTile(tile, metadata=LEAD)).hashes
    leaves = [hashes[at : at + 32] for at in range(0, 128, 32)]
    left, right = (sha256(b"\x01" + leaves[at] + leaves[at + 1]).digest() for at in (0, 2))
    assert list(proof.hashes) == [leaves[3], left]
    root = sha256(b"\x01" + left + right).digest()
    assert verify_inclusion(entry.leaf_hash, 2, 4, proof.hashes, root)


async def test_what_is_not_there_is_refused(audit: Service) -> None:
    await audit.log(event())
    stub = audit.stub
    nobody = str(new_id())
    for method, request, reason in (
        (
            stub.GetInclusionProof,
            pb.GetInclusionProofRequest(leaf_index=1),
            "POSITION_OUT_OF_RANGE",
        ),
        (
            stub.GetInclusionProof,
            pb.GetInclusionProofRequest(id=nobody),
            "RESOURCE_NOT_FOUND",
        ),
        (
            stub.GetInclusionProof,
            pb.GetInclusionProofRequest(leaf_index=0, tree_size=2),
            "POSITION_OUT_OF_RANGE",
        ),
        (
            stub.GetConsistencyProof,
            pb.GetConsistencyProofRequest(from_size=2),
            "POSITION_OUT_OF_RANGE",
        ),
        (
            stub.GetConsistencyProof,
            pb.GetConsistencyProofRequest(from_size=2, to_size=1),
            "VALIDATION_FAILED",
        ),
        (stub.GetTile, pb.GetTileRequest(), "POSITION_OUT_OF_RANGE"),
        (stub.GetTile, pb.GetTileRequest(level=8), "VALIDATION_FAILED"),
        (stub.GetTile, pb.GetTileRequest(width=257), "VALIDATION_FAILED"),
    ):
        error = await refusal(method(request, metadata=LEAD))
        assert error.reason == reason, request


async def test_a_changed_entry_is_named(audit: Service) -> None:
    await audit.log(*(event(number) for number in range(12)))
    await audit.owner.execute("ALTER TABLE audit_logs DISABLE TRIGGER USER")
    await audit.owner.execute("UPDATE audit_logs SET action = 'x' WHERE leaf_index = 9")
    last = await verdict(audit)
    assert last.verdict == pb.LEDGER_VERDICT_TAMPERED
    assert (last.first_mismatch, last.verified) == (9, 9)
    assert last.problem == ("The entry at 9 was changed: its fields do not match its digest.")


async def test_signing_that_has_stopped_is_told(audit: Service) -> None:
    await audit.log(*(event(number, user="lead1") for number in range(3)))
    proof = pb.GetInclusionProofRequest(leaf_index=2)
    await audit.stub.GetInclusionProof(proof, metadata=LEAD)
    await audit.owner.execute("ALTER TABLE merkle_tiles DISABLE TRIGGER USER")
    await audit.owner.execute("DELETE FROM merkle_tiles")
    request = pb.LogActionRequest(event=event(3), wait_for=pb.WAIT_FOR_INTEGRATED)
    error = await refusal(audit.stub.LogAction(request, metadata=as_("deployment")))
    assert (error.reason, error.facts["size"]) == ("SIGNING_STOPPED", "4")
    assert "tile 0/0 is missing" in error.facts["problem"]
    stored = await audit.stub.GetAuditLog(pb.GetAuditLogRequest(leaf_index=3), metadata=LEAD)
    assert stored.audit_log.event_id == request.event.event_id
    assert (await verdict(audit)).first_mismatch == 0
