"""What was refused: denied calls and reused event ids, as entries of category `security`.

Whoever is refused does not wait for the entry. The first refusal of a kind is written at once, the
ones like it once a minute with their number, so that a flood of them neither fills the ledger nor
goes unseen (see `shared.floods`).
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

import structlog
from prometheus_client import Counter

from services.audit.appending.ledger import Logged, Own, Refused
from services.audit.rules.events import Event
from shared.clock import Clock
from shared.domain_error import DomainError, Kind
from shared.errors import EventIdReused
from shared.floods import Floods, Report, pause
from shared.identity.actor import Actor, Call, current_call

LONGEST_METHOD = 256
LONGEST_AGENT = 512
AGAIN_S = 1.0
# New kinds of refusals within this time share a commit.
TOGETHER_S = 0.05
LAST_ATTEMPTS = 3

REUSED = Counter("ledger_event_ids_reused", "Events refused because their id has other content.")
DENIED = Counter("ledger_calls_denied", "Calls of the audit service that were denied.")
_log = structlog.get_logger(__name__)

Record = Callable[[Sequence[Own]], Awaitable[list[Logged | Refused]]]


@dataclass(frozen=True, slots=True)
class Sort:
    """What makes two refusals the same: what was tried, by whom, from where, why it was refused."""

    action: str
    resource_id: str
    user_id: UUID | None
    ip_address: str | None
    reason: str


class Refusals:
    """Notes refusals at once and writes them by and by."""

    def __init__(self, clock: Clock) -> None:
        """Take the clock that says when something was refused."""
        self._clock = clock
        # Apart, so that a producer that reuses ids cannot hide a denied call among its own.
        self._floods: tuple[Floods[Sort, Event], ...] = (Floods(), Floods())
        self._unwritten: Sequence[Own] = ()
        self._news = asyncio.Event()
        self._stopping = False
        self._record: Record | None = None
        self._writer: asyncio.Task[None] | None = None

    def start(self, record: Record) -> None:
        """Begin to write by `record`."""
        self._record = record
        self._writer = asyncio.create_task(self._write_for_ever(), name="audit refusals")

    async def stop(self) -> None:
        """Write all that was noted, and end; to be called when no call is running any more."""
        self._stopping = True
        self._news.set()
        if self._writer is not None:
            await self._writer

    async def denied(self, call: Call, error: DomainError) -> None:
        """Note a denied call; implements `shared.rpc.interceptors.access.OnDenied`."""
        DENIED.inc()
        user_id = call.actor.user_id if call.actor else None
        method = call.method[:LONGEST_METHOD]
        event = Event(
            action="call_denied",
            resource_type="rpc",
            resource_id=method,
            details={"reason": error.reason, "request_id": call.request_id},
        )
        sort = Sort(event.action, method, user_id, call.ip_address, error.reason)
        self._note(self._floods[0], sort, event, call)

    async def among(self, outcomes: Sequence[Logged | Refused]) -> None:
        """Note those events of a batch that the producer was denied; the call itself succeeds."""
        for outcome in outcomes:
            if isinstance(outcome, Refused) and outcome.error.kind is Kind.DENIED:
                await self.denied(current_call.get(), outcome.error)

    def reused(self, producer: Actor, error: EventIdReused) -> None:
        """Note that a producer sent other content under the id of an event that is stored."""
        REUSED.inc()
        event_id = error.facts["event_id"]
        event = Event(
            action="event_id_reused",
            resource_type="event",
            resource_id=event_id,
            details={
                "event_id": event_id,
                "leaf_index": int(error.facts["leaf_index"]),
                "producer": producer.username,
            },
        )
        sort = Sort(event.action, event_id, producer.user_id, None, error.reason)
        self._note(self._floods[1], sort, event, current_call.get(None))

    def _note(
        self, floods: Floods[Sort, Event], sort: Sort, event: Event, call: Call | None
    ) -> None:
        now = self._clock()
        agent = call.user_agent if call else None
        whole = replace(
            event,
            occurred_at=now,
            ip_address=call.ip_address if call else None,
            user_agent=agent[:LONGEST_AGENT] if agent else None,
            category="security",
        )
        if floods.note(sort, whole, now):
            self._news.set()

    async def _write_for_ever(self) -> None:
        while not self._stopping:
            with suppress(TimeoutError):
                # Not `wait_for`, which in Python 3.11 loses a cancellation that meets the news.
                async with asyncio.timeout(
                    0 if self._unwritten else pause(self._floods, self._clock())
                ):
                    await self._news.wait()
            self._news.clear()
            if not await self._write():
                await asyncio.sleep(AGAIN_S)
            elif not self._stopping:
                await asyncio.sleep(TOGETHER_S)
        for _ in range(LAST_ATTEMPTS):
            if await self._write():
                return
            await asyncio.sleep(AGAIN_S)
        for own in (*self._unwritten, *self._taken()):
            count = own.event.details["count"]
            _log.error("audit_refusal_lost", count=count, refusal=str(own))

    def _taken(self) -> list[Own]:
        """Return the entries of what is due; of all that is held back, when this is the end."""
        now = self._clock()
        return [
            _entry(report)
            for floods in self._floods
            for report in (floods.take_all() if self._stopping else floods.take(now))
        ]

    async def _write(self) -> bool:
        """Append what was not appended before, then what is due; tell whether all of it is there.

        Of a commit whose answer was lost nobody knows what became of it. So the same entries are
        tried again until they are there, and nothing is counted twice.
        """
        if not await self._append():
            return False
        self._unwritten = self._taken()
        return await self._append()

    async def _append(self) -> bool:
        """Append what is not written, in one commit."""
        if not self._unwritten or self._record is None:
            return True
        try:
            outcomes = await self._record(self._unwritten)
        except Exception as error:  # noqa: BLE001  (a database that is away comes back)
            _log.warning("audit_refusals_not_written", error=type(error).__name__)
            return False
        for one, outcome in zip(self._unwritten, outcomes, strict=True):
            if isinstance(outcome, Refused):
                problem = outcome.error.reason
                _log.error("audit_refusal_lost", problem=problem, refusal=str(one))
        self._unwritten = ()
        return True


def _entry(report: Report[Sort, Event]) -> Own:
    """Return the entry for a report; of several kinds together it names none."""
    event = report.sample
    counted: dict[str, object] = {"count": report.count}
    if report.count > 1:
        counted |= {"first_at": _text(report.first_at), "last_at": _text(report.last_at)}
    if report.key is not None:
        return Own(replace(event, details=event.details | counted), report.key.user_id)
    several = replace(
        event,
        resource_id="*",
        details=counted | {"of_many_kinds": True},
        ip_address=None,
        user_agent=None,
    )
    return Own(several, None)


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
