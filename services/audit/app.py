"""The audit service put together: databases, queue, operations, server, and what runs beside it."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta

import structlog
from release_manager.audit.v1 import audit_pb2_grpc, notifications_pb2_grpc, retention_pb2_grpc

from services.audit import messages
from services.audit.appending.group_commit import GroupCommit
from services.audit.appending.ledger import Ledger
from services.audit.appending.refusals import Refusals
from services.audit.appending.traces import Traces
from services.audit.checking.rolling import Rolling
from services.audit.checking.verification import Verification
from services.audit.exporting.export import Exports
from services.audit.exporting.manifest import Manifests
from services.audit.notifying.notifying import Notifying
from services.audit.reading.entries import Reading
from services.audit.reading.following import Following
from services.audit.retention.announcing import Announcer
from services.audit.servicer import AuditServicer, Integrity, Watch
from services.audit.servicer_notifications import NotificationServicer
from services.audit.servicer_retention import Keeping, RetentionServicer
from services.audit.signing.checkpoint_file import CheckpointFile
from services.audit.signing.integrator import Integrator
from services.audit.signing.ledger_key import LedgerKeys
from services.audit.signing.proofs import Proofs
from services.audit.store.appending import driver_connection, ensure_partitions
from services.audit.store.pages import PLANS
from services.audit.store.people import People
from shared.clock import Clock, system_clock
from shared.db.engine import Database
from shared.identity.keys import load_keys
from shared.identity.token_verifier import TokenVerifier
from shared.identity.verifier import Verifier
from shared.paging import PageTokens
from shared.rpc.server import RpcServer, ServerOptions
from shared.rpc.stopping import ended
from shared.settings import Settings

SERVICE = "release_manager.audit.v1.AuditService"
RETENTION = "release_manager.audit.v1.RetentionService"
NOTIFICATIONS = "release_manager.audit.v1.NotificationService"
# A batch of 1,000 entries of ordinary size takes half of this.
MAX_REQUEST_BYTES = 4 * 1024 * 1024
WRITER = "rm_audit_writer"
READER = "rm_audit_reader"
INTEGRATOR = "rm_audit_integrator"
KEEPER = "rm_audit_keeper"
NOTIFIER = "rm_audit_notifier"

MONTHS_AHEAD = 3
PARTITIONS_EVERY_S = 6 * 3600.0
PARTITIONS_AGAIN_S = 5.0
ENDING_S = 0.5

_log = structlog.get_logger(__name__)


@asynccontextmanager
async def audit_server(
    settings: Settings, *, clock: Clock = system_clock, verifier: Verifier | None = None
) -> AsyncIterator[RpcServer]:
    """Provide the server, not yet started; leaving the block appends what is queued and closes.

    Raises KeysInvalid when the key directory lacks something. `verifier` replaces the one that
    reads tokens.
    """
    secret = load_keys(settings.key_dir)
    keys = LedgerKeys(settings.key_dir)
    writer, reader = _database(settings, WRITER), _database(settings, READER, PLANS)
    tree, keeper = _database(settings, INTEGRATOR), _database(settings, KEEPER)
    notifier = _database(settings, NOTIFIER)
    # Who calls is asked through the writer's pool, so that no crowd of readers delays an entry.
    known = TokenVerifier(
        writer, secret, clock, keep=timedelta(seconds=settings.user_cache_seconds)
    )
    refusals = Refusals(clock)
    server = RpcServer(
        ServerOptions.of(settings, settings.audit_address, MAX_REQUEST_BYTES),
        verifier=verifier or known,
        readiness=writer.is_ready,
        on_denied=refusals.denied,
    )
    people, tokens = People(writer), PageTokens(secret.hmac)
    following = Following(reader, messages.entry)
    queue = GroupCommit(writer, on_commit=following.watch.wake)
    ledger = Ledger(queue, people, secret=secret.hmac, clock=clock, on_reused=refusals.reused)
    traces = Traces(ledger, clock)
    published = CheckpointFile(settings.checkpoint_file)
    integrator = Integrator(tree, keys, published)
    verified = Verification(reader, integrator, keys, published)
    rolling = Rolling(reader, verified, clock, settings.ledger_verify_days)
    servicer = AuditServicer(
        ledger=ledger,
        reading=Reading(reader, tokens),
        exports=Exports(reader, tokens, Manifests(reader, integrator, keys, clock)),
        following=following,
        people=people,
        integrity=Integrity(
            Proofs(reader, integrator),
            Verification(reader, integrator, keys, published),
            keys,
            integrator,
        ),
        watch=Watch(traces, refusals),
        stopping=server.stopping,
    )
    server.add(
        SERVICE,
        audit_pb2_grpc.add_AuditServiceServicer_to_server,
        servicer,
        reads=messages.READ_HERE,
    )
    keeping = Keeping.of((keeper, reader), tokens, integrator, Announcer(secret.hmac, clock))
    server.add(
        RETENTION,
        retention_pb2_grpc.add_RetentionServiceServicer_to_server,
        RetentionServicer(keeping, people, traces),
    )
    notifying = Notifying.of(
        settings, (notifier, reader), following.watch, integrator, secret=secret.hmac, clock=clock
    )
    server.add(
        NOTIFICATIONS,
        notifications_pb2_grpc.add_NotificationServiceServicer_to_server,
        NotificationServicer(notifying, secret.hmac),
    )
    queue.start()
    refusals.start(ledger.record)
    integrator.start()
    rolling.start()
    notifying.start()
    partitions = asyncio.create_task(keep_partitions(writer, clock), name="audit partitions")
    try:
        yield server
    finally:
        await ended([partitions], ENDING_S)
        await notifying.stop()
        await rolling.stop()
        await following.close()
        await traces.close()
        await refusals.stop()
        await queue.stop()
        await integrator.stop()
        await known.close()
        for database in (writer, reader, tree, keeper, notifier):
            await database.close()


def _database(settings: Settings, role: str, postgres: Mapping[str, str] | None = None) -> Database:
    return Database(
        settings.database_url,
        role=role,
        application_name=role.removeprefix("rm_"),
        pool_size=settings.database_pool_size,
        settings=postgres,
    )


async def keep_partitions(database: Database, clock: Clock) -> None:
    """Make this month's partition and those of the next ones, now and every few hours."""
    while True:
        try:
            async with driver_connection(database.engine) as driver:
                month = clock().date().replace(day=1)
                made = await ensure_partitions(driver, month, MONTHS_AHEAD + 1)
        except Exception as error:  # noqa: BLE001  (three months remain to have it repaired)
            _log.warning("audit_partitions_not_made", error=type(error).__name__)
            await asyncio.sleep(PARTITIONS_AGAIN_S)
        else:
            if made:
                _log.info("audit_partitions_made", made=made)
            await asyncio.sleep(PARTITIONS_EVERY_S)
