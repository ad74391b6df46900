"""`python -m services.audit.verify`: says whether an export, an entry, a checkpoint is genuine.

Exit code 0: genuine. 1: not genuine; the sentence says what is wrong first. 2: cannot tell.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from services.audit.verify import evidence
from services.audit.verify.export_file import verify_export
from services.audit.verify.proofs import verify_checkpoints, verify_entry
from services.audit.verify.verdict import CannotTell, NotGenuine

GENUINE, NOT_GENUINE, CANNOT_TELL = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Print one sentence and return the exit code."""
    asked = _parser().parse_args(arguments)
    try:
        print(_verified(asked))  # noqa: T201  (what it is asked for)
    except NotGenuine as error:
        print(f"NOT GENUINE: {error}")  # noqa: T201
        return NOT_GENUINE
    except CannotTell as error:
        print(f"Cannot tell: {error}")  # noqa: T201
        return CANNOT_TELL
    except Exception as error:  # noqa: BLE001  (Python would end with the code of "not genuine")
        print(f"Cannot tell: the verifier itself failed: {error!r}.")  # noqa: T201
        return CANNOT_TELL
    return GENUINE


def _verified(asked: argparse.Namespace) -> str:
    keys = evidence.keys_of(asked.key)
    match asked.command:
        case "export":
            note = evidence.note_of(asked.manifest, "manifest")
            kept = None
            if asked.checkpoint is not None:
                kept_note = evidence.note_of(asked.checkpoint, "checkpoint", "note")
                kept = evidence.checkpoint_of(kept_note, keys, "Your checkpoint")
            return verify_export(asked.file, note, keys, kept)
        case "entry":
            return verify_entry(asked.entry, asked.proof, keys, asked.checkpoint)
        case _:
            return verify_checkpoints(asked.old, asked.new, asked.proof, keys)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m services.audit.verify",
        description="Verifies what came from the audit ledger, with nothing but a public key.",
        epilog="Exit code: 0 genuine, 1 not genuine, 2 cannot tell.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    export = commands.add_parser("export", help="an export against its manifest")
    export.add_argument("file", type=Path, help="the export, in whatever format")
    export.add_argument("--manifest", type=Path, required=True, help="as the export ended with it")
    entry = commands.add_parser("entry", help="an entry against an inclusion proof")
    entry.add_argument("entry", type=Path, help="answer of GetAuditLog, or a line of NDJSON")
    entry.add_argument("--proof", type=Path, required=True, help="answer of GetInclusionProof")
    two = commands.add_parser("checkpoints", help="a checkpoint against an earlier one")
    two.add_argument("old", type=Path, help="the earlier one: a note, or answer of GetCheckpoint")
    two.add_argument("new", type=Path, help="the later one")
    two.add_argument("--proof", type=Path, help="answer of GetConsistencyProof")
    for command in (export, entry):
        command.add_argument("--checkpoint", type=Path, help="one that you have kept elsewhere")
    for command in (export, entry, two):
        command.add_argument(
            *("-k", "--key"),
            type=Path,
            required=True,
            action="append",
            help="file of verifier keys, one a line, such as ledger.pub; may be repeated",
        )
    return parser


if __name__ == "__main__":
    sys.exit(main())
