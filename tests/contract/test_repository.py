"""What the repository promises about its own files."""

import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GENERATED = re.compile(r"_pb2(_grpc)?\.pyi?$")
CODE = ("services", "shared", "seed", "migrations")
LONGEST_FILE = 350
# One revision is one capability, whose SQL is not spread over files.
MAY_BE_LONGER = ("migrations/versions/",)
# Names that say where something was put, and not what it is.
NAMELESS = {
    *("base", "common", "core", "helper", "helpers", "manager", "managers", "misc", "util", "utils")
}
TEXT = {".cfg", ".json", ".md", ".proto", ".py", ".sh", ".sql", ".toml", ".txt", ".yaml", ".yml"}
# Spelled in parts, so that this file does not find itself.
UNFINISHED = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|X" + r"XX|HA" + r"CK)\b")
OF_ONE_MACHINE = re.compile(r"/(?:home|Users|work|root)/(?!\.)[\w.-]+|\b[A-Z]:\\\\?Users\\")
LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)[^)]*\)")


def _files() -> list[Path]:
    """Return what git keeps or would keep, or without git every file but those of tools."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listing.returncode == 0:
        found = [ROOT / name for name in listing.stdout.split("\0") if name]
    else:
        hidden = re.compile(r"^\.(?!ci|env\.|docker|editor|git\w)")
        found = [
            path
            for path in ROOT.rglob("*")
            if not any(hidden.search(part) for part in path.relative_to(ROOT).parts)
        ]
    return sorted(path for path in found if path.is_file())


FILES = _files()
OURS = [path for path in FILES if not GENERATED.search(path.name) and "protos/buf" not in str(path)]
PYTHON = [path for path in OURS if path.suffix == ".py"]
TEXTS = [
    path for path in OURS if path.suffix in TEXT or path.name in {"Makefile", "Dockerfile", "run"}
]
DOCUMENTS = [path for path in OURS if path.suffix == ".md"]


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _lines_with(pattern: re.Pattern[str], paths: list[Path]) -> Iterator[str]:
    for path in paths:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if pattern.search(line):
                yield f"{_name(path)}:{number}: {line.strip()}"


def test_no_file_is_too_long_to_read_at_once() -> None:
    code = [path for path in PYTHON if _name(path).startswith(CODE)]

    long = {
        _name(path): lines
        for path in code
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > LONGEST_FILE
        and not _name(path).startswith(MAY_BE_LONGER)
    }

    assert not long


def test_every_module_is_named_by_what_it_holds() -> None:
    parts = {
        _name(path)
        for path in PYTHON
        for part in (path.stem, *path.relative_to(ROOT).parts[:-1])
        if NAMELESS & set(part.split("_"))
    }

    assert not parts


def test_nothing_is_left_for_later() -> None:
    assert not list(_lines_with(UNFINISHED, TEXTS))


def test_nothing_knows_where_the_project_lies() -> None:
    assert not list(_lines_with(OF_ONE_MACHINE, TEXTS))


@pytest.mark.parametrize("document", DOCUMENTS, ids=_name)
def test_every_relative_link_leads_to_a_file(document: Path) -> None:
    text = re.sub(r"```.*?```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = {match["target"].partition("#")[0] for match in LINK.finditer(text)}

    relative = {target for target in targets if target and "://" not in target}

    assert not {target for target in relative if not (document.parent / target).exists()}


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock"])
def test_a_lock_pins_every_package_with_hashes_and_names_no_place(lock: str) -> None:
    text = (ROOT / lock).read_text(encoding="utf-8")
    entries = re.split(r"\n(?=\w)", re.sub(r"^\s*#.*\n?", "", text, flags=re.MULTILINE))

    loose = [e.split("\n")[0] for e in entries if "==" not in e or "--hash=sha256:" not in e]

    assert not loose
    assert not re.search(r"://|^-|\bfile:|(?<!\w)/\w", text, flags=re.MULTILINE)


def test_the_locks_hold_what_pyproject_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    groups = project["dependency-groups"]
    wanted = {
        "requirements.lock": [*project["project"]["dependencies"], *groups["build"]],
        "requirements-dev.lock": groups["dev"],
    }

    for lock, requirements in wanted.items():
        pinned = re.findall(r"^([\w.-]+)==", (ROOT / lock).read_text(), flags=re.MULTILINE)
        names = [re.split(r"[\[<>=~!;]", item)[0] for item in requirements]
        assert {_normal(name) for name in names} <= {_normal(name) for name in pinned}


def test_both_locks_pin_the_same_versions() -> None:
    runtime, development = (
        dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / lock).read_text(), flags=re.MULTILINE))
        for lock in ("requirements.lock", "requirements-dev.lock")
    )

    assert runtime.items() <= development.items()


def test_the_packages_of_our_own_code_are_not_mocked() -> None:
    mocks = re.compile(r"^\s*(?:from|import) (?:unittest\.mock|unittest import mock|mock)\b")

    assert not list(_lines_with(mocks, PYTHON))


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
