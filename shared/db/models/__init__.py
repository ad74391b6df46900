"""All tables, so that foreign keys between owners resolve. A service's store uses only its own."""

from shared.db.models import (
    audit,
    catalog,
    deployment,
    execution,
    identity,
    outbox,
    restrictions,
    webhooks,
)
from shared.db.schema import Schema

metadata = Schema.metadata

__all__ = [
    "audit",
    "catalog",
    "deployment",
    "execution",
    "identity",
    "metadata",
    "outbox",
    "restrictions",
    "webhooks",
]
