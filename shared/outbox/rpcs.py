"""What the RPCs of a service need that reads, and changes through the outbox."""

from shared.db.engine import Database
from shared.outbox.change import Changes
from shared.rpc.interceptors.around import Context
from shared.rpc.pages import Paging

__all__ = ["Context", "Rpcs"]


class Rpcs:
    """A part of a service: reads from a database, changes through `Changes`."""

    def __init__(self, db: Database, changes: Changes, paging: Paging) -> None:
        """Read from `db`, change through `changes`."""
        self._db = db
        self._changes = changes
        self._paging = paging
