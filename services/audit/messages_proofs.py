"""Proofs, checkpoints and verifications as wire messages."""

from release_manager.audit.v1 import audit_pb2 as pb

from services.audit.proofs import Consistency, Inclusion
from services.audit.rules.note import Verifier
from services.audit.store.trees import StoredCheckpoint
from services.audit.verify import Progress


def checkpoint(stored: StoredCheckpoint, verifier: Verifier) -> pb.GetCheckpointResponse:
    """Return the newest checkpoint."""
    return pb.GetCheckpointResponse(
        checkpoint=pb.Checkpoint(tree_size=stored.size, root=stored.root, note=stored.note),
        verifier_key=str(verifier),
    )


def inclusion(proof: Inclusion) -> pb.InclusionProof:
    """Return the proof of an entry."""
    return pb.InclusionProof(
        leaf_index=proof.leaf_index,
        leaf_hash=proof.leaf_hash,
        tree_size=proof.size,
        hashes=proof.hashes,
        checkpoint=proof.note,
    )


def consistency(proof: Consistency) -> pb.GetConsistencyProofResponse:
    """Return the proof of two trees."""
    return pb.GetConsistencyProofResponse(
        from_size=proof.old,
        to_size=proof.new,
        hashes=proof.hashes,
        from_checkpoint=proof.old_note,
        to_checkpoint=proof.new_note,
    )


def progress(made: Progress) -> pb.VerifyLedgerResponse:
    """Return how far a verification is, and its verdict at the end."""
    answer = pb.VerifyLedgerResponse(
        verified=made.verified, entries=made.entries, tree_size=made.signed
    )
    if made.mismatch is not None:
        answer.verdict = pb.LEDGER_VERDICT_TAMPERED
        answer.first_mismatch, answer.problem = made.mismatch
    elif made.complete:
        answer.verdict = pb.LEDGER_VERDICT_INTACT
    return answer
