"""Run the catalog service: `python -m services.catalog`; `--help` names what else it can do."""

import asyncio
import sys

from services.catalog import commands
from services.catalog.app import catalog_server
from shared.rpc.program import command_settings, run_service


def main() -> int:
    """Serve until a signal, or do what is asked; 2 when an operator must change something."""
    arguments = commands.parser().parse_args()
    if arguments.command is not None:
        return asyncio.run(commands.run(command_settings(), arguments))
    return run_service(catalog_server, lambda settings: settings.catalog_address)


if __name__ == "__main__":
    sys.exit(main())
