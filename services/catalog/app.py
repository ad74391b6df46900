"""The catalog service put together: database, delivery to audit, two servicers, server."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from release_manager.catalog.v1 import catalog_pb2_grpc
from release_manager.identity.v1 import identity_pb2_grpc

from services.catalog.operations.housekeeping import Housekeeping
from services.catalog.operations.sessions import Sessions
from services.catalog.servicer import CatalogServicer
from services.catalog.servicer_identity import IdentityServicer
from services.catalog.store.reading import PLANS
from services.catalog.store.versions import versions
from shared.clock import Clock, system_clock
from shared.db.engine import Database
from shared.identity.access_tokens import AccessTokens
from shared.identity.keys import ensure_keys
from shared.identity.passwords import Passwords
from shared.identity.token_verifier import TokenVerifier
from shared.outbox.delivery import Delivery, Loops
from shared.outbox.denials import Denials
from shared.paging import PageTokens
from shared.rpc.pages import Paging
from shared.rpc.server import RpcServer, ServerOptions
from shared.settings import Settings

PRODUCER = "catalog"
ROLE = "rm_catalog"
CATALOG = "release_manager.catalog.v1.CatalogService"
IDENTITY = "release_manager.identity.v1.IdentityService"
# A runbook of 100,000 characters takes at most 400,000 bytes.
MAX_REQUEST_BYTES = 1024 * 1024


@asynccontextmanager
async def catalog_server(
    settings: Settings, *, clock: Clock = system_clock, delivery: Delivery | None = None
) -> AsyncIterator[RpcServer]:
    """Provide the server, not yet started; leaving the block ends what runs beside it.

    Makes the keys that are missing. `delivery` replaces the one to the audit service that the
    settings name.
    """
    keys = ensure_keys(settings.key_dir)
    tokens = AccessTokens(keys, timedelta(seconds=settings.access_token_seconds), clock)
    db = database(settings)
    verifier = TokenVerifier(db, keys, clock, keep=timedelta(seconds=settings.user_cache_seconds))
    passwords = Passwords(settings.bcrypt_rounds)
    denials = Denials(db, PRODUCER, clock)
    server = RpcServer(
        ServerOptions.of(settings, settings.catalog_address, MAX_REQUEST_BYTES),
        verifier=verifier,
        readiness=db.is_ready,
        on_denied=denials.denied,
    )
    paging = Paging(PageTokens(keys.hmac))
    try:
        secret = keys.hmac
        outbox = delivery or Delivery.to_audit(settings, db, PRODUCER, versions, secret=secret)
        async with outbox as to_audit, denials.written(to_audit.relay.wake):
            catalog = CatalogServicer(db, to_audit.changes, paging, to_audit.reconciler)
            sessions = Sessions(tokens, timedelta(days=settings.session_days))
            identity = IdentityServicer(
                db,
                to_audit.changes,
                paging,
                passwords=passwords,
                sessions=sessions,
            )
            server.add(CATALOG, catalog_pb2_grpc.add_CatalogServiceServicer_to_server, catalog)
            server.add(IDENTITY, identity_pb2_grpc.add_IdentityServiceServicer_to_server, identity)
            housekeeping = Housekeeping(db, to_audit, sessions.lifetime)
            async with Loops({"housekeeping": housekeeping.run}):
                yield server
    finally:
        passwords.close()
        await verifier.close()
        await db.close()


def database(settings: Settings) -> Database:
    """Return the catalog's database, under its role."""
    return Database(
        settings.database_url,
        role=ROLE,
        application_name=PRODUCER,
        pool_size=settings.database_pool_size,
        settings=PLANS,
    )
