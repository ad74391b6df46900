"""What callers were told, held against the ledger: one effect for each request, never two.

A claim is one request, sent any number of times with the same `request_id`.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from shared.domain_error import DomainError
from tests.properties.evidence import Evidence

OTHER_ANSWER: Final = "the same request was answered differently"
UNTOLD: Final = "an entry that is in no answer"
UNWRITTEN: Final = "an answer tells of an entry that the ledger has not got"
SHARED: Final = "two requests claim the same entry"
REUSED: Final = "a request id served another request"
# What the service does by itself, or finds out when somebody asks for something else.
UNASKED: Final = frozenset({"expire", "supersede"})


@dataclass
class Claim:
    """A request and everything it was answered with."""

    who: str
    method: str
    request: Any
    results: list[Any] = field(default_factory=list)

    @property
    def answers(self) -> list[Any]:
        """The answers that were no errors."""
        return [result for result in self.results if not isinstance(result, DomainError)]

    @property
    def events(self) -> frozenset[str]:
        """The ids of the entries that the answers name."""
        return frozenset(event for answer in self.answers for event in answer.audit.event_ids)


def judged_claims(seen: Evidence, claims: Sequence[Claim], written: Collection[str]) -> list[str]:
    """Return what was wrong; `written` are those of the claimed entries that the ledger has."""
    wrong = [f"{what} ({claim.method})" for claim in claims for what in _one(claim)]
    owners: dict[str, int] = {}
    for number, claim in enumerate(claims):
        wrong += [f"{UNWRITTEN}: {claim.method}" for _ in claim.events - set(written)]
        for event in claim.events:
            if owners.setdefault(event, number) != number:
                wrong.append(f"{SHARED}: {claim.method}")
    for entry in seen.entries:
        if entry["event_id"] not in owners and entry["action"] not in UNASKED:
            wrong.append(f"{UNTOLD}: {entry['action']} of {entry['aggregate']}")
    return wrong


def _one(claim: Claim) -> Iterator[str]:
    named = {tuple(answer.audit.event_ids) for answer in claim.answers}
    if len(named) > 1:
        yield f"{OTHER_ANSWER}: {len(named)} sets of entries"
    made = {answer.deployment.id for answer in claim.answers if hasattr(answer, "deployment")}
    if len(made) > 1:
        yield f"{OTHER_ANSWER}: {len(made)} deployments"
    refused = {result.reason for result in claim.results if isinstance(result, DomainError)}
    if "REQUEST_ID_REUSED" in refused:
        yield REUSED
