"""The statements that a piece of code sends, with their parameters, and their plans."""

import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event, select

from shared.db.engine import Database

Node = dict[str, Any]


@contextmanager
def statements_sent(database: Database) -> Iterator[list[tuple[str, Any]]]:
    """Provide the list of the statements that are sent over a database, with their parameters."""
    sent: list[tuple[str, Any]] = []

    def note(*given: Any) -> None:
        sent.append((given[2], given[3]))

    listened = (database.engine.sync_engine, "before_cursor_execute", note)
    event.listen(*listened)
    try:
        yield sent
    finally:
        event.remove(*listened)


async def plans_of(database: Database, read: Callable[[], Awaitable[Any]]) -> list[Node]:
    """Return the nodes of the plans of every statement that `read` sends over a database."""
    with statements_sent(database) as sent:
        await read()
    found: list[Node] = []
    async with database.transaction() as tx:
        await tx.execute(select(1))  # the transaction begins with the first statement
        driver: Any = (await tx.get_raw_connection()).driver_connection
        for statement, parameters in sent:
            if "set_config(" in statement:  # decides about the plans of those that follow
                await driver.fetchval(statement, *parameters)
                continue
            answer = await driver.fetchval(f"EXPLAIN (FORMAT JSON) {statement}", *parameters)
            made = json.loads(answer) if isinstance(answer, str) else answer
            found += _nodes(made[0]["Plan"])
    return found


def scanned(plans: Sequence[Node]) -> set[str]:
    """Return the tables that are read from their first row to their last."""
    return {node["Relation Name"] for node in plans if node["Node Type"] == "Seq Scan"}


def indexes(plans: Sequence[Node]) -> set[str]:
    """Return the indexes that are used."""
    return {str(node["Index Name"]) for node in plans if "Index Name" in node}


def shown(plans: Sequence[Node]) -> str:
    """Return what matters of plans, a line for each node."""
    told = ("Node Type", "Relation Name", "Index Name", "Index Cond", "Filter", "Plan Rows")
    lines = [" | ".join(str(node[name]) for name in told if name in node) for node in plans]
    return "\n".join(lines)


def _nodes(plan: Node) -> Iterator[Node]:
    """Yield a plan and all plans in it."""
    yield {name: value for name, value in plan.items() if name != "Plans"}
    for child in plan.get("Plans", ()):
        yield from _nodes(child)
