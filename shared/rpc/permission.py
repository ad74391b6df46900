"""Whether the caller of a long call may still make it: asked again for as long as it lasts.

A call is admitted once, by the interceptors. A stream may go on for days after that, while its
caller's token expires or is revoked, or the user is deactivated or loses the role. So a stream does
its work inside `while_permitted`.
"""

import asyncio
from collections.abc import Coroutine, Mapping
from contextvars import ContextVar
from typing import Any, NoReturn, TypeVar

from shared.domain_error import DomainError, Kind
from shared.errors import CredentialsMissing, ServerStopping
from shared.identity.access import AccessRules
from shared.identity.actor import Actor
from shared.identity.verifier import Verifier
from shared.rpc.stopping import unless, until_stopping

T = TypeVar("T")

# With what the verifier remembers, at most 2 s, a caller is cut off within about three seconds.
CHECK_EVERY_S = 1.0
# For so long a caller may go on who cannot be asked about, because the database does not answer.
UNCONFIRMED_S = 4.0


class Permission:
    """What admitted a call, to be asked again: the credentials, who knows them, and the rules."""

    def __init__(
        self, verifier: Verifier, rules: AccessRules, method: str, metadata: Mapping[str, str]
    ) -> None:
        """Take what the interceptors decided by, before the request was looked at."""
        self._verifier = verifier
        self._rules = rules
        self._method = method
        self._metadata = metadata

    async def identify(self) -> Actor | None:
        """Return who calls; raises what the verifier raises."""
        return await self._verifier.identify(self._metadata)

    async def check(self) -> None:
        """Return when the caller may call at this moment; raises why not."""
        self._rules.check(self._method, await self.identify())

    async def until_refused(self) -> NoReturn:
        """Ask again every second, and raise why the caller may no longer call.

        When nobody can say, because the database is away, that too is raised after a few seconds.
        """
        now = asyncio.get_running_loop().time
        confirmed = now()
        while True:
            await asyncio.sleep(CHECK_EVERY_S)
            left = UNCONFIRMED_S - (now() - confirmed)
            try:
                async with asyncio.timeout(max(left, CHECK_EVERY_S)):
                    await self.check()
            except DomainError as error:
                if error.kind in {Kind.UNAUTHENTICATED, Kind.DENIED}:
                    raise
                if left <= 0:
                    raise
            except Exception:
                if left <= 0:
                    raise
            else:
                confirmed = now()


current_permission: ContextVar[Permission | None] = ContextVar("current_permission", default=None)


async def while_permitted(stopping: asyncio.Event, work: Coroutine[Any, Any, T]) -> T:
    """Return what `work` returns, the work of the current call that may take for ever.

    Raises ServerStopping when the server stops, and what the interceptors would raise when the
    caller may no longer make this call; `work` is cancelled then.
    """
    permission = current_permission.get()
    if permission is None or stopping.is_set():
        work.close()
        raise ServerStopping if stopping.is_set() else CredentialsMissing
    return await unless(work, until_stopping(stopping), permission.until_refused())
