"""Who read the ledger: every look into it is itself an entry, written before anything is shown.

Entries of category `access`, producer `audit`, about the caller of the current call. When an entry
cannot be appended the call fails, so nothing is seen without a trace. What a stream ends with is
told by a second entry; nobody waits for that one, and the caller may be gone.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import structlog
from prometheus_client import Counter

from services.audit.appending.ledger import Ledger, Own, Refused
from services.audit.rules.canonical import MAX_EXACT
from services.audit.rules.events import Event
from shared.clock import Clock
from shared.domain_error import DomainError
from shared.identity.actor import caller, current_call
from shared.rpc.stopping import ended

RESOURCE = "audit_log"
EVERYTHING = "*"
# How often, and how many seconds apart, the entry about the end of a stream is tried.
ATTEMPTS = 60
AGAIN_S = 1.0
CLOSING_S = 5.0

LOST = Counter(
    "ledger_traces_lost",
    "Entries about the end of a stream that could not be appended; each is in the log.",
)
_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Session:
    """A stream that is being read; what is set here goes into the entry about its end."""

    _traces: "Traces"
    _action: str
    _started: float
    rows: int = 0
    ended: bool = False
    details: dict[str, object] = field(default_factory=dict)

    async def end(self, reason: str, **details: object) -> None:
        """Write the entry about the end now, before the last message is sent."""
        await self._traces.append(self.last(reason, **details))
        self.ended = True

    def last(self, reason: str, **details: object) -> Own:
        """Return the entry about the end."""
        seconds = round(time.perf_counter() - self._started, 3)
        known = {"reason": reason, "rows": self.rows, "seconds": seconds}
        done = f"{self._action}_done"
        return self._traces.entry(done, EVERYTHING, known | self.details | details)


class Traces:
    """Writes who reads what, through the queue that all entries go through."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        """Take the ledger, and the clock that says when something was read."""
        self._ledger = ledger
        self._clock = clock
        self._writing: set[asyncio.Task[None]] = set()

    def now(self) -> int:
        """Return the time in seconds since 1970, for what must be told again after a while."""
        return int(self._clock().timestamp())

    async def write(
        self, action: str, details: Mapping[str, object], resource_id: str = EVERYTHING
    ) -> None:
        """Append an entry about the current call; raises what hinders it, and nothing is shown."""
        await self.append(self.entry(action, resource_id, details))

    @asynccontextmanager
    async def session(
        self, action: str, details: Mapping[str, object], *, needed: bool = True
    ) -> AsyncIterator[Session]:
        """Append an entry at the beginning of a stream, and one at its end, however it ends.

        One that is not `needed` first, because the stream shows no entry, may also come later.
        """
        first = self.entry(action, EVERYTHING, details)
        if needed:
            await self.append(first)
        else:
            await self._try(first)
        session = Session(self, action, time.perf_counter())
        reason = "COMPLETE"
        try:
            yield session
        except DomainError as error:
            reason = error.reason
            raise
        except asyncio.CancelledError:
            reason = "CANCELLED"  # the caller went away, or its deadline passed
            raise
        except BaseException:
            reason = "FAILED"
            raise
        finally:
            if not session.ended:
                self._later(session.last(reason))

    async def close(self) -> None:
        """Wait for entries about ends; to be called when no call is running any more."""
        if self._writing:
            await asyncio.wait(self._writing, timeout=CLOSING_S)
        await ended(list(self._writing), CLOSING_S)

    def entry(self, action: str, resource_id: str, details: Mapping[str, object]) -> Own:
        """Return the entry about the current call."""
        call, actor = current_call.get(), caller()
        known: dict[str, object] = {
            "method": call.method.rpartition("/")[2],
            "request_id": call.request_id,
        }
        if actor.on_behalf_of is not None:
            known["on_behalf_of"] = str(actor.on_behalf_of)
        event = Event(
            action=action,
            resource_type=RESOURCE,
            resource_id=resource_id,
            occurred_at=self._clock(),
            details={name: _spelled(value) for name, value in (known | dict(details)).items()},
            ip_address=call.ip_address,
            user_agent=call.user_agent,
            category="access",
        )
        return Own(event, actor.user_id)

    async def append(self, own: Own) -> None:
        """Append an entry; raises what hinders it."""
        [outcome] = await self._ledger.record([own])
        if isinstance(outcome, Refused):
            raise outcome.error

    async def _try(self, own: Own) -> None:
        try:
            await self.append(own)
        except Exception:  # noqa: BLE001  (a ledger that takes nothing can be verified all the same)
            self._later(own)

    def _later(self, own: Own) -> None:
        writing = asyncio.create_task(self._insist(own), name="audit trace")
        self._writing.add(writing)
        writing.add_done_callback(self._writing.discard)

    async def _insist(self, own: Own) -> None:
        """Append an entry that nobody waits for, again and again while the database is away."""
        problem = "CANCELLED"
        try:
            for attempt in range(ATTEMPTS):
                if attempt:
                    await asyncio.sleep(AGAIN_S)
                try:
                    await self.append(own)
                except Exception as error:  # noqa: BLE001  (whatever it is, it may pass)
                    problem = type(error).__name__
                else:
                    problem = ""
                    return
        finally:
            if problem:
                LOST.inc()
                _log.error(
                    "audit_trace_lost",
                    problem=problem,
                    action=own.event.action,
                    user_id=str(own.user_id),
                    details=own.event.details,
                )


def _spelled(value: object) -> object:
    """Return a value as an entry can tell it: positions that no JSON number holds are text."""
    too_large = isinstance(value, int) and abs(value) > MAX_EXACT
    return str(value) if too_large else value
