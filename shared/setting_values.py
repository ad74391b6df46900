"""What single settings look like: addresses, lists and the URL of the database."""

import re
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Annotated, Literal, TypeVar
from urllib.parse import parse_qsl, quote, unquote, urlencode

from pydantic import AfterValidator, BeforeValidator
from pydantic_settings import NoDecode

Item = TypeVar("Item")

HIGHEST_PORT = 65_535
_ADDRESS = re.compile(
    r"(?:\[(?P<v6>[0-9A-Fa-f:.%]+)\]|(?P<host>[A-Za-z0-9_.-]+)):(?P<port>\d{1,5})"
)
_DATABASE = re.compile(
    r"(?:postgres|postgresql|postgresql\+asyncpg)://"
    r"(?:(?P<user>[^/?#]*)@)?(?P<hosts>[^/?#@]*)/(?P<name>[^/?#]+)(?:\?(?P<query>[^#]*))?"
)
_DATABASE_OPTIONS = frozenset(
    {"host", "port", "ssl", "target_session_attrs", "passfile", "prepared_statement_cache_size"}
)


def split_address(text: str) -> tuple[str, int]:
    """Return host and port of `host:port` or `[v6]:port`; raises ValueError for anything else."""
    match = _ADDRESS.fullmatch(text.strip())
    if match is None or not 0 < int(match["port"]) <= HIGHEST_PORT:
        sentence = "must be host:port, such as 127.0.0.1:50051 or [::1]:50051"
        raise ValueError(sentence)
    return match["v6"] or match["host"], int(match["port"])


def check_address(text: str) -> str:
    """Return `text` when it is an address, else raise ValueError."""
    split_address(text)
    return text.strip()


def is_loopback(address: str) -> bool:
    """Say whether only this machine reaches `address`."""
    host, _port = split_address(address)
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def split_list(item: Callable[[str], Item]) -> Callable[[object], object]:
    """Return a reader of lists written with commas, each part read by `item`."""

    def read(value: object) -> object:
        if not isinstance(value, str):
            return value
        return tuple(item(part.strip()) for part in value.split(",") if part.strip())

    return read


def normal_database_url(text: str) -> str:
    """Return the URL in the one form the product uses, `postgresql+asyncpg://…`.

    Several hosts, `h1:5432,h2:5432`, move into the query, where SQLAlchemy and asyncpg both find
    them, and libpq's `sslmode` becomes asyncpg's `ssl`. No error repeats the URL: it may hold a
    password.
    """
    match = _DATABASE.fullmatch(text.strip())
    if match is None:
        sentence = "must look like postgresql://user:password@host:5432/database"
        raise ValueError(sentence)
    options = dict(parse_qsl(match["query"] or "", keep_blank_values=True, strict_parsing=False))
    if "sslmode" in options:
        options["ssl"] = options.pop("sslmode")
    unknown = sorted(set(options) - _DATABASE_OPTIONS)
    if unknown:
        sentence = (
            f"has unknown options ({', '.join(unknown)}); known are"
            f" {', '.join(sorted(_DATABASE_OPTIONS | {'sslmode'}))}. Certificates are named by"
            " PGSSLROOTCERT, PGSSLCERT and PGSSLKEY in the environment"
        )
        raise ValueError(sentence)
    hosts = match["hosts"]
    if "," in hosts:
        options |= _several_hosts(hosts)
        hosts = ""
    user = f"{match['user']}@" if match["user"] else ""
    query = f"?{urlencode(options, quote_via=quote, safe='/,')}" if options else ""
    return f"postgresql+asyncpg://{user}{hosts}/{match['name']}{query}"


def _several_hosts(hosts: str) -> dict[str, str]:
    pairs = [
        entry.rpartition(":") if ":" in entry else (entry, "", "5432") for entry in hosts.split(",")
    ]
    if not all(host and port.isdigit() for host, _colon, port in pairs):
        sentence = "has a host without a name or with a port that is no number"
        raise ValueError(sentence)
    return {
        "host": ",".join(host for host, _colon, _port in pairs),
        "port": ",".join(port for _host, _colon, port in pairs),
    }


def driver_url(url: str) -> str:
    """Return the same database for asyncpg alone, without SQLAlchemy."""
    head, _mark, query = normal_database_url(url).partition("?")
    options = dict(parse_qsl(query))
    options.pop("prepared_statement_cache_size", None)
    if "ssl" in options:
        options["sslmode"] = options.pop("ssl")
    tail = f"?{urlencode(options, quote_via=quote, safe='/,')}" if options else ""
    return head.replace("postgresql+asyncpg://", "postgresql://", 1) + tail


def without_password(url: str) -> str:
    """Return the URL fit for a person's eyes: no password, for sentences and logs."""
    return unquote(re.sub(r"//([^/@:]*):[^/@]*@", r"//\1@", url, count=1))


Network = IPv4Network | IPv6Network
Address = Annotated[str, AfterValidator(check_address)]
DatabaseUrl = Annotated[str, AfterValidator(normal_database_url)]
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(split_list(str.lower))]
Networks = Annotated[tuple[Network, ...], NoDecode, BeforeValidator(split_list(ip_network))]
LogLevel = Annotated[
    Literal["debug", "info", "warning", "error"], BeforeValidator(lambda text: str(text).lower())
]
