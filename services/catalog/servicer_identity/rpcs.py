"""What the RPCs about who acts need."""

from typing import Any

from grpc.aio import ServicerContext

from services.catalog.operations.logins import LogIns
from services.catalog.operations.passwords import PasswordChange
from services.catalog.operations.sessions import Sessions
from shared.db.engine import Database
from shared.identity.passwords import Passwords
from shared.outbox.change import Changes
from shared.rpc.pages import Paging

Context = ServicerContext[Any, Any]


class Rpcs:
    """A part of the service: reads from a database, changes through `Changes`."""

    def __init__(
        self,
        db: Database,
        changes: Changes,
        paging: Paging,
        *,
        passwords: Passwords,
        sessions: Sessions,
    ) -> None:
        """Read from `db`, change through `changes`, hash by `passwords`."""
        self._db = db
        self._changes = changes
        self._paging = paging
        self._passwords = passwords
        self._sessions = sessions
        self._log_ins = LogIns(db, passwords)
        self._password_change = PasswordChange(db, passwords, self._log_ins)
