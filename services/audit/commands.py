"""What an operator may tell the audit service to do, beside serving.

`rotate-key` adds a key, which signs beside the old ones from then on; `drop-key KEYID` lets an old
one sign no more; `new-epoch --reason TEXT` goes on after signed entries were lost. The service may
run meanwhile: it needs no restart and fails no call.
"""

import argparse
import sys
from collections.abc import AsyncIterator

from sqlalchemy.exc import SQLAlchemyError

from services.audit.appending.own_entries import OwnEntries
from services.audit.signing.checkpoint_file import CheckpointFile, CheckpointFileInvalid
from services.audit.signing.key_changes import CommandRefused, drop_key, rotate_key
from services.audit.signing.new_epoch import MOST_REASON, NewEpoch
from shared.db.engine import Database
from shared.db.violations import translate
from shared.domain_error import DomainError
from shared.identity.keys import KeysInvalid, load_keys
from shared.rpc.run import UNUSABLE
from shared.settings import Settings

ROLES = ("rm_audit_writer", "rm_audit_reader", None)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line; without a command the service serves."""
    made = argparse.ArgumentParser(
        prog="python -m services.audit",
        description=__doc__,
        epilog="Without a command the service serves.",
    )
    commands = made.add_subparsers(dest="command")
    commands.add_parser("rotate-key", help="add a key, which becomes the current one")
    dropping = commands.add_parser("drop-key", help="let an old key sign no more")
    dropping.add_argument("key_id", metavar="KEYID", help="8 hexadecimal digits, as in notes")
    beginning = commands.add_parser("new-epoch", help="go on after signed entries were lost")
    beginning.add_argument("--reason", required=True, type=_reason, help="why entries are lost")
    beginning.add_argument("--dry-run", action="store_true", help="only say what would be done")
    beginning.add_argument(
        "--although-not-behind",
        action="store_true",
        help="also when there are as many entries as were signed, but other ones",
    )
    return made


async def run(settings: Settings, arguments: argparse.Namespace) -> int:
    """Carry out a command; return 2 when an operator must change something."""
    databases = [
        Database(settings.database_url, role=role, application_name="audit command", pool_size=1)
        for role in ROLES
    ]
    try:
        async for sentence in _steps(settings, arguments, *databases):
            _say(sentence)
    except (CommandRefused, CheckpointFileInvalid, KeysInvalid) as error:
        _say(error)
        return UNUSABLE
    except (DomainError, OSError, SQLAlchemyError) as error:
        _say(translate(error) or error)
        _say("Give the command again when this is mended.")
        return UNUSABLE
    finally:
        for database in databases:
            await database.close()
    return 0


def _steps(
    settings: Settings,
    arguments: argparse.Namespace,
    writer: Database,
    reader: Database,
    owner: Database,
) -> AsyncIterator[str]:
    entries = OwnEntries(writer, reader, load_keys(settings.key_dir).hmac)
    if arguments.command == "rotate-key":
        return rotate_key(settings.key_dir, entries)
    if arguments.command == "drop-key":
        return drop_key(settings.key_dir, entries, arguments.key_id)
    file = CheckpointFile(settings.checkpoint_file)
    return _new_epoch(NewEpoch(owner, entries, settings.key_dir, file), arguments)


async def _new_epoch(epoch: NewEpoch, arguments: argparse.Namespace) -> AsyncIterator[str]:
    plan = await epoch.plan()
    for sentence in plan.sentences:
        yield sentence
    if not plan.is_behind and not arguments.although_not_behind:
        raise CommandRefused(
            "The ledger has as many entries as were signed, but other ones: it may have been"
            " tampered with. Run VerifyLedger first; --although-not-behind goes on nevertheless."
        )
    if arguments.dry_run:
        yield "Nothing was changed."
        return
    async for sentence in epoch.begin(plan, arguments.reason):
        yield sentence
    yield "The running services sign again at once. ReconcileAudit of catalog and deployment"
    yield "delivers what was lost and is still in their outboxes; they do it by themselves too."


def _reason(text: str) -> str:
    if not text.strip() or len(text) > MOST_REASON:
        raise argparse.ArgumentTypeError(f"must have 1 to {MOST_REASON} characters")
    return text.strip()


def _say(sentence: object) -> None:
    print(sentence, file=sys.stderr)  # noqa: T201  (for whoever started this)
