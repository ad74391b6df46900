"""Run the catalog service: `python -m services.catalog`.

`python -m services.catalog bootstrap [--trial]` makes the service accounts that the services use
and puts their tokens into the key directory; it changes nothing where all is there.
"""

import argparse
import asyncio
import sys

from sqlalchemy.exc import SQLAlchemyError

from services.catalog.app import catalog_server, database
from services.catalog.operations.bootstrap import NobodyToOwn, bootstrap
from shared.db.violations import translate
from shared.errors import DomainError
from shared.rpc.program import command_settings, run_service
from shared.rpc.run import UNUSABLE
from shared.settings import Settings


def main() -> int:
    """Serve until a signal, or bootstrap; return 2 when an operator must change something."""
    arguments = _parser().parse_args()
    if arguments.command == "bootstrap":
        return asyncio.run(_bootstrap(command_settings(), trial=arguments.trial))
    return run_service(catalog_server, lambda settings: settings.catalog_address)


async def _bootstrap(settings: Settings, *, trial: bool) -> int:
    db = database(settings)
    try:
        settings.key_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        renewed = await bootstrap(db, settings.key_dir, trial=trial)
    except (DomainError, NobodyToOwn, OSError, SQLAlchemyError) as error:
        _say(translate(error) or error)
        return UNUSABLE
    finally:
        await db.close()
    for name in renewed:
        _say(f"Service account {name}: new token in {settings.key_dir / name}.token")
    if not renewed:
        _say("The service accounts and their tokens are all there.")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m services.catalog", description=__doc__)
    commands = parser.add_subparsers(dest="command")
    making = commands.add_parser("bootstrap", help="make the service accounts of the services")
    making.add_argument(
        "--trial", action="store_true", help="also an account `trial`, to try LogAction with"
    )
    return parser


def _say(sentence: object) -> None:
    print(sentence, file=sys.stderr)  # noqa: T201  (for whoever started this)


if __name__ == "__main__":
    sys.exit(main())
