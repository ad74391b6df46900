"""The audit service put together: databases, queue, operations, server, and what runs beside it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import structlog
from release_manager.audit.v1 import audit_pb2_grpc

from services.audit.checkpoint_file import CheckpointFile
from services.audit.export import Exports
from services.audit.group_commit import GroupCommit
from services.audit.integrator import Integrator
from services.audit.ledger import Ledger
from services.audit.ledger_key import ensure_ledger_key
from services.audit.proofs import Proofs
from services.audit.reading import Reading
from services.audit.servicer import AuditServicer, Integrity
from services.audit.store.appending import driver_connection, ensure_partitions
from services.audit.store.people import People
from services.audit.verify import Verification
from shared.clock import Clock, system_clock
from shared.db.engine import Database
from shared.identity.keys import load_keys
from shared.identity.token_verifier import TokenVerifier
from shared.identity.verifier import Verifier
from shared.paging import PageTokens
from shared.rpc.server import RpcServer, ServerOptions
from shared.settings import Settings

SERVICE = "release_manager.audit.v1.AuditService"
# A batch of 1,000 entries of ordinary size takes half of this.
MAX_REQUEST_BYTES = 4 * 1024 * 1024
WRITER = "rm_audit_writer"
READER = "rm_audit_reader"
INTEGRATOR = "rm_audit_integrator"

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
    signer = ensure_ledger_key(settings.key_dir)
    writer, reader = _database(settings, WRITER), _database(settings, READER)
    tree = _database(settings, INTEGRATOR)
    # Who calls is asked through the writer's pool, so that no crowd of readers delays an entry.
    known = TokenVerifier(
        writer, secret, clock, keep=timedelta(seconds=settings.user_cache_seconds)
    )
    server = RpcServer(
        ServerOptions.of(settings, settings.audit_address, MAX_REQUEST_BYTES),
        verifier=verifier or known,
        readiness=writer.is_ready,
    )
    people, tokens = People(writer), PageTokens(secret.hmac)
    queue = GroupCommit(writer)
    published = CheckpointFile(settings.checkpoint_file)
    integrator = Integrator(tree, signer, published)
    servicer = AuditServicer(
        ledger=Ledger(queue, people, secret=secret.hmac, clock=clock),
        reading=Reading(reader, tokens),
        exports=Exports(reader, tokens),
        people=people,
        integrity=Integrity(
            Proofs(reader, integrator),
            Verification(reader, integrator, signer.verifier, published),
            signer.verifier,
        ),
        stopping=server.stopping,
    )
    server.add(SERVICE, audit_pb2_grpc.add_AuditServiceServicer_to_server, servicer)
    queue.start()
    integrator.start()
    partitions = asyncio.create_task(keep_partitions(writer, clock), name="audit partitions")
    try:
        yield server
    finally:
        # Again and again: a cancellation may come to nothing while a connection is being made.
        while not partitions.done():
            partitions.cancel()
            await asyncio.wait({partitions}, timeout=ENDING_S)
        await queue.stop()
        await integrator.stop()
        await known.close()
        for database in (writer, reader, tree):
            await database.close()


def _database(settings: Settings, role: str) -> Database:
    return Database(
        settings.database_url,
        role=role,
        application_name=role.removeprefix("rm_"),
        pool_size=settings.database_pool_size,
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
