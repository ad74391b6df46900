"""The lines of an NDJSON export, read and computed anew, by several processes where it pays."""

import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, BinaryIO

from services.audit.rules.exported import EntryNotGenuine, Exported, read_line, recomputed
from services.audit.rules.redaction import orders
from services.audit.rules.retirement import announces
from services.audit.verify.verdict import NotGenuine

if TYPE_CHECKING:
    from concurrent.futures import Future

# Details have at most 64 KiB in canonical form, which grows where tiny numbers are written out.
MOST_BYTES = 32 * 1024 * 1024
# Starting other processes takes about as long as computing this much.
ALONE_BYTES = 16 * 1024 * 1024
MOST_PROCESSES = 8
# Lines of a batch, as long as they are of ordinary length.
BATCH = 500
BATCH_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Line:
    """An entry, and its members if it orders a redaction or announces a retirement."""

    content: bytes
    entry: Exported
    order: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class _Batch:
    """Neighbouring lines computed anew, and what is wrong with the one after them, if anything."""

    found: Sequence[tuple[Exported, Mapping[str, Any] | None]]
    problem: str = ""


def entries(file: BinaryIO) -> Iterator[Line]:
    """Yield all lines; raises NotGenuine for the first one that is not an entry, by its number."""
    number = 0
    for lines, batch in _batches(file):
        for content, (entry, order) in zip(lines, batch.found, strict=False):
            number += 1
            yield Line(content, entry, order)
        if batch.problem:
            raise NotGenuine(f"Line {number + 1}{batch.problem}.")


def _batches(file: BinaryIO) -> Iterator[tuple[Sequence[bytes], _Batch]]:
    processes = min(os.cpu_count() or 1, MOST_PROCESSES)
    if os.fstat(file.fileno()).st_size < ALONE_BYTES or processes == 1:
        for lines in _read(file):
            yield lines, _computed(lines)
        return
    # Here, because a small file needs none of it.
    from concurrent.futures import ProcessPoolExecutor  # noqa: PLC0415
    from multiprocessing import get_context  # noqa: PLC0415

    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        waiting: deque[tuple[Sequence[bytes], Future[_Batch]]] = deque()
        reading = _read(file)
        try:
            while True:
                for lines in islice(reading, 2 * processes - len(waiting)):
                    waiting.append((lines, pool.submit(_computed, lines)))
                if not waiting:
                    return
                lines, computing = waiting.popleft()
                yield lines, computing.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _read(file: BinaryIO) -> Iterator[Sequence[bytes]]:
    """Yield lines in batches, of which none is larger than one line and BATCH_BYTES."""
    lines: list[bytes] = []
    size = 0
    while line := file.readline(MOST_BYTES):
        lines.append(line)
        size += len(line)
        if len(lines) == BATCH or size > BATCH_BYTES:
            yield lines
            lines, size = [], 0
    yield lines


def _computed(lines: Sequence[bytes]) -> _Batch:
    found: list[tuple[Exported, Mapping[str, Any] | None]] = []
    for line in lines:
        where = ""
        try:
            _check_end(line)
            told = read_line(line)
            where = f" (position {told['leaf_index']})"
            entry = recomputed(told)
        except EntryNotGenuine as error:
            return _Batch(found, f"{where} {error}")
        is_order = orders(told) is not None or announces(told)
        found.append((entry, told if is_order else None))
    return _Batch(found)


def _check_end(line: bytes) -> None:
    if not line.endswith(b"\n"):
        longer = len(line) == MOST_BYTES
        raise EntryNotGenuine("is longer than a line can be" if longer else "is cut off")
    if line.endswith(b"\r\n"):
        raise EntryNotGenuine("ends with CR LF: the line ends were converted")
