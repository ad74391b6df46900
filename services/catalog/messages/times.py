"""Times in messages."""

from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp


def timestamp(moment: datetime | None) -> Timestamp | None:
    """Return a time for a message, None for none."""
    if moment is None:
        return None
    made = Timestamp()
    made.FromDatetime(moment)
    return made
