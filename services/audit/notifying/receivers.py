"""The way to receivers: one POST, signed, to an address that was checked, and what came back.

Redirects are not followed, nothing of an answer is unpacked, and little of it is read. Names are
resolved here and connected to as they were resolved: a name that leads elsewhere a moment later
gains nothing by it.
"""

import asyncio
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http import HTTPStatus
from ipaddress import ip_address
from typing import Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from services.audit.rules import webhook_signing
from services.audit.rules.webhook_targets import TargetRefused, Targets

EXCERPT_BYTES: Final = 512
# As many as there may be webhooks: names that resolve slowly let no other receiver wait.
RESOLVERS: Final = 100
USER_AGENT: Final = "release-manager-webhooks"


@dataclass(frozen=True, slots=True)
class Message:
    """What is sent: `body` is JSON of the CDEvents type `kind`; `keys` sign, the newest first."""

    id: str
    kind: str
    source: str
    body: bytes
    keys: tuple[bytes, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: `status` is 0 when nothing did, `error` "" when it was 2xx."""

    status: int
    error: str
    latency: timedelta

    @property
    def is_taken(self) -> bool:
        """Whether the receiver has taken it."""
        return not self.error


class Receivers:
    """Sends messages; one for each process."""

    def __init__(self, targets: Targets, timeout_s: float) -> None:
        """Take what an operator allows, and how long an answer may take in all, in seconds."""
        self._targets = targets
        self._timeout_s = timeout_s
        self._pool = ThreadPoolExecutor(RESOLVERS, thread_name_prefix="webhook names")
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def send(self, url: str, message: Message, now: datetime) -> Answer:
        """Send a message once, and never fail; `now` is the time that is signed."""
        began = time.monotonic()
        status, error = 0, ""
        try:
            self._targets.check_url(url)
            async with asyncio.timeout(self._timeout_s):
                status, error = await self._post(url, message, int(now.timestamp()))
        except TargetRefused as refused:
            error = f"The URL {refused}."
        except TimeoutError:
            error = f"No answer within {self._timeout_s:g} seconds."
        except (aiohttp.ClientError, OSError, ValueError) as failed:
            error = _in_words(failed)
        return Answer(status, error, timedelta(seconds=time.monotonic() - began))

    async def _post(self, url: str, message: Message, seconds: int) -> tuple[int, str]:
        headers = {
            "content-type": "application/json",
            "user-agent": USER_AGENT,
            "webhook-id": message.id,
            "webhook-timestamp": str(seconds),
            "webhook-signature": webhook_signing.signature(
                message.keys, message.id, seconds, message.body
            ),
            "ce-specversion": "1.0",
            "ce-id": message.id,
            "ce-source": message.source,
            "ce-type": message.kind,
        }
        session = self._connected()
        target = URL(url, encoded=True)
        async with session.post(
            target, data=message.body, headers=headers, allow_redirects=False
        ) as answer:
            if HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES:
                return answer.status, ""  # taken, whatever else there is to come
            begins = await answer.content.read(EXCERPT_BYTES)
            if not answer.content.at_eof():
                answer.close()  # rather than read what else there is
            return answer.status, _told(answer.status, begins)

    def _connected(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                resolver=_CheckedNames(self._targets, self._pool), use_dns_cache=False, limit=0
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
                timeout=aiohttp.ClientTimeout(total=None),
            )
        return self._session


class _CheckedNames(AbstractResolver):
    """Resolves names, and refuses one of whose addresses a single one is refused."""

    def __init__(self, targets: Targets, pool: ThreadPoolExecutor) -> None:
        self._targets = targets
        self._pool = pool

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await asyncio.get_running_loop().run_in_executor(
            self._pool, socket.getaddrinfo, host, port, family, socket.SOCK_STREAM
        )
        resolved: list[ResolveResult] = []
        for kind, _type, protocol, _name, address in found:
            text = str(address[0])
            self._targets.check_address(host, ip_address(text.partition("%")[0]))
            resolved.append(
                ResolveResult(
                    hostname=host,
                    host=text,
                    port=port,
                    family=kind,
                    proto=protocol,
                    flags=socket.AI_NUMERICHOST,
                )
            )
        return resolved

    async def close(self) -> None:
        """Nothing is kept."""


def _told(status: int, begins: bytes) -> str:
    text = "".join(
        letter if letter.isprintable() else " " for letter in begins.decode(errors="replace")
    ).strip()
    return f"HTTP {status}: {text}" if text else f"HTTP {status}."


def _in_words(failed: Exception) -> str:
    """Return what went wrong without addresses, which are nobody's business."""
    if isinstance(failed, aiohttp.ClientConnectorDNSError | socket.gaierror):
        return "The name of the host cannot be resolved."
    if isinstance(failed, aiohttp.ClientConnectorCertificateError):
        return "The certificate of the receiver is not valid."
    if isinstance(failed, aiohttp.ClientConnectorSSLError):
        return "The receiver does not speak TLS as it should."
    if isinstance(failed, aiohttp.ClientConnectorError):
        return "The receiver cannot be connected to."
    return f"The connection failed: {type(failed).__name__}."
