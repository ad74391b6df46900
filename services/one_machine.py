"""Everything on one machine: PostgreSQL, migrations, the seed and the three services, until Ctrl-C.

PostgreSQL and the services are children in sessions of their own, so that Ctrl-C reaches only this
process and the order of stopping is ours: first the two services that write audit entries, then
audit, then PostgreSQL. Exit code 0 after a requested stop, 2 when something outside is in the way,
1 when one of our own programs failed.
"""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType

from services.first_calls import reachable, welcome
from services.one_machine_checks import (
    SERVICES,
    CannotStart,
    check_addresses,
    check_database,
    has_users,
)
from services.one_machine_child import BackOff, Child, how_it_ended
from shared.db.embedded import EmbeddedPostgres
from shared.db.embedded_host import EmbeddedPostgresError, dying_with_us
from shared.identity.keys import KeysInvalid, ensure_keys
from shared.rpc.probe import is_serving
from shared.setting_values import split_address
from shared.settings import Settings, SettingsInvalid, read_settings

PROJECT = Path(__file__).resolve().parents[1]
HEALTH_SECONDS = 60.0
POLL_SECONDS = 0.2
# What a service needs beyond its grace period to close its connections and end.
CLOSING_SECONDS = 5.0
MIGRATE = ("-m", "alembic", "upgrade", "head")
SEED = ("-m", "seed")
BOOTSTRAP = ("-m", "services.catalog", "bootstrap", "--trial")


class OwnProgramFailed(Exception):
    """One of our programs ended with an error, which it has printed itself."""


def main() -> int:
    """Run until asked to stop; return the exit code."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        settings = read_settings()
        check_addresses(settings)
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        ensure_keys(settings.key_dir)
        with _database(settings) as (url, postgres):
            asyncio.run(_run(settings, url, postgres))
    except KeyboardInterrupt:
        pass
    except (SettingsInvalid, CannotStart, EmbeddedPostgresError, KeysInvalid) as error:
        say(str(error))
        return 2
    except OSError as error:
        say(f"{error.filename} cannot be used: {error.strerror}.")
        return 2
    except OwnProgramFailed as error:
        say(str(error))
        return 1
    say("stopped")
    return 0


def say(sentence: str) -> None:
    """Tell the person at the terminal; answers of programs go to standard output instead."""
    print(sentence, file=sys.stderr, flush=True)  # noqa: T201


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@contextmanager
def _database(settings: Settings) -> Iterator[tuple[str, EmbeddedPostgres | None]]:
    """Provide the database's URL, and the server when it is ours to keep running."""
    if settings.chosen_database_url is not None:
        check_database(settings.chosen_database_url)
        yield settings.chosen_database_url, None
        return
    with EmbeddedPostgres(settings.data_dir) as postgres:
        say(f"PostgreSQL runs on {postgres.cluster}")
        yield postgres.url(), postgres


async def _run(settings: Settings, url: str, postgres: EmbeddedPostgres | None) -> None:
    """Prepare the database, start the services, announce them, keep them running."""
    me = asyncio.current_task()
    if me is None:  # pragma: no cover  (a coroutine always runs in a task)
        return
    # From here on a signal unwinds this task, and with it everything that was started.
    _on_signal(me.cancel)
    children = [
        Child(name, (sys.executable, "-m", f"services.{name}"), environment, say)
        for name, environment in _environments(settings, url).items()
    ]
    try:
        environment = _environments(settings, url)["catalog"]
        await _prepare(url, environment)
        for child in children:
            await child.start()
        # The services take a token when they first need it, so they may start meanwhile.
        bootstrap = _run_program("The bootstrap of service accounts", BOOTSTRAP, environment)
        await asyncio.gather(bootstrap, _until_serving(settings, children))
        print(welcome(settings), "", "ready", sep="\n", flush=True)  # noqa: T201
        async with asyncio.TaskGroup() as tasks:
            for child in children:
                tasks.create_task(child.keep_running())
            if postgres is not None:
                tasks.create_task(_keep_postgres(postgres))
    except asyncio.CancelledError:
        say("stopping; once more stops at once")
    finally:
        _on_signal(partial(_kill, children))
        await _stop(children, settings.grace_seconds + CLOSING_SECONDS)


def _on_signal(act: Callable[[], object]) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, act)


def _kill(children: list[Child]) -> None:
    for child in children:
        child.kill()


async def _stop(children: list[Child], seconds: float) -> None:
    """Stop the children, audit last: the others still deliver to it while they drain."""
    audit, *others = children
    await asyncio.gather(*(child.stop(seconds) for child in others))
    await audit.stop(seconds)


def _environments(settings: Settings, url: str) -> dict[str, dict[str, str]]:
    """Return the environment of each child: ours, with what we decided for all of them."""
    decided = os.environ | {
        "DATABASE_URL": url,
        "RELEASE_MANAGER_DATA_DIR": str(settings.data_dir),
        "RELEASE_MANAGER_KEY_DIR": str(settings.key_dir),
    }
    environments = {name: dict(decided) for name in SERVICES}
    if settings.metrics_address is not None:
        host, port = split_address(settings.metrics_address)
        shown = f"[{host}]" if ":" in host else host
        for place, environment in enumerate(environments.values()):
            environment["METRICS_ADDRESS"] = f"{shown}:{port + place}"
    return environments


async def _prepare(url: str, environment: Mapping[str, str]) -> None:
    """Migrate, and seed when there is nobody yet."""
    # Alembic's configuration lies in the project; everything else keeps our working directory.
    await _run_program("The migration", MIGRATE, environment, PROJECT)
    if not await has_users(url):
        await _run_program("The seed", SEED, environment)


async def _run_program(
    name: str, words: tuple[str, ...], environment: Mapping[str, str], directory: Path | None = None
) -> None:
    """Run one of our programs to its end, and end it when we are told to stop."""
    process = await asyncio.create_subprocess_exec(
        *dying_with_us("TERM"),
        sys.executable,
        *words,
        cwd=directory,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        # Standard output is for what we announce ourselves.
        stdout=sys.stderr.fileno(),
        start_new_session=True,
    )
    try:
        code = await process.wait()
    except asyncio.CancelledError:
        process.terminate()
        await process.wait()
        raise
    if code != 0:
        sentence = f"{name} {how_it_ended(code)}; what it said is above."
        raise OwnProgramFailed(sentence)


async def _until_serving(settings: Settings, children: list[Child]) -> None:
    """Wait until every service says that it serves; a service that ends has failed."""
    deadline = time.monotonic() + HEALTH_SECONDS
    for child in children:
        address = reachable(getattr(settings, f"{child.name}_address"))
        while not await is_serving(address, settings):
            for other in children:
                if other.exit_code is not None:
                    sentence = f"{other.name} {how_it_ended(other.exit_code)} at its start."
                    raise OwnProgramFailed(sentence)
            if time.monotonic() > deadline:
                sentence = f"{child.name} is not healthy after {HEALTH_SECONDS:g} s."
                raise OwnProgramFailed(sentence)
            await asyncio.sleep(POLL_SECONDS)


async def _keep_postgres(postgres: EmbeddedPostgres) -> None:
    """Start PostgreSQL again, for ever, whenever it has ended."""
    back_off = BackOff()
    began = time.monotonic()
    while True:
        await asyncio.sleep(POLL_SECONDS)
        if postgres.running:
            continue
        wait = back_off.after(time.monotonic() - began)
        say(f"PostgreSQL has ended; it starts again in {wait:g} s")
        await asyncio.sleep(wait)
        began = time.monotonic()
        try:
            postgres.start()
        except EmbeddedPostgresError as error:
            say(str(error))
