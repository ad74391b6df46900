"""How many long calls may run at a time: so many of one caller, so many in one process."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

from shared.domain_error import DomainError


class Slots:
    """Slots that are held while something runs."""

    def __init__(self, refusal: Callable[..., DomainError], *, per_caller: int, total: int) -> None:
        """Take the error of who gets none, whose fact is how many are `running`, and the limits."""
        self._refusal = refusal
        self._per_caller = per_caller
        self._total = total
        self._running: dict[UUID, int] = {}

    @property
    def running(self) -> int:
        """How many are held."""
        return sum(self._running.values())

    @contextmanager
    def taken(self, caller: UUID) -> Iterator[None]:
        """Hold a slot; raises the refusal when the caller, or all together, have no more."""
        own = self._running.get(caller, 0)
        if own >= self._per_caller:
            raise self._refusal(running=own)
        if self.running >= self._total:
            raise self._refusal(running=self.running)
        self._running[caller] = own + 1
        try:
            yield
        finally:
            self._running[caller] -= 1
            if not self._running[caller]:
                del self._running[caller]
