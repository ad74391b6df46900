"""Who may import what, where import-linter's contracts in pyproject.toml cannot say it.

Those say what is forbidden; these say what alone is allowed, so a new module has no freedom that
nobody gave it.
"""

import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WIRE = {
    *("buf", "google", "protovalidate", "release_manager"),
    *("grpc", "grpc_health", "grpc_reflection", "grpc_status"),
}
# The log blanks what a proto marks as sensitive; a page token is bound to its request.
MAY_SPEAK_WIRE = re.compile(
    r"""services/\w+/(app\.py|paging\.py|servicer\w*(\.py|/)|messages\w*(\.py|/))
    |shared/rpc/
    |shared/outbox/
    |shared/identity/access\.py
    |shared/log\.py""",
    re.VERBOSE,
)
# The encoding of an entry's details is RFC 8785, which a library knows; ids carry their time.
# Canonical JSON and signatures are computed, like hashes; they reach for nothing.
PURE = {
    *("shared.domain_error", "shared.errors", "shared.identity.actor", "shared.ids"),
    *("shared.merkle.checkpoint", "shared.merkle.note", "shared.merkle.tree"),
    *("rfc8785", "cryptography.exceptions", "cryptography.hazmat.primitives.asymmetric.ed25519"),
}
# Operations of the catalog name the table of a new row and leave the statement to the store.
MAY_USE_MODELS = re.compile(
    r"""services/\w+/store(\.py|/)
    |services/catalog/operations/
    |shared/(db|identity|outbox)/""",
    re.VERBOSE,
)
MAY_COMMIT = re.compile(r"migrations/env\.py")


def _modules(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _imports(path: Path) -> set[str]:
    """Return the modules a file imports, `a.b` and `a.b.c` for `from a.b import c`."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _is_within(module: str, allowed: set[str]) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in allowed)


def test_only_wire_modules_know_grpc_and_generated_code() -> None:
    others = [
        path
        for path in _modules("services", "shared", "seed")
        if not MAY_SPEAK_WIRE.match(_name(path))
    ]

    speaking = {
        _name(path): sorted(wire)
        for path in others
        if (wire := {name for name in _imports(path) if name.partition(".")[0] in WIRE})
    }

    assert not speaking


def test_rules_know_nothing_but_python_and_the_errors() -> None:
    impure = {}
    for path in (ROOT / "services").glob("*/rules/**/*.py"):
        own = ".".join(path.relative_to(ROOT).parts[:3])
        strange = {
            name
            for name in _imports(path)
            if name.partition(".")[0] not in sys.stdlib_module_names
            and not _is_within(name, PURE | {own})
        }
        if strange:
            impure[_name(path)] = sorted(strange)

    assert not impure


def test_only_a_store_touches_the_tables() -> None:
    touching = {
        _name(path)
        for path in _modules("services", "shared")
        if any(_is_within(name, {"shared.db.models"}) for name in _imports(path))
    }

    assert not {name for name in touching if not MAY_USE_MODELS.match(name)}


def test_nobody_commits_by_hand() -> None:
    calls = {
        f"{_name(path)}:{node.lineno}"
        for path in _modules("services", "shared", "migrations", "seed")
        if not MAY_COMMIT.match(_name(path))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "commit"
    }

    assert not calls


def test_only_the_edge_ends_a_call_with_a_status() -> None:
    calls = {
        f"{_name(path)}:{node.lineno}"
        for path in _modules("services", "shared")
        if not _name(path).startswith("shared/rpc/")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in {"abort", "abort_with_status", "set_code"}
    }

    assert not calls
