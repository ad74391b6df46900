"""A gRPC server: services, interceptors in their order, health, reflection, an orderly end."""

import asyncio
import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

import grpc
import structlog
from grpc_health.v1 import health_pb2_grpc
from prometheus_client import start_http_server

from shared.identity.access import AccessRules
from shared.identity.verifier import Verifier
from shared.rpc.call import Network
from shared.rpc.health import Health, Readiness
from shared.rpc.interceptors.access import Access, OnDenied
from shared.rpc.interceptors.access_log import AccessLog
from shared.rpc.interceptors.deadline import UNARY_SECONDS, Deadline
from shared.rpc.interceptors.errors import Errors
from shared.rpc.interceptors.identity import Identity
from shared.rpc.interceptors.validation import Validation
from shared.rpc.methods import Methods, methods_of
from shared.rpc.reflection import add_reflection
from shared.rpc.stopping import CANCELLED_AGAIN_S, ended
from shared.rpc.tls import Tls, server_credentials
from shared.settings import Settings

HEALTH = "grpc.health.v1.Health"
MEBIBYTE = 1_048_576
MOST_WORKERS = 64
MOST_METADATA_BYTES = 8_192
# A client that finds the limit reached sees calls refused, not queued; MAX_CONCURRENT_CALLS is
# the limit that answers with a status, without a reason as it is gRPC's own.
MOST_STREAMS_PER_CONNECTION = 1_000
KEEPALIVE_SECONDS = 60
LEAST_PING_SECONDS = 20

Adder = Callable[[Any, grpc.aio.Server], None]

_log = structlog.get_logger(__name__)


