"""What an operator may tell the catalog service to do, beside serving.

`bootstrap` makes the service accounts that the services use and puts their tokens into the key
directory; it changes nothing where all is there. `rotate-token-key` replaces the key that signs
access tokens, and `drop-token-key KID` lets an old one count no more. `unlock USER` forgets the
failed log-ins of a person who is locked out. The services may run meanwhile: they need no restart
and fail no call.
"""

import argparse
import sys
from collections.abc import AsyncIterator
from datetime import timedelta

from sqlalchemy.exc import SQLAlchemyError

from services.catalog.app import database
from services.catalog.operations.bootstrap import NobodyToOwn, bootstrap
from services.catalog.operations.key_changes import (
    LONGEST_WAIT_S,
    PUBLISHED_S,
    CommandRefused,
    drop,
    rotate,
)
from services.catalog.operations.unlocking import unlock
from shared.db.engine import Database
from shared.db.violations import translate
from shared.domain_error import DomainError
from shared.identity.keys import KeysInvalid
from shared.rpc.run import UNUSABLE
from shared.settings import Settings


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line; without a command the service serves."""
    made = argparse.ArgumentParser(
        prog="python -m services.catalog",
        description=__doc__,
        epilog="Without a command the service serves.",
    )
    commands = made.add_subparsers(dest="command")
    making = commands.add_parser("bootstrap", help="make the service accounts of the services")
    making.add_argument(
        "--trial", action="store_true", help="also an account `trial`, to try LogAction with"
    )
    rotating = commands.add_parser("rotate-token-key", help="sign access tokens with a new key")
    rotating.add_argument(
        "--wait",
        type=_seconds,
        default=PUBLISHED_S,
        metavar="SECONDS",
        help=f"from publishing it to signing with it (default: {PUBLISHED_S:.0f})",
    )
    rotating.add_argument(
        "--publish-only",
        action="store_true",
        help="sign only when the command is given again, after copying the public key",
    )
    dropping = commands.add_parser("drop-token-key", help="let the tokens of an old key end")
    dropping.add_argument("kid", metavar="KID", help="as in the names of its files")
    dropping.add_argument(
        "--now", action="store_true", help="also when its tokens have not expired: after a theft"
    )
    unlocking = commands.add_parser("unlock", help="let somebody who is locked out log in again")
    unlocking.add_argument("user", metavar="USER", help="user name or id")
    return made


async def run(settings: Settings, arguments: argparse.Namespace) -> int:
    """Carry out a command; return 2 when an operator must change something."""
    db = database(settings)
    try:
        async for sentence in _steps(settings, arguments, db):
            _say(sentence)
    except (CommandRefused, KeysInvalid, NobodyToOwn) as error:
        _say(error)
        return UNUSABLE
    except (DomainError, OSError, SQLAlchemyError) as error:
        _say(translate(error) or error)
        return UNUSABLE
    finally:
        await db.close()
    return 0


def _steps(settings: Settings, arguments: argparse.Namespace, db: Database) -> AsyncIterator[str]:
    if arguments.command == "rotate-token-key":
        return rotate(
            db, settings.key_dir, wait_s=arguments.wait, publish_only=arguments.publish_only
        )
    if arguments.command == "drop-token-key":
        lifetime = timedelta(seconds=settings.access_token_seconds)
        return drop(db, settings.key_dir, arguments.kid, lifetime=lifetime, at_once=arguments.now)
    if arguments.command == "unlock":
        return _unlock(db, arguments.user)
    return _bootstrap(settings, db, trial=arguments.trial)


async def _bootstrap(settings: Settings, db: Database, *, trial: bool) -> AsyncIterator[str]:
    settings.key_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    renewed = await bootstrap(db, settings.key_dir, trial=trial)
    for name in renewed:
        yield f"Service account {name}: new token in {settings.key_dir / name}.token"
    if not renewed:
        yield "The service accounts and their tokens are all there."


async def _unlock(db: Database, reference: str) -> AsyncIterator[str]:
    user = await unlock(db, reference)
    yield f"The failed log-ins of {user.username} are forgotten: passwords are compared again."


def _seconds(text: str) -> float:
    if not 0 <= (seconds := float(text)) <= LONGEST_WAIT_S:
        raise argparse.ArgumentTypeError(f"must be 0 to {LONGEST_WAIT_S:.0f}")
    return seconds


def _say(sentence: object) -> None:
    print(sentence, file=sys.stderr)  # noqa: T201  (for whoever started this)
