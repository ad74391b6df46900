"""`python -m benchmarks`: run benchmarks by name and print their table."""

import argparse
import asyncio
import json
import os
import platform
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from benchmarks import (
    appends,
    board,
    export,
    lag,
    lists,
    logins,
    pages,
    proofs,
    unary,
    verification,
    watchers,
)
from benchmarks.figures import Figure, table
from benchmarks.stage import Bench, stage

BENCHMARKS: Mapping[str, Callable[[Bench], Awaitable[Sequence[Figure]]]] = {
    "appends": appends.run,
    "export": export.run,
    "unary": unary.run,
    "verification": verification.run,
    "proofs": proofs.run,
    "lag": lag.run,
    "pages": pages.run,
    "lists": lists.run,
    "board": board.run,
    "logins": logins.run,
    "watchers": watchers.run,
}


def main() -> int:
    """Run what was named, or everything; return 1 when a promise is not kept."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(BENCHMARKS)}; all when none")
    parser.add_argument("--rounds", type=int, default=9, help="how often each side is measured")
    parser.add_argument("--entries", type=int, help="entries of a round or ledger; else the usual")
    parser.add_argument("--json", type=Path, help="file to write all figures to")
    asked = parser.parse_args()
    unknown = set(asked.names) - BENCHMARKS.keys()
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    figures: list[Figure] = []
    with stage(asked.rounds, asked.entries) as bench:
        for name in asked.names or BENCHMARKS:
            print(f"{name} ...", file=sys.stderr, flush=True)
            figures += asyncio.run(_measured(name, bench))
    print(table(figures))
    if asked.json is not None:
        _write(asked.json, figures)
    return 0 if all(figure.kept for figure in figures) else 1


async def _measured(name: str, bench: Bench) -> Sequence[Figure]:
    return await BENCHMARKS[name](bench)


def _write(path: Path, figures: Sequence[Figure]) -> None:
    machine = {
        "platform": platform.platform(),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
    }
    written = {"machine": machine, "figures": [figure.as_json() for figure in figures]}
    path.write_text(json.dumps(written, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