class ServerUnusable(Exception):
    """The server cannot start, for a reason that an operator can remove; exit with code 2."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """What a server needs to know. `max_request_bytes` bounds one message it receives."""

    address: str
    tls: Tls | None = None
    allow_plaintext: bool = False
    reflection: bool = True
    grace_seconds: float = 20.0
    shares_port: bool = False
    metrics_address: str | None = None
    max_request_bytes: int = MEBIBYTE
    max_concurrent_calls: int = 1_000
    max_connection_age_seconds: float = 1_800.0
    unary_seconds: float = UNARY_SECONDS
    trusted_proxies: tuple[Network, ...] = ()

    @classmethod
    def of(cls, settings: Settings, address: str, max_request_bytes: int) -> "ServerOptions":
        """Return the options of a service that listens on `address`."""
        tls = None
        if settings.tls_certificate is not None:
            tls = Tls(settings.tls_certificate, settings.tls_key, settings.tls_client_ca)
        return cls(
            address=address,
            tls=tls,
            allow_plaintext=settings.allow_plaintext,
            reflection=settings.reflection,
            grace_seconds=settings.grace_seconds,
            shares_port=settings.workers > 1,
            metrics_address=settings.metrics_address,
            max_request_bytes=min(max_request_bytes, settings.max_message_bytes),
            max_concurrent_calls=settings.max_concurrent_calls,
            max_connection_age_seconds=settings.max_connection_age_seconds,
            trusted_proxies=settings.trusted_proxies,
        )


class RpcServer:
    """A server of one process. `add` the services, then `start`; `stop` drains.

    `stopping` is set when draining begins: whoever serves a stream ends it then.
    """

    def __init__(
        self,
        options: ServerOptions,
        *,
        verifier: Verifier,
        readiness: Readiness | None = None,
        on_denied: OnDenied | None = None,
    ) -> None:
        """Take who knows the callers, what tells readiness, and whom to tell of refusals."""
        self.options = options
        self.stopping = asyncio.Event()
        self.address = options.address
        self._verifier = verifier
        self._readiness = readiness
        self._on_denied = on_denied
        self._services: dict[str, tuple[Adder, object]] = {}
        self._read_by_servicer: frozenset[str] = frozenset()
        self._server: grpc.aio.Server | None = None
        self._health: Health | None = None
        self._probing: asyncio.Task[None] | None = None

    def add(
        self,
        service: str,
        adder: Adder,
        servicer: object,
        *,
        reads: frozenset[str] = frozenset(),
    ) -> None:
        """Serve `servicer` under the full name of its service, by its generated adder.

        `reads` are fields that it checks itself: see `Validation`.
        """
        self._services[service] = (adder, servicer)
        self._read_by_servicer |= reads

    async def start(self) -> None:
        """Listen; raises ServerUnusable when the address cannot be, or must not be, used."""
        own = methods_of(self._services)
        self._server = grpc.aio.server(
            interceptors=self._interceptors(own),
            options=_core_options(self.options),
            maximum_concurrent_rpcs=self.options.max_concurrent_calls,
        )
        for adder, servicer in self._services.values():
            adder(servicer, self._server)
        self._health = Health(self._services, self.stopping)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if self.options.reflection:
            add_reflection((*self._services, HEALTH), self._server)
        self.address = _bind(self._server, self.options)
        _serve_metrics(self.options)
        if self._readiness is None:
            self._health.set_ready(ready=True)
        else:
            await self._health.probe(self._readiness)
            self._probing = asyncio.create_task(self._health.follow(self._readiness))
        await self._server.start()
        _log.info("listening", address=self.address, services=sorted(self._services))

    def _interceptors(self, methods: Methods) -> Sequence[grpc.aio.ServerInterceptor]:
        """Return the interceptors, outermost first; each relies on those before it.

        The log sees how every call ends. Errors come right inside it, so that all the others may
        raise. A deadline covers the look-up of the caller as well. Whether a caller may is decided
        before the request is decoded, in the last one.
        """
        rules = AccessRules(methods)
        return (
            AccessLog(self.options.trusted_proxies),
            Errors(),
            Deadline(self.options.unary_seconds),
            Identity(self._verifier, rules, self._on_denied),
            Access(rules, self._on_denied),
            Validation(methods, self._read_by_servicer),
        )

    async def stop(self) -> None:
        """Drain: not ready, streams told, running calls given the grace period, then the end."""
        if self._server is None or self._health is None or self.stopping.is_set():
            return
        _log.info("stopping", address=self.address, grace_seconds=self.options.grace_seconds)
        self.stopping.set()
        self._health.set_ready(ready=False)
        if self._probing is not None:
            await ended([self._probing], CANCELLED_AGAIN_S)
        await self._server.stop(self.options.grace_seconds)


def _core_options(options: ServerOptions) -> list[tuple[str, int]]:
    """Return the options of gRPC's core. Keepalive: clients may ping as often as ours do."""
    return [
        ("grpc.so_reuseport", int(options.shares_port)),
        ("grpc.max_receive_message_length", options.max_request_bytes),
        ("grpc.max_metadata_size", MOST_METADATA_BYTES),
        ("grpc.absolute_max_metadata_size", 2 * MOST_METADATA_BYTES),
        ("grpc.max_concurrent_streams", MOST_STREAMS_PER_CONNECTION),
        ("grpc.max_connection_age_ms", int(options.max_connection_age_seconds * 1000)),
        ("grpc.keepalive_time_ms", KEEPALIVE_SECONDS * 1000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", LEAST_PING_SECONDS * 1000),
    ]


def _bind(server: grpc.aio.Server, options: ServerOptions) -> str:
    """Bind and return the address with the port that was taken, which matters for port 0."""
    address = options.address
    local = address.startswith("unix:")
    private = options.tls is not None or options.allow_plaintext or local or _is_loopback(address)
    if not private:
        sentence = (
            f"{address} is not a loopback address: set TLS_CERTIFICATE and TLS_KEY, or"
            " ALLOW_PLAINTEXT=true where something in front of it encrypts"
        )
        raise ServerUnusable(sentence)
    try:
        if options.tls is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, server_credentials(options.tls))
    except (RuntimeError, OSError, ValueError) as error:
        reason = "is it in use by another process?" if isinstance(error, RuntimeError) else error
        sentence = f"cannot listen on {address}: {reason}"
        raise ServerUnusable(sentence) from error
    return address if local else f"{address.rpartition(':')[0]}:{port}"


def _is_loopback(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _serve_metrics(options: ServerOptions) -> None:
    """Serve /metrics; workers of one service take successive ports, each has its own numbers."""
    if options.metrics_address is None:
        return
    host, _, port = options.metrics_address.rpartition(":")
    last = int(port) + (MOST_WORKERS - 1 if options.shares_port else 0)
    for candidate in range(int(port), last + 1):
        try:
            start_http_server(candidate, host.strip("[]"))
        except OSError as error:
            if candidate == last or error.errno != errno.EADDRINUSE:
                sentence = f"cannot serve metrics on {options.metrics_address}: {error.strerror}"
                raise ServerUnusable(sentence) from error
        else:
            return
