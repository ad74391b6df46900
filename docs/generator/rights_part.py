"""What each role may do with each table and function."""

from docs.generator.blocks import table as markdown
from docs.generator.meanings import Meaning
from docs.generator.schema import Grant, Schema, Table

_ROLES = (
    "rm_catalog",
    "rm_deployment",
    "rm_audit_writer",
    "rm_audit_reader",
    "rm_audit_integrator",
    "rm_audit_keeper",
    "rm_audit_notifier",
)
_ALL = ("SELECT", "INSERT", "UPDATE", "DELETE")


def rights_part(schema: Schema, meanings: dict[str, Meaning]) -> str:
    """Return a table of roles and tables, and one of functions."""
    rows = [
        (f"`{name}`", *(_rights(schema.tables[name], role) for role in _ROLES)) for name in meanings
    ]
    functions = [
        (
            f"`{function.name}`",
            "owner" if function.as_owner else "caller",
            ", ".join(f"`{role}`" for role in function.callers) or "the owner alone",
        )
        for function in schema.functions
    ]
    return (
        markdown(("Table", *(f"`{role}`" for role in _ROLES)), rows)
        + "\n"
        + markdown(("Function", "Runs with the rights of its", "May be called by"), functions)
    )


def _rights(table: Table, role: str) -> str:
    mine = [grant for grant in table.grants if grant.role == role]
    whole = [grant.privilege for grant in mine if grant.column is None]
    if sorted(whole) == sorted(_ALL):
        return "all four"
    said = [privilege for privilege in _ALL if privilege in whole]
    said += [
        f"{privilege} ({columns})"
        for privilege in _ALL
        if (columns := _columns(table, mine, privilege))
    ]
    return ", ".join(said)


def _columns(table: Table, grants: list[Grant], privilege: str) -> str:
    """Return the columns of a column right; many are told by those that are left out."""
    granted = {g.column for g in grants if g.column is not None and g.privilege == privilege}
    if not granted:
        return ""
    missing = [column.name for column in table.columns if column.name not in granted]
    if len(missing) < len(granted):
        return "all but " + ", ".join(f"`{name}`" for name in missing)
    return ", ".join(f"`{c.name}`" for c in table.columns if c.name in granted)
