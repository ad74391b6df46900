"""Find out who calls."""

from dataclasses import replace
from typing import Any

import structlog

from shared.errors import DomainError, Kind
from shared.identity.access import AccessRules
from shared.identity.actor import current_call
from shared.identity.verifier import Verifier
from shared.rpc.call import text_metadata
from shared.rpc.interceptors.around import Around, Behaviour, Context, Rpc


class Identity(Around):
    """Puts the actor into the current call.

    Health and reflection are not asked: they must answer when the database, which knows the
    users, does not. Where anybody may call, a token that is not valid counts as none: whoever
    logs in again because the old token has expired must not fail because it was sent along.
    """

    def __init__(self, verifier: Verifier, rules: AccessRules) -> None:
        """Take who knows the callers, and the rules that say which methods are open."""
        super().__init__()
        self._verifier = verifier
        self._rules = rules

    async def around(self, rpc: Rpc, request: Any, context: Context, proceed: Behaviour) -> Any:  # noqa: ANN401
        """Identify the caller, then proceed."""
        if self._rules.is_infrastructure(rpc.method):
            return await proceed(request, context)
        try:
            actor = await self._verifier.identify(text_metadata(context.invocation_metadata()))
        except DomainError as error:
            if error.kind is not Kind.UNAUTHENTICATED or not self._rules.is_open(rpc.method):
                raise
            actor = None
        current_call.set(replace(current_call.get(), actor=actor))
        if actor is not None:
            structlog.contextvars.bind_contextvars(actor=actor.username)
        return await proceed(request, context)
