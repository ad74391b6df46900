"""Whether a refusal says which field is wrong, so that its caller need not guess."""

import re

from shared.errors import ExpressionInvalid, MalformedRequest, PageTokenInvalid, ValidationFailed
from tests.support.corpus import Case, Expected
from tests.support.raw_calls import Answer

# The rules of events name the fields of an event, whether it comes alone or in a batch.
EVENT = "event."


def names_the_field(case: Case, answer: Answer) -> bool:
    """Say whether a refusal for what is in a field names it, or the message that it is in.

    What is in a list or map is named by the path with the place in it.
    """
    if case.expected is not Expected.REFUSED or not case.place:
        return True
    if answer.reason == ExpressionInvalid.reason:
        return answer.facts["field"] == case.place
    if answer.reason != ValidationFailed.reason:
        return answer.reason in {MalformedRequest.reason, PageTokenInvalid.reason}
    path = r"(\[.*\])?\.".join(map(re.escape, case.place.split(".")))
    relative = case.place.removeprefix(EVENT)
    return any(
        re.match(rf"{path}([.\[].*)?$", named, re.DOTALL)
        or case.place.startswith(f"{named}.")
        or named == relative
        for named in answer.fields
    )
