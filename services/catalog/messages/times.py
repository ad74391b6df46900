"""Times in messages."""

from datetime import UTC, datetime
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

_FIRST: Final = datetime.min.replace(microsecond=1, tzinfo=UTC)
_LAST: Final = datetime.max.replace(microsecond=999_998, tzinfo=UTC)


def timestamp(moment: datetime | None) -> Timestamp | None:
    """Return a time for a message, None for none."""
    if moment is None:
        return None
    made = Timestamp()
    made.FromDatetime(moment)
    return made


def moment(sent: Timestamp) -> datetime:
    """Return the time that a checked request holds.

    The two ends of time are brought in by a microsecond: the driver takes them for infinity.
    """
    return min(max(sent.ToDatetime(UTC), _FIRST), _LAST)
