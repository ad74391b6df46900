"""Health (`grpc.health.v1`): whether the server, and each of its services, can do work now.

The name `liveness` is always SERVING while the process answers; all other names follow readiness,
so that an orchestrator restarts a process only when that can help.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable

import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc

from shared.errors import ResourceNotFound, ServerStopping
from shared.rpc.interceptors.around import Context

LIVENESS = "liveness"
PROBE_SECONDS = 1.0
PROBE_TIMEOUT_SECONDS = 1.0

Readiness = Callable[[], Awaitable[bool]]
Serving = health_pb2.HealthCheckResponse

_log = structlog.get_logger(__name__)


class Health(health_pb2_grpc.HealthServicer):
    """The health service. Watchers hear every change, and the end when the server stops."""

    def __init__(self, services: Iterable[str], stopping: asyncio.Event) -> None:
        """Start NOT_SERVING for all `services` and the empty name, which is the whole server."""
        self._names = ("", *services)
        self._ready = False
        self._stopping = stopping
        self._changed = asyncio.Event()

    async def Check(  # noqa: N802
        self, request: health_pb2.HealthCheckRequest, _context: Context
    ) -> health_pb2.HealthCheckResponse:
        """Return the status of one name; raises ResourceNotFound for one that is not known."""
        if request.service != LIVENESS and request.service not in self._names:
            raise ResourceNotFound(resource_type="service", resource=request.service)
        return Serving(status=self._status(request.service))

    async def List(  # noqa: N802
        self, _request: health_pb2.HealthListRequest, _context: Context
    ) -> health_pb2.HealthListResponse:
        """Return the status of every name."""
        names = (*self._names, LIVENESS)
        statuses = {name: Serving(status=self._status(name)) for name in names}
        return health_pb2.HealthListResponse(statuses=statuses)

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Context) -> None:  # noqa: N802
        """Send the status now and at each change; unknown names are SERVICE_UNKNOWN, as agreed."""
        sent = None
        while True:
            changed = self._changed
            status = self._status(request.service)
            if status != sent:
                await context.write(Serving(status=status))
                sent = status
            if self._stopping.is_set():
                raise ServerStopping
            await changed.wait()

    def _status(self, name: str) -> health_pb2.HealthCheckResponse.ServingStatus:
        if name == LIVENESS:
            return Serving.SERVING
        if name not in self._names:
            return Serving.SERVICE_UNKNOWN
        return Serving.SERVING if self._ready else Serving.NOT_SERVING

    def set_ready(self, *, ready: bool) -> None:
        """Change the status of all names and wake the watchers; once stopping, ready is over."""
        self._ready = ready and not self._stopping.is_set()
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def follow(self, readiness: Readiness) -> None:
        """Keep the status in step with `readiness` until cancelled."""
        while True:
            await self.probe(readiness)
            await asyncio.sleep(PROBE_SECONDS)

    async def probe(self, readiness: Readiness) -> None:
        """Ask once; no answer in time, or an exception, is a no."""
        try:
            # Unlike wait_for, this loses no cancellation that meets the answer (Python 3.11).
            async with asyncio.timeout(PROBE_TIMEOUT_SECONDS):
                ready = await readiness()
        except Exception as error:  # noqa: BLE001  (whatever hinders the probe hinders work)
            _log.warning("readiness_probe_failed", error=type(error).__name__)
            ready = False
        if ready != self._ready and not self._stopping.is_set():
            _log.info("readiness_changed", ready=ready)
            self.set_ready(ready=ready)
