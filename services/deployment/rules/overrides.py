"""Overrides: which gates a deployment can be let past, and what is known of one that was."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from shared.domain_error import FieldViolation
from shared.errors import ValidationFailed


class OverridableGate(StrEnum):
    """What a lead may open; the values are the stored spelling and that of the gates.

    Never the release, which is unfit, nor the slot, which is taken, nor the approval, which would
    leave nobody to confirm the override. `IRREVERSIBLE` is no gate of what waits: it is asked when
    a rollback is requested, and overridden by that request.
    """

    PROMOTION_ORDER = "promotion_order"
    SOAK = "soak"
    DEPENDENCY = "dependency"
    FREEZE = "freeze"
    LOCK = "lock"
    QUEUE = "queue"
    IRREVERSIBLE = "irreversible"


@dataclass(frozen=True, slots=True)
class NewOverride:
    """A gate to let a deployment past, and why."""

    gate: OverridableGate
    reason: str


@dataclass(frozen=True, slots=True)
class Override:
    """That a deployment may pass a gate; `authors` are all people behind it."""

    gate: OverridableGate
    given_at: datetime
    authors: frozenset[UUID]


def check_wanted(gates: Collection[OverridableGate], field: str = "overrides") -> None:
    """Raise ValidationFailed for what only a rollback overrides, and a gate that is named twice.

    `field` is where the request names them.
    """
    for why in _refusals(gates):
        violation = FieldViolation(field, why)
        raise ValidationFailed(count=1, first=f"{field}: {why}", fields=(violation,))


def _refusals(gates: Collection[OverridableGate]) -> Iterator[str]:
    if OverridableGate.IRREVERSIBLE in gates:
        yield "only ExecuteRollback crosses an irreversible release, with cross_irreversible"
    for gate in OverridableGate:
        if list(gates).count(gate) > 1:
            yield f"the gate {gate} is named more than once"
