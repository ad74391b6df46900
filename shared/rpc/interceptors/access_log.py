"""One line in the log and one observation for each call, whatever becomes of it."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import grpc
import structlog
from prometheus_client import Counter, Gauge, Histogram

from shared.identity.access import OPEN_SERVICES
from shared.identity.actor import Call, current_call
from shared.rpc.call import REQUEST_ID_HEADER, Network, describe_call, text_metadata
from shared.rpc.interceptors.around import (
    Around,
    Behaviour,
    Context,
    Continuation,
    MaybeHandler,
    Rpc,
)

CALL_SECONDS = Histogram(
    "rpc_server_call_duration_seconds",
    "Time from the arrival of a call to its end",
    ("rpc_method", "rpc_response_status_code"),
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
CALLS_RUNNING = Gauge("rpc_server_calls_running", "Calls being served", ("rpc_method",))
UNKNOWN_METHODS = Counter("rpc_server_unknown_methods", "Calls of methods that nobody serves")

LONGEST_METHOD = 256
SERVER_FAULTS = frozenset(
    {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS}
)

_log = structlog.get_logger(__name__)


class AccessLog(Around):
    """The outermost interceptor: begins the current call, and reports its end."""

    def __init__(self, trusted_proxies: Sequence[Network] = ()) -> None:
        """Take the networks whose `x-forwarded-for` is believed."""
        super().__init__()
        self._trusted_proxies = trusted_proxies

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> MaybeHandler:
        """Wrap the handler; a method that nobody serves has none, but is reported as well."""
        handler = await super().intercept_service(continuation, handler_call_details)
        if handler is None:
            UNKNOWN_METHODS.inc()
            code = grpc.StatusCode.UNIMPLEMENTED.name
            _log.info("rpc", method=handler_call_details.method[:LONGEST_METHOD], code=code)
        return handler

    async def around(self, rpc: Rpc, request: Any, context: Context, proceed: Behaviour) -> Any:  # noqa: ANN401
        """Describe the call, proceed, and report code and duration."""
        metadata = text_metadata(context.invocation_metadata())
        call = describe_call(rpc.method, metadata, context.peer(), self._trusted_proxies)
        current_call.set(call)
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=call.request_id)
        context.set_trailing_metadata(((REQUEST_ID_HEADER, call.request_id),))
        started = time.perf_counter()
        code = grpc.StatusCode.UNKNOWN
        running = CALLS_RUNNING.labels(rpc.method)
        running.inc()
        try:
            answer = await proceed(request, context)
            code = _code(context)
        except grpc.aio.AbortError:
            code = _code(context)
            raise
        except (asyncio.CancelledError, grpc.aio.BaseError):
            out_of_time = context.time_remaining() == 0
            codes = (grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED)
            code = codes[out_of_time]
            raise
        finally:
            running.dec()
            _report(call, code, time.perf_counter() - started)
        return answer


def _code(context: Context) -> grpc.StatusCode:
    """Return the code that was set; the context knows none as long as all is well."""
    code: object = context.code()  # 0 at first, whatever the stubs say
    return code if isinstance(code, grpc.StatusCode) else grpc.StatusCode.OK


def _report(call: Call, code: grpc.StatusCode, seconds: float) -> None:
    CALL_SECONDS.labels(call.method, code.name).observe(seconds)
    report = _log.info
    if code in SERVER_FAULTS:
        report = _log.error
    elif call.method.split("/")[1] in OPEN_SERVICES:
        report = _log.debug
    report(
        "rpc",
        method=call.method,
        code=code.name,
        milliseconds=round(seconds * 1000, 2),
        ip_address=call.ip_address,
    )
