"""What `python -m services.<name>` does: read the settings, serve, and say why it cannot."""

import asyncio
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial

from shared.identity.keys import KeysInvalid
from shared.log import configure_logging
from shared.rpc.run import UNUSABLE, run_workers, serve
from shared.rpc.server import RpcServer, ServerUnusable
from shared.settings import Settings, SettingsInvalid, settings_or_exit

ServerOf = Callable[[Settings], AbstractAsyncContextManager[RpcServer]]


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


def _work(server_of: ServerOf, _index: int) -> None:
    settings = settings_or_exit()
    configure_logging(settings.log_level, settings.log_format)
    asyncio.run(_serve(server_of, settings))


async def _serve(server_of: ServerOf, settings: Settings) -> None:
    async with server_of(settings) as server:
        await serve(server)
