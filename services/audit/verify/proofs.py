"""Proofs of one entry, and of one checkpoint by another."""

from pathlib import Path

from services.audit.rules.exported import EntryNotGenuine, recomputed
from services.audit.verify import evidence, proto_json
from services.audit.verify.evidence import Keys, member_of
from services.audit.verify.verdict import CannotTell, NotGenuine
from shared.merkle.tree import verify_consistency, verify_inclusion


def verify_entry(entry: Path, proof: Path, keys: Keys, checkpoint: Path | None = None) -> str:
    """Return the sentence about a proved entry; raises NotGenuine and CannotTell.

    `checkpoint` is the signed tree of the proof, where the proof does not have it.
    """
    told = proto_json.entry(evidence.document(entry))
    try:
        found = recomputed(told)
    except EntryNotGenuine as error:
        raise NotGenuine(f"The entry {error}.") from error
    answer = evidence.document(proof)
    inner = member_of(answer, "proof")
    given = inner if isinstance(inner, dict) else answer
    if member_of(given, "hashes") is None and member_of(given, "tree_size") is None:
        raise CannotTell(f"{proof} has no inclusion proof: give the answer of GetInclusionProof.")
    index = proto_json.whole(member_of(given, "leaf_index"))
    if index != found.leaf_index:
        raise CannotTell(
            f"The entry has position {found.leaf_index}, the proof is that of position {index}."
        )
    if proto_json.data(member_of(given, "leaf_hash")) not in {b"", found.leaf}:
        raise NotGenuine("The proof is that of another leaf.")
    if checkpoint is not None:
        note = evidence.note_of(checkpoint, "checkpoint", "note")
    else:
        note = str(member_of(given, "checkpoint") or "")
    if not note:
        raise CannotTell("The proof has no checkpoint: give the one of its tree size.")
    signed = evidence.checkpoint_of(note, keys, "The checkpoint")
    size = proto_json.whole(member_of(given, "tree_size"))
    if size != signed.size:
        raise CannotTell(f"The proof is for {size} entries, the checkpoint for {signed.size}.")
    hashes = proto_json.hashes(member_of(given, "hashes"))
    if not verify_inclusion(found.leaf, index, size, hashes, signed.root):
        raise NotGenuine("The entry is not in the tree of the checkpoint at its position.")
    erased = ""
    if found.missing is not None:
        erased = f" Erased from it were: {', '.join(found.missing.fields)}."
    return (
        f"Genuine: the entry {found.id} is at position {index:,} of the first {size:,} entries of"
        f" {signed.origin}.{erased}"
    )


def verify_checkpoints(old: Path, new: Path, proof: Path | None, keys: Keys) -> str:
    """Return the sentence about two checkpoints of one history; raises NotGenuine, CannotTell."""
    first = evidence.checkpoint_of(evidence.note_of(old, "checkpoint", "note"), keys, str(old))
    last = evidence.checkpoint_of(evidence.note_of(new, "checkpoint", "note"), keys, str(new))
    if first.size > last.size:
        raise CannotTell("The first checkpoint is the newer one: give them in their order.")
    hashes: list[bytes] = []
    if proof is not None:
        given = evidence.document(proof)
        sizes = [proto_json.whole(member_of(given, name)) for name in ("from_size", "to_size")]
        if sizes != [first.size, last.size]:
            raise CannotTell(
                f"The proof is for {sizes[0]} and {sizes[1]} entries, the checkpoints are for"
                f" {first.size} and {last.size}."
            )
        hashes = proto_json.hashes(member_of(given, "hashes"))
    elif 0 < first.size < last.size:
        raise CannotTell(f"A consistency proof from {first.size} to {last.size} is needed.")
    if not verify_consistency(first.size, last.size, hashes, first.root, last.root):
        if first.origin != last.origin:
            raise CannotTell(
                f"They are of two epochs of the log, {first.origin} and {last.origin}, and the"
                " later does not begin with the earlier: see whether the entry that began it quotes"
                " the earlier one as lost."
            )
        if first.size == last.size and first.root != last.root:
            raise NotGenuine(
                f"Two histories were signed: both are of {first.size:,} entries, and their roots"
                " differ."
            )
        raise NotGenuine("The proof does not show that the later one begins with the earlier one.")
    return (
        f"Genuine: the first {last.size:,} entries of {last.origin} begin with the {first.size:,}"
        " of the earlier checkpoint, unchanged."
    )
