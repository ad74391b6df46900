"""Calls from one service to another: token, request id, deadline, retries, and errors as raised.

A deadline is set on every call here and not in the service config, whose time-outs fire early in
Python; the config only says what is tried again. An error arrives as the class that the other
service raised.
"""

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc

from shared.domain_error import DomainError
from shared.errors import DatabaseUnavailable, DeadlineExceeded
from shared.identity.actor import current_call
from shared.rpc.call import REQUEST_ID_HEADER
from shared.rpc.interceptors.deadline import time_left
from shared.rpc.server import KEEPALIVE_SECONDS
from shared.rpc.status import from_rpc_error
from shared.rpc.tls import Tls, channel_credentials

TokenSource = Callable[[], str | None]

DEFAULT_SECONDS = 5.0
LARGEST_ANSWER = 16 * 1_048_576

SERVICE_CONFIG = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.05s",
                "maxBackoff": "1s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
}


def dial(
    address: str,
    *,
    token: TokenSource | None = None,
    tls: Tls | None = None,
    seconds: float = DEFAULT_SECONDS,
    unavailable: type[DomainError] = DatabaseUnavailable,
) -> grpc.aio.Channel:
    """Return a channel to the service at `address`; one is enough for a process, and long-lived.

    `token` is asked at each call, so that a new one needs no restart. `seconds` bounds unary calls
    that name no timeout, and never exceeds what the call being served has left. `unavailable` is
    raised (without facts) when the service cannot be reached at all.
    """
    options = (
        ("grpc.service_config", json.dumps(SERVICE_CONFIG)),
        ("grpc.enable_retries", 1),
        ("grpc.max_receive_message_length", LARGEST_ANSWER),
        ("grpc.keepalive_time_ms", KEEPALIVE_SECONDS * 1000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.max_reconnect_backoff_ms", 5_000),
    )
    outgoing = _Outgoing(token, seconds, unavailable)
    interceptors = (_UnaryCalls(outgoing), _StreamCalls(outgoing))
    if tls is None:
        return grpc.aio.insecure_channel(address, options, interceptors=interceptors)
    credentials = channel_credentials(tls)
    return grpc.aio.secure_channel(address, credentials, options, interceptors=interceptors)


class _Outgoing:
    """What is added to every call, and what becomes of its failure."""

    def __init__(
        self, token: TokenSource | None, seconds: float, unavailable: type[DomainError]
    ) -> None:
        self._token = token
        self._seconds = seconds
        self._unavailable = unavailable

    def details(
        self, details: grpc.aio.ClientCallDetails, *, bounded: bool
    ) -> grpc.aio.ClientCallDetails:
        """Return the details with credentials, request id and, when `bounded`, a timeout."""
        metadata = grpc.aio.Metadata(*(details.metadata or ()))
        call = current_call.get(None)
        if call is not None and metadata.get(REQUEST_ID_HEADER) is None:
            metadata.add(REQUEST_ID_HEADER, call.request_id)
        token = self._token() if self._token is not None else None
        if token and metadata.get("authorization") is None:
            metadata.add("authorization", f"Bearer {token}")
        timeout = details.timeout
        if timeout is None and bounded:
            left = time_left()
            timeout = self._seconds if left is None else min(self._seconds, left)
        return grpc.aio.ClientCallDetails(
            details.method, timeout, metadata, details.credentials, details.wait_for_ready
        )

    def raised(self, failure: grpc.aio.AioRpcError) -> Exception:
        """Return the error that the other side raised, or one that says there is no other side."""
        error = from_rpc_error(failure)
        if error is not None:
            return error
        if failure.code() is grpc.StatusCode.UNAVAILABLE:
            return self._unavailable()
        if failure.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            return DeadlineExceeded()
        return failure


class _UnaryCalls(grpc.aio.UnaryUnaryClientInterceptor):
    def __init__(self, outgoing: _Outgoing) -> None:
        self._outgoing = outgoing

    async def intercept_unary_unary(
        self,
        continuation: Callable[..., Any],
        client_call_details: grpc.aio.ClientCallDetails,
        request: Any,  # noqa: ANN401  (all messages)
    ) -> Any:  # noqa: ANN401
        details = self._outgoing.details(client_call_details, bounded=True)
        call = await continuation(details, request)
        try:
            # Awaited here so that the failure can be replaced; the answer is already there then.
            await call
        except grpc.aio.AioRpcError as failure:
            raise self._outgoing.raised(failure) from failure
        return call


class _StreamCalls(grpc.aio.UnaryStreamClientInterceptor):
    def __init__(self, outgoing: _Outgoing) -> None:
        self._outgoing = outgoing

    async def intercept_unary_stream(
        self,
        continuation: Callable[..., Any],
        client_call_details: grpc.aio.ClientCallDetails,
        request: Any,  # noqa: ANN401
    ) -> AsyncIterator[Any]:
        details = self._outgoing.details(client_call_details, bounded=False)
        return self._answers(await continuation(details, request))

    async def _answers(self, call: Any) -> AsyncIterator[Any]:  # noqa: ANN401
        try:
            async for answer in call:
                yield answer
        except grpc.aio.AioRpcError as failure:
            raise self._outgoing.raised(failure) from failure
