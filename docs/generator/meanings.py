"""What the schema cannot say of itself: `docs/schema.toml` and the docstrings of the models."""

import tomllib
from dataclasses import dataclass
from inspect import getdoc
from pathlib import Path

from docs.generator.schema import Schema, Table
from shared.db.models import catalog

FILE = Path(__file__).resolve().parents[1] / "schema.toml"


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a table holds, whose it is, and what its columns and indexes are for."""

    holds: str
    owner: str
    columns: dict[str, str]
    indexes: dict[str, str]


class MeaningsIncomplete(Exception):
    """The file does not fit the schema; the text names what is missing and what is left over."""


def read_meanings(schema: Schema) -> dict[str, Meaning]:
    """Return the meaning of every table, in the order of the file; raises MeaningsIncomplete."""
    given = tomllib.loads(FILE.read_text(encoding="utf-8"))
    everywhere = given.pop("everywhere")
    problems = [f"{name} is not in schema.toml" for name in schema.tables.keys() - given.keys()]
    problems += [f"{name} is not in the schema" for name in given.keys() - schema.tables.keys()]
    meanings = {}
    for name in (name for name in given if name in schema.tables):
        table, said = schema.tables[name], given[name]
        columns = _fitting(table, everywhere) | said.get("columns", {})
        meaning = Meaning(_docstring(name), said.get("owner", ""), columns, said.get("indexes", {}))
        problems += _differences(table, meaning)
        meanings[name] = meaning
    if problems:
        raise MeaningsIncomplete("\n".join(sorted(problems)))
    return meanings


def _fitting(table: Table, everywhere: dict[str, str]) -> dict[str, str]:
    return {c.name: everywhere[c.name] for c in table.columns if c.name in everywhere}


def _docstring(table: str) -> str:
    """Return what the model of a table says; the first paragraphs, as one line each."""
    for mapper in catalog.Team.registry.mappers:  # all models share one registry
        if mapper.class_.__tablename__ == table:
            paragraphs = (getdoc(mapper.class_) or "").split("\n\n")
            return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    return ""


def _differences(table: Table, meaning: Meaning) -> list[str]:
    found = []
    for kind, there, said in (
        ("column", {column.name for column in table.columns}, meaning.columns.keys()),
        ("index", {index.name for index in table.indexes}, meaning.indexes.keys()),
    ):
        found += [f"{kind} {table.name}.{name} is not in schema.toml" for name in there - said]
        found += [f"{kind} {table.name}.{name} is not in the schema" for name in said - there]
    if not meaning.holds:
        found.append(f"{table.name} has no model with a docstring")
    return found
