"""The deployment service put together: database, delivery to audit, servicers, server."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from release_manager.deployment.v1 import (
    deployment_pb2_grpc,
    execution_pb2_grpc,
    insights_pb2_grpc,
    output_pb2_grpc,
    restrictions_pb2_grpc,
)

from services.deployment import messages_watching
from services.deployment.operations.deadlines import Deadlines
from services.deployment.servicer import DeploymentServicer
from services.deployment.servicer.watching import Watch
from services.deployment.servicer_execution import ExecutionServicer
from services.deployment.servicer_insights import InsightServicer
from services.deployment.servicer_output import OutputServicer
from services.deployment.servicer_restrictions import RestrictionServicer
from services.deployment.store.versions import versions
from services.deployment.watching.watching import Watching
from shared.clock import Clock, system_clock
from shared.db.engine import Database
from shared.identity.keys import load_keys
from shared.identity.token_verifier import TokenVerifier
from shared.outbox.delivery import Delivery, Loops
from shared.outbox.denials import Denials
from shared.paging import PageTokens
from shared.rpc.pages import Paging
from shared.rpc.server import RpcServer, ServerOptions
from shared.settings import Settings

PRODUCER = "deployment"
ROLE = "rm_deployment"
SERVICE = "release_manager.deployment.v1.DeploymentService"
EXECUTION = "release_manager.deployment.v1.ExecutionService"
INSIGHTS = "release_manager.deployment.v1.InsightService"
OUTPUT = "release_manager.deployment.v1.OutputService"
RESTRICTIONS = "release_manager.deployment.v1.RestrictionService"
# The output of a stage has at most 262,144 characters, which take at most four bytes each.
MAX_REQUEST_BYTES = 2 * 1024 * 1024


@asynccontextmanager
async def deployment_server(
    settings: Settings, *, clock: Clock = system_clock, delivery: Delivery | None = None
) -> AsyncIterator[RpcServer]:
    """Provide the server, not yet started; leaving the block ends what runs beside it.

    Raises KeysInvalid when there are no keys. `delivery` replaces the one to the audit service
    that the settings name.
    """
    keys = load_keys(settings.key_dir)
    db = database(settings)
    verifier = TokenVerifier(db, keys, clock, keep=timedelta(seconds=settings.user_cache_seconds))
    denials = Denials(db, PRODUCER, clock)
    server = RpcServer(
        ServerOptions.of(settings, settings.deployment_address, MAX_REQUEST_BYTES),
        verifier=verifier,
        readiness=db.is_ready,
        on_denied=denials.denied,
    )
    try:
        outbox = delivery or Delivery.to_audit(settings, db, PRODUCER, versions)
        async with outbox as to_audit, denials.written(to_audit.relay.wake):
            paging = Paging(PageTokens(keys.hmac))
            watching = Watching(
                db, messages_watching.state, most_calls=settings.max_concurrent_calls
            )
            servicer = DeploymentServicer(
                db,
                to_audit.changes,
                paging,
                to_audit.reconciler,
                Watch(watching, server.stopping),
            )
            server.add(
                SERVICE, deployment_pb2_grpc.add_DeploymentServiceServicer_to_server, servicer
            )
            server.add(
                OUTPUT,
                output_pb2_grpc.add_OutputServiceServicer_to_server,
                OutputServicer(db, to_audit.changes, server.stopping),
            )
            server.add(
                RESTRICTIONS,
                restrictions_pb2_grpc.add_RestrictionServiceServicer_to_server,
                RestrictionServicer(db, to_audit.changes, paging),
            )
            server.add(
                EXECUTION,
                execution_pb2_grpc.add_ExecutionServiceServicer_to_server,
                ExecutionServicer(db, to_audit.changes, paging),
            )
            server.add(
                INSIGHTS,
                insights_pb2_grpc.add_InsightServiceServicer_to_server,
                InsightServicer(db, to_audit.changes, paging),
            )
            async with Loops({"deadlines": Deadlines(db, to_audit).run, **watching.loops}):
                yield server
                await watching.close()
    finally:
        await verifier.close()
        await db.close()


def database(settings: Settings) -> Database:
    """Return the database of the deployment service, under its role."""
    return Database(
        settings.database_url,
        role=ROLE,
        application_name=PRODUCER,
        pool_size=settings.database_pool_size,
    )
