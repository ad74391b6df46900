"""Overrides: which gates a deployment can be let past, and what is known of one that was."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from shared.domain_error import FieldViolation
from shared.errors import ValidationFailed


class OverridableGate(StrEnum):
    """The gates that a lead may open; the values are the stored spelling and that of the gates.

    Never the release, which is unfit, nor the slot, which is taken, nor the approval, which would
    leave nobody to confirm the override.
    """

    PROMOTION_ORDER = "promotion_order"
    SOAK = "soak"
    DEPENDENCY = "dependency"
    FREEZE = "freeze"
    LOCK = "lock"
    QUEUE = "queue"


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


def check_each_once(gates: Collection[OverridableGate]) -> None:
    """Raise ValidationFailed when a gate is to be overridden twice by one request."""
    for gate in OverridableGate:
        if list(gates).count(gate) > 1:
            why = f"the gate {gate} is named more than once"
            violation = FieldViolation("overrides", why)
            raise ValidationFailed(count=1, first=f"overrides: {why}", fields=(violation,))
