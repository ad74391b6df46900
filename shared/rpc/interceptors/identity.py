"""Find out who calls."""

from dataclasses import replace
from typing import Any

import structlog

from shared.domain_error import DomainError, Kind
from shared.identity.access import AccessRules
from shared.identity.actor import current_call
from shared.identity.verifier import Verifier
from shared.rpc.call import text_metadata
from shared.rpc.interceptors.access import OnDenied, tell
from shared.rpc.interceptors.around import Around, Behaviour, Context, Rpc
from shared.rpc.permission import Permission, current_permission


class Identity(Around):
    """Puts the actor into the current call, and what a stream needs to ask for the actor again.

    Health and reflection are not asked: they must answer when the database, which knows the
    users, does not. Where anybody may call, a token that is not valid counts as none: whoever
    logs in again because the old token has expired must not fail because it was sent along.
    Elsewhere `on_denied` is told of it, as of every refusal.
    """

    def __init__(
        self, verifier: Verifier, rules: AccessRules, on_denied: OnDenied | None = None
    ) -> None:
        """Take who knows the callers, the rules that say which methods are open, whom to tell."""
        super().__init__()
        self._verifier = verifier
        self._rules = rules
        self._on_denied = on_denied

    async def around(self, rpc: Rpc, request: Any, context: Context, proceed: Behaviour) -> Any:  # noqa: ANN401
        """Identify the caller, then proceed."""
        if self._rules.is_infrastructure(rpc.method):
            return await proceed(request, context)
        metadata = text_metadata(context.invocation_metadata())
        permission = Permission(self._verifier, self._rules, rpc.method, metadata)
        try:
            actor = await permission.identify()
        except DomainError as error:
            if error.kind is not Kind.UNAUTHENTICATED or not self._rules.is_open(rpc.method):
                if error.kind in {Kind.UNAUTHENTICATED, Kind.DENIED}:
                    await tell(self._on_denied, current_call.get(), error)
                raise
            actor = None
        current_permission.set(permission)
        current_call.set(replace(current_call.get(), actor=actor))
        if actor is not None:
            structlog.contextvars.bind_contextvars(actor=actor.username)
        return await proceed(request, context)
