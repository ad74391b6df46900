"""All tables, so that foreign keys between owners resolve. A service's store uses only its own."""

from shared.db.models import audit, catalog, deployment, identity, outbox, restrictions
from shared.db.schema import Schema

metadata = Schema.metadata

__all__ = ["audit", "catalog", "deployment", "identity", "metadata", "outbox", "restrictions"]
