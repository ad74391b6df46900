"""The histories of `docs/rollbacks.toml`: read for the manual and for the test that plays them."""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from docs.generator.blocks import table as markdown

FILE = Path(__file__).resolve().parents[1] / "rollbacks.toml"


@dataclass(frozen=True, slots=True)
class History:
    """What happened in an environment, one step after the other, and what a rollback chooses.

    `to` is the version it goes back to, empty when there is none.
    """

    steps: tuple[str, ...]
    to: str
    because: str


def histories() -> Sequence[History]:
    """Return all histories in the order of the file."""
    rows = tomllib.loads(FILE.read_text(encoding="utf-8"))["history"]
    return [History(tuple(row["steps"]), row["to"], row["because"]) for row in rows]


def rollbacks_part() -> str:
    """Return a table of the histories."""
    rows = [
        (
            ", ".join(in_words(step) for step in history.steps),
            history.to or "`NO_STABLE_RELEASE`",
            history.because,
        )
        for history in histories()
    ]
    return markdown(("What happened", "A rollback goes to", "Because"), rows)


def in_words(step: str) -> str:
    """Return a step as the manual tells it."""
    if step == "back":
        return "**rolled back**"
    if step == "back fails":
        return "**rolled back, which fails**"
    version, _, what = step.partition(" ")
    return {"": f"{version} completes", "bad": f"{version} is marked bad"}.get(
        what,
        f"{version} {what}" if what.startswith("fails") else f"the mark of {version} is cleared",
    )
