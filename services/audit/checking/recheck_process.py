"""Processes of their own for long rechecks, so that calls need not share a processor with them.

`python -m services.audit.checking.recheck_process` reads one line of JSON, the range, its part of
the windows and the database, and answers with windows: a line of JSON each, then their leaves, 32
bytes each. Whoever started the processes takes one window of each in turn, so none is far ahead;
they end when nobody takes them.
"""

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import fields
from itertools import cycle
from typing import Any

import structlog

from services.audit.checking.rechecking import Window, windows
from services.audit.rules.replay import Mismatch
from shared.db.engine import Database
from shared.merkle.tree import HASH_BYTES

# Starting the process takes as long as rechecking so many entries.
WORTH_A_PROCESS = 20_000
# Computing costs several times what fetching does; with two, PostgreSQL has work too.
PROCESSES = 2
# Whatever else wants the processor comes first.
NICENESS = 10
APPLICATION = "audit recheck"
_log = structlog.get_logger(__name__)


class _EndedEarly(Exception):
    """A process ended before its last window; the text is what it said, or its exit code."""


async def rechecked(database: Database, first: int, end: int) -> AsyncGenerator[Window, None]:
    """Compute the leaves of a range as `rechecking.windows` does, a long one in processes.

    Should one of them end early, the rest is computed here.
    """
    if end - first >= WORTH_A_PROCESS:
        try:
            async with aclosing(_elsewhere(database, first, end)) as made:
                async for window in made:
                    first = window.first + len(window.leaves)
                    yield window
                    if window.mismatch is not None:
                        return
        except (_EndedEarly, OSError) as error:
            _log.warning("recheck_process_ended", error=str(error))
    async with aclosing(windows(database, first, end)) as made:
        async for window in made:
            yield window


async def _elsewhere(database: Database, first: int, end: int) -> AsyncGenerator[Window, None]:
    async with AsyncExitStack() as stack:
        processes = [
            await stack.enter_async_context(_process(database, first, end, part))
            for part in range(PROCESSES)
        ]
        for process in cycle(processes):
            window = await _received(process)
            yield window
            if window.mismatch is not None or window.first + len(window.leaves) >= end:
                return


@asynccontextmanager
async def _process(database: Database, first: int, end: int, part: int) -> AsyncIterator[Process]:
    """Have a process compute a part of the windows; it ends with the block."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", __name__),
        stdin=PIPE,
        stdout=PIPE,
        # Signals of a terminal are for the service, which ends this one.
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    try:
        url = database.engine.url.render_as_string(hide_password=False)
        asked = {"url": url, "role": database.role, "first": first, "end": end, "part": part}
        _pipe(process.stdin).write(json.dumps(asked).encode() + b"\n")
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _received(process: Process) -> Window:
    output = _pipe(process.stdout)
    try:
        head = json.loads(await output.readuntil())
        count = head.pop("count")
        sent = await output.readexactly(count * HASH_BYTES)
    except asyncio.IncompleteReadError as error:
        raise _EndedEarly(f"exit code {await process.wait()}") from error
    except KeyError as error:
        raise _EndedEarly(head.get("failed", "")) from error
    except (ValueError, asyncio.LimitOverrunError) as error:  # something else wrote there
        raise _EndedEarly(type(error).__name__) from error
    leaves = [sent[at : at + HASH_BYTES] for at in range(0, len(sent), HASH_BYTES)]
    mismatch = head.pop("mismatch")
    return Window(leaves=leaves, mismatch=mismatch and Mismatch(*mismatch), **head)


def _pipe(pipe: Any) -> Any:  # noqa: ANN401  (None only where no pipe was asked for)
    return pipe


def main() -> int:
    """Answer one question and return the exit code."""
    os.nice(NICENESS)
    asked = json.loads(sys.stdin.buffer.readline() or "{}")
    if not asked:
        return 0
    try:
        asyncio.run(_answer(**asked))
    except BrokenPipeError:  # nobody wants to know any more
        os._exit(1)
    except Exception as error:  # noqa: BLE001  (told to whoever asked)
        _send(json.dumps({"failed": type(error).__name__}).encode() + b"\n")
        return 1
    return 0


async def _answer(url: str, role: str | None, first: int, end: int, part: int) -> None:
    database = Database(url, role=role, application_name=APPLICATION, pool_size=2)
    try:
        async with aclosing(windows(database, first, end, part, PROCESSES)) as made:
            async for window in made:
                head = {one.name: getattr(window, one.name) for one in fields(window)}
                head["count"] = len(head.pop("leaves"))
                _send(json.dumps(head).encode() + b"\n" + b"".join(window.leaves))
    finally:
        await database.close()


def _send(answer: bytes) -> None:
    sys.stdout.buffer.write(answer)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main())
