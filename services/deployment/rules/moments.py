"""Times as sentences tell them, in UTC."""

from datetime import UTC, datetime, timedelta
from typing import Final

_LAST_SECOND: Final = datetime.max.replace(microsecond=0, tzinfo=UTC)


def at_second(moment: datetime) -> str:
    """Return a time as a sentence tells it: at that second it has come, never just before."""
    told = moment.astimezone(UTC).replace(microsecond=0)
    if moment.microsecond and told < _LAST_SECOND:
        told += timedelta(seconds=1)
    return f"{told:%Y-%m-%d %H:%M:%S} UTC"


def in_minute(moment: datetime) -> str:
    """Return in which minute a time lies, where nobody goes by the second."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
