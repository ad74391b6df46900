"""Spend the caller's deadline knowingly: refuse what cannot be done, end what takes too long."""

import asyncio
from contextvars import ContextVar
from typing import Any

from shared.errors import DeadlineExceeded, DeadlineTooShort
from shared.rpc.interceptors.around import Around, Behaviour, Context, Rpc

LEAST_SECONDS = 0.02
ANSWER_SECONDS = 0.01  # kept back, so that the answer says who ran out of time
UNARY_SECONDS = 30.0

_ends_at: ContextVar[float | None] = ContextVar("ends_at", default=None)


def time_left() -> float | None:
    """Return the seconds that the current call may still take, or None when there is no limit."""
    ends_at = _ends_at.get()
    return None if ends_at is None else max(ends_at - asyncio.get_running_loop().time(), 0.0)


class Deadline(Around):
    """Gives each call its time: the caller's, or for unary calls without one the server's."""

    def __init__(self, unary_seconds: float = UNARY_SECONDS) -> None:
        """Take the longest time of a unary call whose caller named none."""
        super().__init__()
        self._unary_seconds = unary_seconds

    async def around(self, rpc: Rpc, request: Any, context: Context, proceed: Behaviour) -> Any:  # noqa: ANN401
        """Proceed within the deadline. A stream's own is kept by gRPC, which cancels it."""
        # The stubs promise a float; without a deadline it is None.
        given: float | None = context.time_remaining()
        if given is not None and given < LEAST_SECONDS:
            raise DeadlineTooShort
        seconds = given - ANSWER_SECONDS if given is not None else None
        if seconds is None and rpc.is_unary:
            seconds = self._unary_seconds
        if seconds is not None:
            _ends_at.set(asyncio.get_running_loop().time() + seconds)
        if not rpc.is_unary:
            return await proceed(request, context)
        try:
            async with asyncio.timeout(seconds) as scope:
                return await proceed(request, context)
        except TimeoutError:
            if scope.expired():
                raise DeadlineExceeded from None
            raise
