"""What `python -m services.<name>` does: read the settings, serve, and say why it cannot.

A command beside a service, such as `bootstrap`, also finds the embedded database of this machine.
"""

import asyncio
import gc
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial

from shared.db.embedded import running_url
from shared.identity.keys import KeysInvalid
from shared.log import configure_logging
from shared.rpc.run import UNUSABLE, run_workers, serve
from shared.rpc.server import RpcServer, ServerUnusable
from shared.settings import Settings, SettingsInvalid, read_settings, settings_or_exit

ServerOf = Callable[[Settings], AbstractAsyncContextManager[RpcServer]]
# New objects before the youngest are collected, and rounds before the older ones are.
COLLECTIONS = (10_000, 20, 50)


def run_service(server_of: ServerOf, address: Callable[[Settings], str]) -> int:
    """Serve until a signal; return the exit code, 2 when an operator must change something.

    `server_of` must be a function of a module, since worker processes import it by its name.
    """
    settings = settings_or_exit()
    try:
        if settings.workers > 1:
            return run_workers(partial(_work, server_of), settings.workers, address(settings))
        _work(server_of, 0)
    except (KeysInvalid, ServerUnusable, SettingsInvalid) as error:
        print(error, file=sys.stderr)  # noqa: T201  (for whoever started this)
        return UNUSABLE
    return 0


def command_settings() -> Settings:
    """Return the settings of a command, or print what is wrong with them and leave with code 2.

    Without DATABASE_URL its database is the one that `python -m services` runs on the same data
    directory.
    """
    settings = settings_or_exit()
    if settings.chosen_database_url is not None:
        return settings
    url = running_url(settings.data_dir)
    if url is None:
        sentence = (
            f"DATABASE_URL is not set, and no database runs on {settings.data_dir}: set it, or"
            " start `make run` and give the command again in the same directory."
        )
        print(sentence, file=sys.stderr)  # noqa: T201  (for whoever started this)
        raise SystemExit(UNUSABLE)
    return read_settings(database_url=url)


def _work(server_of: ServerOf, _index: int) -> None:
    settings = settings_or_exit()
    configure_logging(settings.log_level, settings.log_format)
    asyncio.run(_serve(server_of, settings))


async def _serve(server_of: ServerOf, settings: Settings) -> None:
    async with server_of(settings) as server:
        # What is there by now stays until the end. Looked through in each full collection, it
        # would hold up all calls; calls leave few cycles, so that collections can be rarer, too.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*COLLECTIONS)
        await serve(server)
