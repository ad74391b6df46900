"""Refuse callers who may not, before their request is even decoded."""

from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from shared.domain_error import DomainError, Kind
from shared.errors import LoginRefused
from shared.identity.access import AccessRules
from shared.identity.actor import Call, current_call
from shared.rpc.interceptors.around import Around, Behaviour, Context, Rpc

OnDenied = Callable[[Call, DomainError], Awaitable[None]]

_log = structlog.get_logger(__name__)


async def tell(on_denied: OnDenied | None, call: Call, error: DomainError) -> None:
    """Tell of a refusal; a failure to tell never turns it into a permission."""
    if on_denied is None:
        return
    try:
        await on_denied(call, error)
    except Exception:  # noqa: BLE001  (whatever it is, the refusal stands)
        _log.exception("denial_not_recorded", method=call.method, reason=error.reason)


class Access(Around):
    """Checks the rules, and tells `on_denied` of each refusal exactly once.

    Refusals are those of the rules and, because some depend on the thing itself (cancelling one's
    own deployment), every error of kind DENIED that an operation raises. Credentials that are not
    valid are told by `Identity`, those that a request carries (a refresh token) here. A refused
    log-in is not: its operation records it, with what only that knows.
    """

    def __init__(self, rules: AccessRules, on_denied: OnDenied | None = None) -> None:
        """Take the rules and whom to tell."""
        super().__init__()
        self._rules = rules
        self._on_denied = on_denied

    async def around(self, rpc: Rpc, request: Any, context: Context, proceed: Behaviour) -> Any:  # noqa: ANN401
        """Proceed only when the caller may."""
        call = current_call.get()
        try:
            self._rules.check(rpc.method, call.actor)
        except DomainError as error:
            await tell(self._on_denied, call, error)
            raise
        try:
            return await proceed(request, context)
        except DomainError as error:
            if error.kind is Kind.DENIED or self._is_of_request(rpc.method, error):
                await tell(self._on_denied, call, error)
            raise

    def _is_of_request(self, method: str, error: DomainError) -> bool:
        """Say whether what the request carries, where anybody may call, is not valid."""
        refused = error.kind is Kind.UNAUTHENTICATED and not isinstance(error, LoginRefused)
        return refused and self._rules.is_open(method)
