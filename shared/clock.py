"""What time it is, as something a test can move.

Decisions about deployments use the database's clock inside their transaction; this one serves
tokens, throttles and caches inside one process.
"""

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]


def system_clock() -> datetime:
    """Return the current time, aware, in UTC."""
    return datetime.now(UTC)
