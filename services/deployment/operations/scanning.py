"""Lists of which the rules choose: rows are read chunk by chunk until a page is full."""

from collections.abc import Awaitable, Callable
from itertools import count, islice
from typing import TypeVar

from shared.db.keyset import Page, PageRequest, Position

Row = TypeVar("Row")
Entry = TypeVar("Entry")


async def chosen_page(
    read: Callable[[Position | None], Awaitable[Page[Row]]],
    choose: Callable[[Row], Entry | None],
    position: Callable[[Entry], Position],
    wanted: PageRequest,
    most: int | None = None,
) -> Page[Entry]:
    """Read until the page is full and another entry is known to follow.

    `choose` says what a row is in the list, None when it is not. After `most` chunks the page may
    have room left, and goes on behind the last row that was looked at.
    """
    found: list[Entry] = []
    after = wanted.after
    for _ in islice(count(), most):
        chunk = await read(after)
        for entry in map(choose, chunk.entries):
            if entry is None:
                continue
            if len(found) == wanted.size:
                return Page(tuple(found), position(found[-1]))
            found.append(entry)
        if chunk.last is None:
            return Page(tuple(found))
        after = chunk.last
    return Page(tuple(found), after)
