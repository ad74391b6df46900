"""Erasing fields of entries for good."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from services.audit.reading.entries import Reading
from services.audit.reading.searching import Entry
from services.audit.retention.announcing import Announcer
from services.audit.rules import redaction
from services.audit.rules.leaf import digest_of
from services.audit.rules.recheck import values_of
from services.audit.store import retention
from services.audit.store.appending import driver_connection
from shared.db.engine import Database
from shared.errors import ConcurrentChange, NotRedactable, UnderLegalHold

# Others who redact the same entry at the same moment can get in between this often.
ATTEMPTS = 20


@dataclass(frozen=True, slots=True)
class Redacted:
    """The entry as it is now, and the one that orders the last erasure, if that was done.

    `appended` when that is new.
    """

    entry: Entry
    order: Entry | None
    appended: bool = False


class Redacting:
    """Redacts entries of the ledger."""

    def __init__(
        self, keeper: Database, reader: Database, reading: Reading, announcer: Announcer
    ) -> None:
        """Take databases under the keeper's and the reader's role, and what reads and announces."""
        self._keeper = keeper
        self._reader = reader
        self._reading = reading
        self._announcer = announcer

    async def redact(
        self, key: UUID | int, fields: Sequence[str], reason: str, *, validate_only: bool = False
    ) -> Redacted:
        """Erase those of the fields of an entry, by id or position, that are not erased yet.

        Raises ResourceNotFound, PositionOutOfRange, EntryRetired, NotRedactable, UnderLegalHold.
        """
        position = await self._reading.position(key)
        for _ in range(ATTEMPTS):
            outcome = await self._attempt(position, fields, reason, validate_only=validate_only)
            if outcome is None:
                break
            if outcome.outcome == "held":
                raise UnderLegalHold(hold=outcome.hold, position=position)
            if outcome.outcome == "redacted":
                break
        else:
            raise ConcurrentChange
        entry = await self._reading.by_leaf_index(position)
        if validate_only:
            return Redacted(entry, None)
        missing = redaction.erased(entry.redactions)
        if missing is None:
            raise ConcurrentChange
        order = await self._reading.by_leaf_index(missing.leaf, kept=True)
        return Redacted(entry, order, appended=outcome is not None)

    async def _attempt(
        self, position: int, fields: Sequence[str], reason: str, *, validate_only: bool
    ) -> retention.Outcome | None:
        """Erase what is left of the fields; None when nothing is."""
        await self._reading.by_leaf_index(position)  # raises why there is none
        async with driver_connection(self._reader.engine) as driver:
            found = await retention.entry_at(driver, position)
        if found is None:  # its month was dropped a moment ago, which the next attempt says
            return retention.Outcome("gone")
        row = dict(found)
        if redaction.is_about_the_ledger(row["producer"], row["category"]):
            because = "it tells how the ledger itself was changed"
            raise NotRedactable(position=position, because=because)
        try:
            missing = redaction.erased(row["redactions"])
            commitments = redaction.commitments_of(values_of(row), row["salt"], missing)
            matches = digest_of(commitments) == row["event_digest"]
        except (ValueError, TypeError):
            matches = False
        if not matches:
            because = "it does not match its digest; call VerifyLedger"
            raise NotRedactable(position=position, because=because)
        left = [field for field in fields if missing is None or field not in missing.commitments]
        if not left:
            return None
        entry = self._announcer.entry(
            redaction.REDACT,
            redaction.RESOURCE,
            str(row["id"]),
            redaction.redact_details(position, left, missing, reason),
        )
        async with retention.rehearsal(self._keeper, validate_only=validate_only) as driver:
            return await retention.redact(driver, entry, position, left, b"".join(commitments))
