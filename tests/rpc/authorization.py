"""The authorization matrix: the reviewed file, the answers observed, and what differs."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import grpc
import yaml

from tests.support.raw_calls import Answer

FILE = Path(__file__).with_name("authorization_matrix.yaml")
ALLOWED = "A"
NOBODY = "N"
WRONG = "!"
# Codes with which no method of a healthy product answers, whoever calls.
NEVER = frozenset(
    {
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,
    }
)

Cell = tuple[str, str]  # method and caller


@dataclass(frozen=True)
class Mismatch:
    """A cell whose answer is not the one that the file states."""

    cell: Cell
    expected: str | None
    observed: str | None


@dataclass(frozen=True)
class Matrix:
    """The letter of each cell, and the meanings of the letters."""

    callers: tuple[str, ...]
    letters: Mapping[str, str]
    cells: Mapping[Cell, str]

    @classmethod
    def read(cls) -> Self:
        """Read the file, and refuse one that is not complete in itself."""
        content = yaml.safe_load(FILE.read_text())
        callers, letters = tuple(content["callers"]), content["answers"]
        cells: dict[Cell, str] = {}
        for service, methods in content["cells"].items():
            for method, row in methods.items():
                answers = row.split()
                assert len(answers) == len(callers), f"{service}/{method}: {row}"
                assert set(answers) <= set(letters), f"{service}/{method}: {row}"
                for caller, letter in zip(callers, answers, strict=True):
                    cells[f"/{service}/{method}", caller] = letter
        return cls(callers, letters, cells)

    @property
    def methods(self) -> frozenset[str]:
        """The methods that have a row."""
        return frozenset(method for method, _caller in self.cells)

    def flipped(self, cell: Cell) -> Self:
        """Return a matrix that is wrong about one cell."""
        letter = next(letter for letter in self.letters if letter != self.cells[cell])
        return replace(self, cells={**self.cells, cell: letter})

    def letter(self, answer: Answer) -> str:
        """Return the letter of an answer: a refusal by the door is one, all the rest is allowed.

        A method that states no role has a letter that no file may use, and so has a fault.
        """
        if answer.code in NEVER:
            return f"{WRONG} {answer}"
        refused = answer.code in {
            grpc.StatusCode.UNAUTHENTICATED,
            grpc.StatusCode.PERMISSION_DENIED,
        }
        if not refused:
            return ALLOWED
        for letter, meaning in self.letters.items():
            if meaning == f"{answer.code.name} {answer.reason}":
                return letter
        if answer.reason == "NOT_PERMITTED":  # by the thing itself, unless nobody at all may call
            return NOBODY if answer.facts.get("action") == "call this method" else ALLOWED
        return f"{WRONG} {answer}"


def mismatches(expected: Mapping[Cell, str], observed: Mapping[Cell, str]) -> list[Mismatch]:
    """Return every cell that the two do not agree on, those that only one of them has included."""
    return [
        Mismatch(cell, expected.get(cell), observed.get(cell))
        for cell in expected.keys() | observed.keys()
        if expected.get(cell) != observed.get(cell)
    ]
