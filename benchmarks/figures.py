"""Figures: two sides measured in turns, what was promised, and a line of a table for each."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

Round = Callable[[], Awaitable[float]]

HEADINGS = ("benchmark", "ours", "competitor", "ratio", "target")


@dataclass(frozen=True, slots=True)
class Pair:
    """What each side reached in each round; a competitor is not always there."""

    ours: Sequence[float]
    theirs: Sequence[float] = ()

    @property
    def ratio(self) -> float | None:
        """Ours to theirs: the median over neighbouring rounds, which shared the machine's mood."""
        if not self.theirs:
            return None
        return median(own / other for own, other in zip(self.ours, self.theirs, strict=True))


def percentile(measured: Sequence[float], part: float) -> float:
    """Return what this part of all that was measured lies below."""
    return sorted(measured)[int(len(measured) * part)]


async def in_turns(ours: Round, theirs: Round, rounds: int) -> Pair:
    """Measure both sides so many times, after one round each that does not count.

    Whoever was first in one round is second in the next.
    """
    await theirs()
    await ours()
    mine: list[float] = []
    others: list[float] = []
    for number in range(rounds):
        if number % 2:
            others.append(await theirs())
            mine.append(await ours())
        else:
            mine.append(await ours())
            others.append(await theirs())
    return Pair(mine, others)


async def alone(ours: Round, rounds: int) -> Pair:
    """Measure one side so many times, after one round that does not count."""
    await ours()
    return Pair([await ours() for _ in range(rounds)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """Bounds of the median and of the ratio; None where nothing was promised."""

    at_least: float | None = None
    at_most: float | None = None
    ratio_at_least: float | None = None
    ratio_at_most: float | None = None

    def __str__(self) -> str:
        """Return the bounds as people write them."""
        bounds = [
            ("≥ {:,g}", self.at_least),
            ("≤ {:,g}", self.at_most),
            ("ratio ≥ {:g}", self.ratio_at_least),
            ("ratio ≤ {:g}", self.ratio_at_most),
        ]
        return ", ".join(text.format(bound) for text, bound in bounds if bound is not None)

    def kept(self, value: float, ratio: float | None) -> bool:
        """Say whether a median and a ratio are inside."""
        return _inside(value, self.at_least, self.at_most) and (
            ratio is None or _inside(ratio, self.ratio_at_least, self.ratio_at_most)
        )


def _inside(value: float, least: float | None, most: float | None) -> bool:
    return (least is None or value >= least) and (most is None or value <= most)


@dataclass(frozen=True, slots=True)
class Figure:
    """One result. `against` names the competitor; `facts` are whatever else is worth keeping."""

    name: str
    unit: str
    pair: Pair
    against: str = ""
    promise: Promise = Promise()
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def value(self) -> float:
        """The median of our side."""
        return median(self.pair.ours)

    @property
    def kept(self) -> bool:
        """Whether the promise is kept."""
        return self.promise.kept(self.value, self.pair.ratio)

    def cells(self) -> tuple[str, ...]:
        """Return the cells of the table, in the order of HEADINGS."""
        ratio = self.pair.ratio
        return (
            self.name,
            f"{_spelled(self.value)} {self.unit}",
            f"{_spelled(median(self.pair.theirs))} {self.against}" if self.pair.theirs else "-",
            "-" if ratio is None else f"{ratio:.2f}",
            f"{self.promise}: {'kept' if self.kept else 'MISSED'}" if str(self.promise) else "-",
        )

    def as_json(self) -> dict[str, Any]:
        """Return everything that was measured."""
        return {
            "name": self.name,
            "unit": self.unit,
            "ours": list(self.pair.ours),
            "theirs": list(self.pair.theirs),
            "against": self.against,
            "median": self.value,
            "ratio": self.pair.ratio,
            "promise": str(self.promise),
            "kept": self.kept,
            "facts": self.facts,
        }


def _spelled(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"  # noqa: PLR2004  (digits that count)


def table(figures: Sequence[Figure]) -> str:
    """Return the figures as a table of Markdown."""
    rows = [HEADINGS, *(figure.cells() for figure in figures)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)
