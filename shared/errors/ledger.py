"""What is refused of the ledger: entries, proofs, streams and what is sent of it."""

from shared.domain_error import DomainError, Kind


class EventIdReused(DomainError, kind=Kind.EXISTS):
    """Event id {event_id} is already in the ledger with other content, at index {leaf_index}. Use
    a new event id for a new event.
    """


class AggregateSequenceReused(DomainError, kind=Kind.EXISTS):
    """Sequence {aggregate_seq} of {aggregate} is already in the ledger under event id {event_id}.
    Send each version of an aggregate under one event id.
    """


class EventTooOld(DomainError, kind=Kind.PRECONDITION):
    """Event id {event_id} is older than the {horizon_days} days within which duplicates are
    recognized. Send the event under a new id.
    """


class AppendQueueFull(DomainError, kind=Kind.EXHAUSTED):
    """The ledger's queue is full. Repeat the call with the same event id after the delay in the
    details.
    """


class ExportSlotsTaken(DomainError, kind=Kind.EXHAUSTED):
    """{running} exports are running already. Wait until one ends."""


class PositionOutOfRange(DomainError, kind=Kind.RANGE):
    """The position {position} is beyond the end of the ledger, or of the tree asked for, which has
    {size} entries. Take a smaller one; where the ledger had more before, tell the operators.
    """


class SigningStopped(DomainError, kind=Kind.UNAVAILABLE):
    """The ledger holds {size} entries, but signs no checkpoints at this moment: {problem}. An
    operator must look at it; what was appended is stored.
    """


class ExportChanged(DomainError, kind=Kind.PRECONDITION):
    """An entry of the export was redacted or retired since it began, at position {position}. Export
    again from the start.
    """


class FollowSlotsTaken(DomainError, kind=Kind.EXHAUSTED):
    """{running} streams are followed already. Close one, or wait until one ends."""


class WebhooksTaken(DomainError, kind=Kind.EXHAUSTED):
    """There are {most} webhooks already. Delete one with DeleteWebhook, or let one serve both."""


class EntryRetired(DomainError, kind=Kind.PRECONDITION):
    """The entry at {position} was retired with its month by the entry at {retired_by}; its leaf is
    still in the tree. Go on from {next_index}.
    """


class UnderLegalHold(DomainError, kind=Kind.PRECONDITION):
    """The legal hold {hold} covers the entry at {position}. Release the hold first."""


class NotRetirable(DomainError, kind=Kind.PRECONDITION):
    """The month {month} cannot be retired: {because}."""


class NotRedactable(DomainError, kind=Kind.PRECONDITION):
    """The entry at {position} cannot be redacted: {because}."""
