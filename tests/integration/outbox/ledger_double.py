"""A ledger in memory that keeps the promises of the real one, and misbehaves when it is told to."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum, auto

from release_manager.audit.v1 import audit_pb2 as pb

from shared.domain_error import FieldViolation
from shared.errors import AuditUnavailable, ValidationFailed

Refuse = Callable[[pb.AuditEvent], str]
PATIENCE_S = 0.2


class Fault(Enum):
    """What happens to one call."""

    UNREACHABLE = auto()
    EXECUTED_AND_TIMED_OUT = auto()
    EXECUTED_SLOWLY = auto()


class LedgerDouble:
    """Appends events once by their ids. `entries` are in the order of the ledger.

    `faults` are spent one a call, None being none. `refuse` returns why an event is refused, or
    "". `malformed` are ids of events for which a whole batch is refused, as its validation does.
    """

    def __init__(self) -> None:
        self.entries: list[pb.AuditEvent] = []
        self.calls: list[list[str]] = []
        self.faults: list[Fault | None] = []
        self.refuse: Refuse = lambda _event: ""
        self.malformed: set[str] = set()
        self.down = False
        self._places: dict[str, int] = {}

    @property
    def ids(self) -> list[str]:
        """The ids of the entries."""
        return [entry.event_id for entry in self.entries]

    async def send(
        self, events: Sequence[pb.AuditEvent], timeout_s: float
    ) -> Sequence[pb.AppendResult]:
        """Append a batch like `LogActions`."""
        assert timeout_s <= 2
        self.calls.append([event.event_id for event in events])
        fault = self.faults.pop(0) if self.faults else None
        if self.down or fault is Fault.UNREACHABLE:
            raise AuditUnavailable
        if self.malformed.intersection(self.calls[-1]):
            wrong = FieldViolation("events[0].details", "is too much")
            raise ValidationFailed(count=1, first="events[0].details", fields=(wrong,))
        results = [self._append(event) for event in events]
        if fault is Fault.EXECUTED_AND_TIMED_OUT:
            raise TimeoutError
        if fault is Fault.EXECUTED_SLOWLY:
            await asyncio.sleep(PATIENCE_S)
        return results

    async def sequences(self, aggregates: Sequence[str]) -> Mapping[str, int]:
        """Answer like `GetAggregateSequences`."""
        if self.down:
            raise AuditUnavailable
        assert len(aggregates) <= 1000
        held = self.held()
        return {aggregate: _dense(held.get(aggregate, ())) for aggregate in aggregates}

    def held(self) -> Mapping[str, list[int]]:
        """Return the sequences of each aggregate in the order in which they were appended."""
        found = defaultdict(list)
        for entry in self.entries:
            found[entry.aggregate].append(entry.aggregate_seq)
        return found

    def forget(self, count: int) -> None:
        """Lose the newest entries, as a restore from an older backup does."""
        for entry in self.entries[-count:]:
            del self._places[entry.event_id]
        del self.entries[-count:]

    def _append(self, event: pb.AuditEvent) -> pb.AppendResult:
        reason = self.refuse(event)
        if reason:
            return pb.AppendResult(
                event_id=event.event_id, outcome=pb.APPEND_OUTCOME_REFUSED, reason=reason
            )
        outcome = pb.APPEND_OUTCOME_DUPLICATE
        if event.event_id not in self._places:
            outcome = pb.APPEND_OUTCOME_APPENDED
            self._places[event.event_id] = len(self.entries)
            self.entries.append(event)
        index = self._places[event.event_id]
        return pb.AppendResult(event_id=event.event_id, outcome=outcome, leaf_index=index)


def _dense(held: Iterable[int]) -> int:
    there, highest = set(held), 0
    while highest + 1 in there:
        highest += 1
    return highest
