"""What the RPCs of every kind need."""

from typing import Any

from grpc.aio import ServicerContext

from shared.db.engine import Database
from shared.outbox.change import Changes
from shared.rpc.pages import Paging

Context = ServicerContext[Any, Any]


class Rpcs:
    """A part of the service: reads from a database, changes through `Changes`."""

    def __init__(self, db: Database, changes: Changes, paging: Paging) -> None:
        """Read from `db`, change through `changes`."""
        self._db = db
        self._changes = changes
        self._paging = paging
