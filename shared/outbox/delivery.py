"""What a service needs so that its changes are audited, in one piece.

`Delivery` holds the relay, the watch over the backlog, reconciliation, the witness, purge and
`Changes`, on one channel to the audit service, and runs their loops. `async with delivery:` starts
and ends them.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from types import TracebackType
from typing import Self

import grpc
import structlog
from release_manager.audit.v1 import audit_pb2_grpc
from sqlalchemy import func, select

from shared.db.engine import Database
from shared.errors import AuditUnavailable
from shared.identity.actor import Call
from shared.merkle.key_files import public_keys
from shared.outbox.append import append_events
from shared.outbox.backlog import OutboxBacklog, OutboxLimits
from shared.outbox.change import ACKNOWLEDGEMENT_WAIT_S, Change, Changes
from shared.outbox.ledger import Ledger
from shared.outbox.purge import Purge
from shared.outbox.reconcile import RECONCILE_EVERY_S, Reconciler, Versions
from shared.outbox.relay import Relay
from shared.outbox.witness import LOOK_EVERY_S, Keys, Witness
from shared.rpc.channel import dial
from shared.rpc.stopping import CANCELLED_AGAIN_S, ended
from shared.rpc.tls import Tls
from shared.settings import Settings

RESTART_S = 1.0
BY_ITSELF = Call(method="", request_id="")

Loop = Callable[[], Awaitable[None]]

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class DeliveryBounds:
    """How far the ledger may lag and, in seconds, for how long.

    A change waits `wait_s` for it at most; reconciliations are `reconcile_every_s` apart, and
    comparisons of checkpoints `witness_every_s`.
    """

    limits: OutboxLimits = field(default_factory=OutboxLimits)
    wait_s: float = ACKNOWLEDGEMENT_WAIT_S
    reconcile_every_s: float = RECONCILE_EVERY_S
    witness_every_s: float = LOOK_EVERY_S


class Delivery:
    """The way from a change of one service, the `producer`, into the audit ledger.

    `changes` makes the changes, `reconciler` compares with the ledger. `versions` yields every
    aggregate of the producer with its version (see `Reconciler`).
    """

    def __init__(  # noqa: PLR0913  (both ends, and what is between them)
        self,
        db: Database,
        producer: str,
        channel: grpc.aio.Channel,
        versions: Versions,
        bounds: DeliveryBounds | None = None,
        *,
        secret: bytes | None = None,
        keys: Keys = tuple,
    ) -> None:
        """Deliver over `channel`, which carries the service's own credentials.

        `secret` is that of `Changes`; `keys` returns the public keys of the ledger, as far as they
        are known here.
        """
        bounds = bounds or DeliveryBounds()
        ledger = Ledger(audit_pb2_grpc.AuditServiceStub(channel))
        self.relay = Relay(db, producer, ledger.send)
        self.backlog = OutboxBacklog(db, producer, bounds.limits)
        self.changes = Changes(db, self.relay, producer, self.backlog, bounds.wait_s, secret=secret)
        self.reconciler = Reconciler(
            db, producer, versions, ledger.sequences, every_s=bounds.reconcile_every_s
        )
        self.witness = Witness(db, producer, ledger, keys, every_s=bounds.witness_every_s)
        self._db = db
        self._producer = producer
        self._channel = channel
        self._loops = Loops(
            {
                "relay": self.relay.run,
                "backlog": self.backlog.run,
                "reconciliation": self.reconciler.run,
                "witness": self.witness.run,
                "purge": Purge(db, producer).run,
            }
        )

    @classmethod
    def to_audit(
        cls,
        settings: Settings,
        db: Database,
        producer: str,
        versions: Versions,
        *,
        secret: bytes | None = None,
    ) -> "Delivery":
        """Return a delivery to the audit service that the settings name, not yet started."""

        def token() -> str | None:
            found = settings.token_for(producer)
            return None if found is None else found.get_secret_value()

        tls = None
        if settings.tls_certificate is not None:
            tls = Tls(settings.tls_certificate, settings.tls_key, settings.tls_server_ca)
        channel = dial(settings.audit_address, token=token, tls=tls, unavailable=AuditUnavailable)
        limits = OutboxLimits(
            soft_rows=settings.outbox_soft_rows,
            soft_age=timedelta(seconds=settings.outbox_soft_seconds),
            hard_rows=settings.outbox_hard_rows,
            hard_age=timedelta(seconds=settings.outbox_hard_seconds),
        )
        bounds = DeliveryBounds(
            limits, settings.audit_wait_milliseconds / 1000, settings.reconcile_seconds
        )
        keys = partial(public_keys, settings.key_dir)
        return cls(db, producer, channel, versions, bounds, secret=secret, keys=keys)

    async def by_itself(self, work: Callable[[Change], Awaitable[None]]) -> None:
        """Run `work` as a change nobody asked for, such as an expiry; its events have no user.

        Raises AuditBacklog beyond the hard limit, where nothing may change.
        """
        self.backlog.admit_by_itself()
        async with self._db.transaction() as tx:
            now = (await tx.execute(select(func.clock_timestamp()))).scalar_one()
            change = Change(tx, BY_ITSELF, now)
            await work(change)
            await append_events(
                tx, producer=self._producer, call=None, now=change.now, events=change.events
            )
        if change.events:
            self.relay.wake()

    async def __aenter__(self) -> Self:
        """Start the loops."""
        await self._loops.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let changes under way end, stop the loops and close the channel."""
        await self.changes.settle()
        await self._loops.__aexit__(kind, error, trace)
        await self._channel.close()


class Loops:
    """Background work of a process: each loop runs until the block is left.

    One that ends by itself, whatever the reason, is logged and started again.
    """

    def __init__(self, loops: Mapping[str, Loop]) -> None:
        """Take the loops by name; nothing runs yet."""
        self._loops = loops
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        """Start every loop."""
        self._tasks = [
            asyncio.create_task(_keep_running(name, loop), name=name)
            for name, loop in self._loops.items()
        ]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Cancel every loop and wait until it has ended."""
        await ended(self._tasks, CANCELLED_AGAIN_S)


async def _keep_running(name: str, loop: Loop) -> None:
    while True:
        try:
            await loop()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # Nobody stops this loop: the cancellation comes out of something it has waited for.
            log.exception("loop_ended", loop=name)
        except Exception:
            log.exception("loop_ended", loop=name)
        await asyncio.sleep(RESTART_S)
