"""When a deployment may start at the earliest, and by when it must have started."""

from datetime import datetime, timedelta
from typing import Final

from shared.domain_error import FieldViolation
from shared.errors import ValidationFailed

LONGEST_WAIT: Final = timedelta(days=30)


def check_start_times(
    not_before: datetime | None, start_by: datetime | None, now: datetime
) -> None:
    """Raise ValidationFailed unless there is a time to start in, within `LONGEST_WAIT` from now.

    Without that end a deployment could wait for ever, in the way of those that come after it.
    """
    last = now + LONGEST_WAIT
    wrong: list[FieldViolation] = []
    for name, moment in (("not_before", not_before), ("start_by", start_by)):
        if moment is not None and moment > last:
            why = f"is more than {LONGEST_WAIT.days} days from now"
            wrong.append(FieldViolation(name, why, "start_times.range"))
    if start_by is not None and start_by <= now:
        wrong.append(FieldViolation("start_by", "has passed", "start_times.future"))
    elif start_by is not None and not_before is not None and start_by <= not_before:
        why = "must be later than not_before"
        wrong.append(FieldViolation("start_by", why, "start_times.order"))
    if wrong:
        first = f"{wrong[0].field} {wrong[0].description}"
        raise ValidationFailed(count=len(wrong), first=first, fields=tuple(wrong))
