"""What an error of the product is: a reason, a kind, and the facts it carries.

Which errors there are is the catalogue, `shared.errors`.
"""

import re
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum, auto
from typing import ClassVar


class Kind(StrEnum):
    """What went wrong, in terms a caller can act on; one kind is one gRPC status code."""

    INVALID = auto()
    UNAUTHENTICATED = auto()
    DENIED = auto()
    MISSING = auto()
    EXISTS = auto()
    PRECONDITION = auto()
    CONFLICT = auto()
    EXHAUSTED = auto()
    UNAVAILABLE = auto()
    DEADLINE = auto()
    RANGE = auto()
    INTERNAL = auto()


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """A field that breaks a rule: its path, what is wrong, and the id of the rule."""

    field: str
    description: str
    rule: str = ""


@dataclass(frozen=True, slots=True)
class GateViolation:
    """A gate that is not satisfied: its name, what it is about, why and what would satisfy it."""

    gate: str
    subject: str
    description: str


class DomainError(Exception):
    """Base of all errors of the product.

    `facts` are the values named in the docstring of the subclass, and any others that a program
    may want; all are strings on the wire. `fields`, `gates` and `retry_after` become
    `BadRequest`, `PreconditionFailure` and `RetryInfo`.
    """

    kind: ClassVar[Kind]
    reason: ClassVar[str]

    def __init_subclass__(cls, kind: Kind) -> None:
        """Derive the reason from the class name: `SlotTaken` is `SLOT_TAKEN`."""
        cls.kind = kind
        cls.reason = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).upper()

    def __init__(
        self,
        *,
        fields: tuple[FieldViolation, ...] = (),
        gates: tuple[GateViolation, ...] = (),
        retry_after: timedelta | None = None,
        **facts: object,
    ) -> None:
        """Fill the facts into the docstring; a fact the docstring names must be given."""
        self.facts = {name: str(value) for name, value in facts.items()}
        self.fields = fields
        self.gates = gates
        self.retry_after = retry_after
        sentence = " ".join((type(self).__doc__ or "").split())
        super().__init__(sentence.format_map(self.facts))
