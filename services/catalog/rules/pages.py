"""A page of a list: what was asked for, and what there is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PageRequest:
    """At most `size` entries after the position `after`; None is the beginning."""

    size: int
    after: Sequence[int | str] | None = None


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """The entries, and the position of the last one if more follow."""

    entries: tuple[T, ...]
    last: Sequence[int | str] | None = None
