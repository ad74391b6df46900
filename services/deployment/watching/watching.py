"""Watching deployments: what is true now, and from then on the newest state of what changes."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from services.deployment.store import references, watched
from services.deployment.store.watched import Choice
from services.deployment.watching.feed import LATE, Feed
from services.deployment.watching.listener import Listener
from services.deployment.watching.reading import CHUNK, JointReads, Render, states
from services.deployment.watching.streams import State, Stream, Streams
from shared.db.engine import Database
from shared.errors import FollowSlotsTaken, ResourceNotFound
from shared.rpc.slots import Slots

PER_CALLER = 100
TOTAL = 4_000
# What watchers leave to all other calls of the process, of those that it serves at a time.
SHARE = 0.5
# Less than what is promised, since a heartbeat may have to wait its turn.
HEARTBEAT_S = 12.0
FREE_AGAIN = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class WatchQuery:
    """Which deployments somebody watches, by names or ids; empty is any."""

    caller: UUID
    service: str = ""
    environment: str = ""
    release: str = ""
    deployed_by: str = ""
    kind: str | None = None
    deployments: tuple[UUID, ...] = ()
    changed_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Synced:
    """The current state is complete, as of a moment."""

    as_of: datetime


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Nothing else has changed before a moment."""

    as_of: datetime


Said = State | Synced | Heartbeat
Send = Callable[[Said], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class _Beginning:
    """What makes up the current state, and when it did."""

    as_of: datetime
    ids: Sequence[UUID]


class Watching:
    """Serves all watchers of one process."""

    def __init__(self, db: Database, render: Render, *, most_calls: int) -> None:
        """Read from `db`; `render` makes the message about a deployment.

        `most_calls` is how many calls the process serves at a time.
        """
        total = min(TOTAL, max(1, int(most_calls * SHARE)))
        self.slots = Slots(_none_free, per_caller=min(PER_CALLER, total), total=total)
        self._db = db
        self._render = render
        self._streams = Streams()
        self._feed = Feed(db, self._streams, render)
        self._listener = Listener(db, self._feed.tell, self._feed.look)
        self._reads = JointReads()

    @property
    def loops(self) -> Mapping[str, Callable[[], Awaitable[None]]]:
        """What has to run beside the server, by name."""
        return {"watch listener": self._listener.run, "watch feed": self._feed.run}

    async def close(self) -> None:
        """Wait for what still reads; to be called when nobody watches any more."""
        await self._reads.close()

    async def run(self, asked: WatchQuery, send: Send) -> None:
        """Send what is asked for, as fast as `send` returns, until cancelled.

        Raises ResourceNotFound for what is not there.
        """
        async with self._db.snapshot() as tx:
            choice = await chosen(tx, asked)
        since = None if asked.changed_since is None else _before(asked.changed_since)
        with self._streams.joined(choice) as stream:
            # From here on no change gets lost, so whatever is read now is not too early.
            await self._feed.ready()
            telling = _Telling(stream, self._feed, send)
            beginning = await self._reads.read((choice, since), partial(self._begin, choice, since))
            rest = iter(beginning.ids)
            while chunk := tuple(islice(rest, CHUNK)):
                read = await self._reads.read(chunk, partial(self._states, chunk))
                stream.begin_with(read, may_be_overtaken=self._feed.is_reading)
                await telling.drain()
            await telling.synced(beginning.as_of)
            while True:
                await telling.drain()
                await stream.wait(telling.seconds_left())
                await telling.heartbeat_if_due()

    async def _begin(self, choice: Choice, since: datetime | None) -> _Beginning:
        async with self._db.snapshot() as tx:
            as_of = await watched.moment(tx)
            return _Beginning(as_of, await watched.current(tx, choice, since))

    async def _states(self, ids: Sequence[UUID]) -> list[State]:
        async with self._db.snapshot() as tx:
            return await states(tx, ids, self._render)


class _Telling:
    """Sends what a stream has, and how far it is."""

    def __init__(self, stream: Stream, feed: Feed, send: Send) -> None:
        self._stream = stream
        self._feed = feed
        self._send = send
        self._now = asyncio.get_running_loop().time
        self._as_of: datetime | None = None
        self._told_at = self._now()

    def seconds_left(self) -> float:
        """Return the seconds until the caller is due to hear how far the stream is."""
        return self._told_at + HEARTBEAT_S - self._now()

    async def synced(self, as_of: datetime) -> None:
        """Say that the current state is complete."""
        await self._tell(Synced(as_of))
        self._as_of = as_of

    async def drain(self) -> None:
        """Send what waits; a stream that never gets to its end says how far it is all the same.

        Since what has waited longest goes first, everything that waits now has been sent as soon
        as so many states have.
        """
        mark, left = self._feed.as_of, len(self._stream)
        while len(self._stream):
            if not left:
                await self._heartbeat(mark)
                mark, left = self._feed.as_of, len(self._stream)
                continue
            await self._send(self._stream.take())
            left -= 1

    async def heartbeat_if_due(self) -> None:
        """Say how far the stream is, when nothing waits and it is time to."""
        if not len(self._stream):
            await self._heartbeat(self._feed.as_of)

    async def _heartbeat(self, as_of: datetime | None) -> None:
        if self._as_of is None or self.seconds_left() > 0:
            return
        self._as_of = max(self._as_of, as_of or self._as_of)
        await self._tell(Heartbeat(self._as_of))

    async def _tell(self, said: Synced | Heartbeat) -> None:
        await self._send(said)
        self._told_at = self._now()


async def chosen(tx: AsyncConnection, asked: WatchQuery) -> Choice:
    """Return which deployments are meant; raises ResourceNotFound for what is not there."""
    ids = frozenset(asked.deployments)
    missing = ids - await watched.present(tx, ids) if ids else ids
    if missing:
        raise ResourceNotFound(resource_type="deployment", resource=min(missing))
    return Choice(
        service_id=(await references.service(tx, asked.service)).id if asked.service else None,
        environment_id=(await references.environment(tx, asked.environment)).id
        if asked.environment
        else None,
        release_id=(await references.release(tx, asked.release)).id if asked.release else None,
        deployed_by=(await references.user(tx, asked.deployed_by)).id
        if asked.deployed_by
        else None,
        kind=asked.kind,
        ids=ids or None,
    )


def _before(moment: datetime) -> datetime:
    """Return a moment before which nothing can have been written that was committed after it."""
    first = datetime.min.replace(tzinfo=moment.tzinfo)
    return moment - LATE if moment - first > LATE else moment


def _none_free(*, running: int) -> FollowSlotsTaken:
    return FollowSlotsTaken(running=running, retry_after=FREE_AGAIN)
