"""What the RPCs about who acts need."""

from services.catalog.operations.logins import LogIns
from services.catalog.operations.passwords import PasswordChange
from services.catalog.operations.sessions import Sessions
from shared.db.engine import Database
from shared.identity.passwords import Passwords
from shared.outbox import rpcs
from shared.outbox.change import Changes
from shared.outbox.rpcs import Context
from shared.rpc.pages import Paging

__all__ = ["Context", "Rpcs"]


class Rpcs(rpcs.Rpcs):
    """A part of the service that can hash passwords and knows the sessions, too."""

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
        super().__init__(db, changes, paging)
        self._passwords = passwords
        self._sessions = sessions
        self._log_ins = LogIns(db, passwords)
        self._password_change = PasswordChange(db, passwords, self._log_ins)
