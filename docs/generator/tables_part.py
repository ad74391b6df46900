"""The tables, one after the other, and the overview of them."""

import re

from docs.generator.blocks import table as markdown
from docs.generator.meanings import Meaning
from docs.generator.schema import Schema, Table


def counts_part(schema: Schema) -> str:
    """Return how much there is of everything."""
    tables = schema.tables.values()
    keys = sum(len(table.foreign_keys) for table in tables)
    checks = sum(len(table.checks) for table in tables)
    indexes = sum(len(table.indexes) for table in tables)
    unique = sum(index.unique for table in tables for index in table.indexes)
    return (
        f"{len(tables)} tables, {keys} foreign keys, {checks} check constraints and {indexes}"
        f" indexes, {unique} of them unique.\n"
    )


def overview_part(schema: Schema, meanings: dict[str, Meaning]) -> str:
    """Return one line for each table."""
    rows = [
        (
            f"[{name}](#{name})",
            meaning.owner,
            _first_sentence(meaning.holds),
            str(len(schema.tables[name].columns)),
            str(len(schema.tables[name].indexes)),
        )
        for name, meaning in meanings.items()
    ]
    return markdown(("Table", "Owner", "Holds", "Columns", "Indexes"), rows)


def tables_part(schema: Schema, meanings: dict[str, Meaning]) -> str:
    """Return a section for each table."""
    referrers: dict[str, list[str]] = {name: [] for name in schema.tables}
    for table in schema.tables.values():
        for key in table.foreign_keys:
            referrers[key.target_table].append(f"`{table.name}.{key.columns}`")
    return "\n".join(
        _section(schema.tables[name], meaning, referrers[name])
        for name, meaning in meanings.items()
    )


def _section(table: Table, meaning: Meaning, referrers: list[str]) -> str:
    parts = [f"### {table.name}\n", f"{meaning.holds}\n", _columns(table, meaning)]
    if table.foreign_keys:
        keys = [
            (f"`{key.columns}`", f"`{key.target}`", key.deletion, f"`{key.name}`")
            for key in table.foreign_keys
        ]
        parts.append(markdown(("Foreign key", "References", "On delete", "Name"), keys))
    if referrers:
        parts.append(f"Referenced by {', '.join(referrers)}.\n")
    indexes = [
        (
            f"`{index.name}`",
            f"`{_plain(index.definition)}`",
            "yes" if index.unique else "",
            meaning.indexes[index.name],
        )
        for index in table.indexes
    ]
    parts.append(markdown(("Index", "On", "Unique", "For"), indexes))
    if table.checks:
        checks = [(f"`{check.name}`", f"`{_plain(check.condition)}`") for check in table.checks]
        parts.append(markdown(("Check", "Condition"), checks))
    if others := [t for t in table.triggers if t.name != "touch_updated_at"]:
        triggers = [
            (f"`{t.name}`", t.events, f"`{t.function}`", "always" if t.always else "")
            for t in others
        ]
        parts.append(markdown(("Trigger", "Fires", "Calls", "Enabled"), triggers))
    return "\n".join(parts)


def _columns(table: Table, meaning: Meaning) -> str:
    rows = [
        (
            f"`{column.name}`",
            _short(column.type),
            "" if column.required else "NULL",
            f"`{_default(column.default)}`" if column.default else "",
            meaning.columns[column.name],
        )
        for column in table.columns
    ]
    return markdown(("Column", "Type", "", "Default", "Meaning"), rows)


def _short(kind: str) -> str:
    return kind.replace("timestamp with time zone", "timestamptz")


def _default(expression: str) -> str:
    return expression.partition("::")[0]


def _first_sentence(text: str) -> str:
    return re.split(r"\.(?:\s|$)", text, maxsplit=1)[0]


def _plain(expression: str) -> str:
    """Undo what PostgreSQL adds when it shows an expression: casts of literals, `= ANY (ARRAY`."""
    text = expression.replace("::text", "").replace("::double precision", "")
    return re.sub(r"= ANY \(ARRAY\[(.*?)\]\)", r"IN (\1)", text)
