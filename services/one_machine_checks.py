"""What is looked at before anything starts: ports and the database, each with its sentence."""

import asyncio
import errno
import socket
import time

import asyncpg

from shared.setting_values import driver_url, split_address, without_password
from shared.settings import Settings, SettingsInvalid

SERVICES = ("audit", "catalog", "deployment")
OLDEST_POSTGRES = 16
CONNECT_SECONDS = 5.0
# The children of a launcher that was killed a moment ago need a moment to let go of their ports.
PORT_PATIENCE_SECONDS = 2.0


class CannotStart(Exception):
    """Something outside stands in the way; the text is one sentence that says what to do."""


def check_addresses(settings: Settings) -> None:
    """Raise CannotStart with a sentence for each address that cannot be served."""
    deadline = time.monotonic() + PORT_PATIENCE_SECONDS
    while problems := [text for name in SERVICES if (text := _address_problem(name, settings))]:
        if time.monotonic() > deadline:
            raise CannotStart("\n".join(problems))
        time.sleep(0.1)


def _address_problem(service: str, settings: Settings) -> str | None:
    name = f"{service.upper()}_ADDRESS"
    address: str = getattr(settings, f"{service}_address")
    try:
        settings.check_listening(address)
        _try_to_listen(*split_address(address))
    except SettingsInvalid as error:
        return f"{name}: {error}"
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return f"{name} {address} is in use: stop the program that listens there or set {name}."
        return f"{name} {address} cannot be served: {error.strerror}."
    return None


def _try_to_listen(host: str, port: int) -> None:
    family, kind, _protocol, _name, place = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    with socket.socket(family, kind) as attempt:
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        attempt.bind(place)
        attempt.listen(1)


def check_database(url: str) -> None:
    """Raise CannotStart when the database cannot be reached or is too old."""
    shown = without_password(url).replace("+asyncpg", "")
    try:
        version = asyncio.run(_server_version(url))
    except TimeoutError:
        problem = f"does not answer within {CONNECT_SECONDS:g} s"
    except OSError as error:
        # asyncpg lists what happened with each address of a name in an error without a number.
        refused = isinstance(error, ConnectionRefusedError) or "Connect call failed" in str(error)
        problem = f"cannot be reached ({'nobody listens there' if refused else error.strerror})"
    except (asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as error:
        problem = f"refuses the connection ({str(error).splitlines()[0].rstrip('.')})"
    else:
        if version >= OLDEST_POSTGRES:
            return
        problem = f"is PostgreSQL {version}, and {OLDEST_POSTGRES} or later is needed"
    sentence = f"The database {shown} {problem}: check DATABASE_URL."
    raise CannotStart(sentence)


async def _server_version(url: str) -> int:
    connection = await asyncpg.connect(driver_url(url), timeout=CONNECT_SECONDS)
    try:
        return connection.get_server_version().major
    finally:
        await connection.close()


async def has_users(url: str) -> bool:
    """Say whether the migrated database holds any user, and so needs no seed."""
    connection = await asyncpg.connect(driver_url(url), timeout=CONNECT_SECONDS)
    try:
        found: bool = await connection.fetchval("SELECT EXISTS (SELECT FROM users)")
    finally:
        await connection.close()
    return found
