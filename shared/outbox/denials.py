"""Denied calls of a service on their way into the audit trail, through its outbox.

Whoever is denied does not wait for the entry, and no entry hinders the answer: a denial is counted
in memory, and a loop of its own writes what is due in a transaction of its own. The first denial of
a kind is written at once, the ones like it once a minute with their number (see `shared.floods`),
so a flood of them neither fills the outbox nor goes unseen. While the process lives, what cannot be
written now stays in the count, and memory stays bounded; what no database would ever take goes to
the log instead. A process that is killed takes with it the counts that were not written yet, of one
minute unless the database was away.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import structlog
from prometheus_client import Counter
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError

from shared.clock import Clock
from shared.db.engine import Database
from shared.db.models.outbox import OutboxEvent
from shared.db.violations import sqlstate
from shared.domain_error import DomainError
from shared.floods import Floods, Report, pause
from shared.identity.actor import Call
from shared.ids import new_id
from shared.outbox.append import append_events
from shared.outbox.events import Category, Event

KINDS = 128
"""How many kinds of denials are told apart, of accounts and as many of strangers."""
# New kinds within this time share a commit.
TOGETHER_S = 0.05
AGAIN_S = 1.0
WRITE_TIMEOUT_S = 10.0
# SQLSTATEs of what no database will ever take: unfit data, and violated constraints.
UNFIT = ("22", "23")
LAST_WRITE_S = 5.0
ACTION = "call_denied"
RESOURCE_TYPE = "rpc"
UNKNOWN = "unknown"

DENIED = Counter("calls_denied", "Calls that were denied.", ["producer"])
LOST = Counter(
    "denials_lost", "Denied calls that could not be written: in time, or ever.", ["producer"]
)
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Sort:
    """What makes two denials the same: what was called, by whom, from where, why it was denied."""

    method: str
    user_id: UUID | None
    ip_address: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class Denial:
    """A call that was denied, and why."""

    call: Call
    reason: str


@dataclass(frozen=True, slots=True)
class _Entry:
    """An event as it will be written, however often that is tried: the same id and number."""

    event_id: UUID
    event: Event
    call: Call | None
    first_at: datetime
    count: int


class Denials:
    """Counts the denied calls of one service, the `producer`, and writes them by and by."""

    def __init__(self, db: Database, producer: str, clock: Clock) -> None:
        """Write into the outbox in `db`; `clock` says when a call was denied."""
        self._db = db
        self._producer = producer
        self._clock = clock
        # Apart, so that no crowd of strangers hides what an account has tried.
        self._accounts: Floods[Sort, Denial] = Floods(most=KINDS)
        self._strangers: Floods[Sort, Denial] = Floods(most=KINDS)
        self._news = asyncio.Event()
        self._unwritten: Sequence[_Entry] = ()
        self._ending = asyncio.Event()

    async def denied(self, call: Call, error: DomainError) -> None:
        """Count a denied call; implements `shared.rpc.interceptors.access.OnDenied`."""
        DENIED.labels(self._producer).inc()
        user_id = call.actor.user_id if call.actor else None
        floods = self._accounts if user_id else self._strangers
        sort = Sort(call.method, user_id, call.ip_address, error.reason)
        if floods.note(sort, Denial(call, error.reason), self._clock()):
            self._news.set()

    @asynccontextmanager
    async def written(self, wake: Callable[[], None]) -> AsyncIterator[None]:
        """Write what is counted while the block runs, and the rest when it is left.

        `wake` is called after each commit. No call may run any more when the block is left.
        """
        writer = asyncio.create_task(self._write_for_ever(wake), name="denials")
        try:
            yield
        finally:
            self._ending.set()
            self._news.set()
            await writer

    async def _write_for_ever(self, wake: Callable[[], None]) -> None:
        while not self._ending.is_set():
            with suppress(TimeoutError):
                # Not `wait_for`, which in Python 3.11 loses a cancellation that meets the news.
                async with asyncio.timeout(
                    0 if self._unwritten else pause(self._floods, self._clock())
                ):
                    await self._news.wait()
            self._news.clear()
            written = await self._write(wake, WRITE_TIMEOUT_S)
            with suppress(TimeoutError):
                # Let more come together, or the database come back; the end waits for neither.
                async with asyncio.timeout(TOGETHER_S if written else AGAIN_S):
                    await self._ending.wait()
        await self._write_the_rest(wake)

    async def _write_the_rest(self, wake: Callable[[], None]) -> None:
        """Write all that is held back; what cannot be written in time is told to the log."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_WRITE_S):
                while not await self._write(wake, LAST_WRITE_S):  # noqa: ASYNC110  (tells no event)
                    await asyncio.sleep(AGAIN_S / 10)
        held = [report for floods in self._floods for report in floods.take_all()]
        for entry in (*self._unwritten, *map(_entry, held)):
            self._lose(entry)
        self._unwritten = ()

    def _lose(self, entry: _Entry) -> None:
        LOST.labels(self._producer).inc(entry.count)
        _log.error(
            "denials_lost",
            producer=self._producer,
            count=entry.count,
            method=entry.event.resource_id,
            details=dict(entry.event.details),
        )

    @property
    def _floods(self) -> tuple[Floods[Sort, Denial], ...]:
        return self._accounts, self._strangers

    async def _write(self, wake: Callable[[], None], seconds: float) -> bool:
        """Write what was not written before, or else what is due; return whether that is done.

        Of a commit whose answer was lost nobody knows what became of it. So the same events are
        tried again under the same ids until they are there, and nothing is counted twice.
        """
        again = bool(self._unwritten)
        if not again:
            now = self._clock()
            reports = [
                report
                for floods in self._floods
                for report in (floods.take_all() if self._ending.is_set() else floods.take(now))
            ]
            self._unwritten = [_entry(report) for report in reports]
        if not self._unwritten:
            return True
        try:
            async with asyncio.timeout(seconds):
                refused = await self._commit(self._unwritten, again=again)
        except (Exception, asyncio.CancelledError) as error:
            # A database that is away comes back. A cancellation that nobody asked for comes out
            # of the driver, and must not end the writer.
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and (task is None or task.cancelling()):
                raise
            _log.warning("denials_not_written", producer=self._producer, error=repr(error))
            return False
        self._unwritten = ()
        for entry in refused:
            self._lose(entry)
        wake()
        # What came meanwhile, or at the end all that was still held back.
        return not again or await self._write(wake, seconds)

    async def _commit(self, entries: Sequence[_Entry], *, again: bool) -> Sequence[_Entry]:
        """Write entries in one transaction; return those that the database never will take."""
        refused = []
        async with self._db.transaction() as tx:
            if again:
                ids = [entry.event_id for entry in entries]
                written = select(OutboxEvent.event_id).where(OutboxEvent.event_id.in_(ids))
                if there := set((await tx.execute(written)).scalars()):
                    return [entry for entry in entries if entry.event_id not in there]
            for entry in entries:
                try:
                    async with tx.begin_nested():
                        await append_events(
                            tx,
                            producer=self._producer,
                            call=entry.call,
                            now=entry.first_at,
                            events=[(entry.event_id, entry.event)],
                        )
                except DBAPIError as error:
                    if error.orig is None or not (sqlstate(error.orig) or "").startswith(UNFIT):
                        raise
                    refused.append(entry)  # which must not hold up the others
        return refused


def _entry(report: Report[Sort, Denial]) -> _Entry:
    """Return the entry of a report; of several kinds together it names none."""
    told: dict[str, object] = {"count": report.count}
    if report.count > 1:
        told |= {"first_at": report.first_at, "last_at": report.last_at}
    call: Call | None = None
    method = "*"
    if report.key is None:
        told |= {"of_many_kinds": True}
    else:
        call, method = report.sample.call, report.key.method
        told |= _who(call) | {"reason": report.sample.reason}
    event_id = new_id()
    event = Event(
        action=ACTION,
        aggregate=f"denial:{event_id}",
        aggregate_seq=1,
        resource_type=RESOURCE_TYPE,
        resource_id=method,
        details=told,
        category=Category.SECURITY,
    )
    return _Entry(event_id, event, call, report.first_at, report.count)


def _who(call: Call) -> dict[str, object]:
    actor = call.actor
    if actor is None:
        return {"caller": UNKNOWN}
    return {"caller": actor.username, "role": actor.role.stored}
