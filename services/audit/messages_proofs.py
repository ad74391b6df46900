"""Proofs, checkpoints and verifications as wire messages."""

from functools import lru_cache

from release_manager.audit.v1 import audit_pb2 as pb

from services.audit.checking.verification import Progress
from services.audit.signing.ledger_key import KeyRing
from services.audit.signing.proofs import Consistency, Inclusion
from services.audit.store.trees import StoredCheckpoint


def checkpoint(stored: StoredCheckpoint, keys: KeyRing) -> pb.GetCheckpointResponse:
    """Return the newest checkpoint, and all keys."""
    return pb.GetCheckpointResponse(
        checkpoint=seen(stored),
        verifier_key=str(keys.verifier),
        verifier_keys=map(str, keys.verifiers),
    )


@lru_cache(maxsize=2)
def seen(stored: StoredCheckpoint | None) -> pb.Checkpoint | None:
    """Return a checkpoint; the message is made once and must not be changed."""
    if stored is None:
        return None
    return pb.Checkpoint(tree_size=stored.size, root=stored.root, note=stored.note)


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
        verified=made.verified,
        entries=made.entries,
        tree_size=made.signed,
        redacted=made.redacted,
        retired=made.retired,
    )
    if made.mismatch is not None:
        answer.verdict = pb.LEDGER_VERDICT_TAMPERED
        answer.first_mismatch, answer.problem = made.mismatch
    elif made.complete:
        answer.verdict = pb.LEDGER_VERDICT_INTACT
    return answer
