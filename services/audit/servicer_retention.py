"""The RPCs of retention: convert, call, convert."""

from dataclasses import dataclass
from uuid import UUID

from release_manager.audit.v1 import retention_pb2 as pb
from release_manager.audit.v1 import retention_pb2_grpc

from services.audit import messages, messages_retention
from services.audit.appending.traces import Traces
from services.audit.reading.entries import Reading
from services.audit.retention.announcing import Announcer
from services.audit.retention.holds import Holds, HoldsQuery
from services.audit.retention.redacting import Redacting
from services.audit.retention.retiring import Retiring
from services.audit.rules.retirement import month_named
from services.audit.signing.integrator import Integrator
from services.audit.store.people import People
from shared.db.engine import Database
from shared.domain_error import FieldViolation
from shared.errors import ValidationFailed
from shared.identity.actor import caller, current_call
from shared.paging import PageTokens
from shared.rpc.interceptors.around import Context


@dataclass(frozen=True, slots=True)
class Keeping:
    """What erases, drops and holds entries."""

    redacting: Redacting
    retiring: Retiring
    holds: Holds

    @classmethod
    def of(
        cls,
        databases: tuple[Database, Database],
        tokens: PageTokens,
        integrator: Integrator,
        announcer: Announcer,
    ) -> "Keeping":
        """Put it together; the databases are under the keeper's and the reader's role."""
        reading = Reading(databases[1], tokens)
        return cls(
            Redacting(*databases, reading, announcer),
            Retiring(*databases, reading, integrator, announcer),
            Holds(*databases, tokens, announcer),
        )


class RetentionServicer(retention_pb2_grpc.RetentionServiceServicer):
    """Erases, drops and holds entries of the ledger."""

    def __init__(self, keeping: Keeping, people: People, traces: Traces) -> None:
        """Take the operations, who knows users by name, and what writes who read an entry."""
        self._traces = traces
        self._redacting = keeping.redacting
        self._retiring = keeping.retiring
        self._holds = keeping.holds
        self._people = people

    async def RedactAuditLog(
        self, request: pb.RedactAuditLogRequest, _: Context
    ) -> pb.RedactAuditLogResponse:
        """Erase fields of an entry."""
        key = UUID(request.id) if request.HasField("id") else request.leaf_index
        done = await self._redacting.redact(
            key, request.fields, request.reason, validate_only=request.validate_only
        )
        if not done.appended:  # it was only looked at
            looked = {"leaf_index": done.entry.leaf_index}
            await self._traces.write("read", looked, str(done.entry.id))
        return messages_retention.redacted(done)

    async def RetireAuditLogs(
        self, request: pb.RetireAuditLogsRequest, _: Context
    ) -> pb.RetireAuditLogsResponse:
        """Drop the entries of a month."""
        try:
            month = month_named(request.month)
        except ValueError as error:  # the year 0
            violation = FieldViolation("month", "must be a month of the years 1 to 9999")
            first = f"{violation.field} {violation.description}"
            raise ValidationFailed(count=1, first=first, fields=(violation,)) from error
        done = await self._retiring.retire(
            month, request.reason, validate_only=request.validate_only
        )
        return messages_retention.retired(done)

    async def CreateLegalHold(
        self, request: pb.CreateLegalHoldRequest, _: Context
    ) -> pb.CreateLegalHoldResponse:
        """Place a hold."""
        user = request.filter.user
        user_id = await self._people.one(user) if user else None
        wanted = messages.new_filter(request.filter, user_id)
        hold = messages_retention.new_hold(request, wanted, caller().user_id)
        stored = await self._holds.place(
            hold, messages_retention.told(hold), validate_only=request.validate_only
        )
        return pb.CreateLegalHoldResponse(legal_hold=messages_retention.hold(stored))

    async def ReleaseLegalHold(
        self, request: pb.ReleaseLegalHoldRequest, _: Context
    ) -> pb.ReleaseLegalHoldResponse:
        """Release a hold."""
        stored = await self._holds.release(
            request.legal_hold, request.reason, validate_only=request.validate_only
        )
        return pb.ReleaseLegalHoldResponse(legal_hold=messages_retention.hold(stored))

    async def ListLegalHolds(
        self, request: pb.ListLegalHoldsRequest, _: Context
    ) -> pb.ListLegalHoldsResponse:
        """Return a page of holds."""
        asked = HoldsQuery(
            method=current_call.get().method,
            caller=caller().user_id,
            size=request.page_size,
            token=request.page_token,
            released=request.show_released,
        )
        return messages_retention.holds(await self._holds.page(asked))
