"""The manuals say what is so: generated parts, links, settings, programs and SQL."""

import importlib.util
import re
from importlib.resources import files
from pathlib import Path

import asyncpg
import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from docs.generate import FOLDER
from docs.generator.blocks import changed_pages
from docs.generator.parts import read_parts
from services.catalog.store import versions as catalog
from services.deployment.store import versions as deployment
from shared.rpc.status import errors_by_reason
from shared.setting_values import driver_url
from shared.settings import example
from tests.contract.test_repository import DOCUMENTS
from tests.support.database import PROJECT

SETTINGS = {line.partition("=")[0] for line in example().splitlines() if "=" in line}


def texts() -> list[str]:
    """Return the text of each page outside of the generated parts."""
    generated = re.compile(r"<!-- generated: .*?<!-- end -->", re.DOTALL)
    return [generated.sub("", page.read_text(encoding="utf-8")) for page in DOCUMENTS]


def scripts() -> dict[str, list[str]]:
    """Return the SQL statements of the manuals by the heading they stand under."""
    found: dict[str, list[str]] = {}
    for page in sorted(FOLDER.glob("*.md")):
        for section in re.split(r"^##+ ", page.read_text(encoding="utf-8"), flags=re.MULTILINE):
            blocks = re.findall(r"^```sql\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
            statements = [part.strip() for part in "\n".join(blocks).split(";\n")]
            if blocks:
                found[section.split("\n")[0]] = [part for part in statements if part]
    return found


def anchors(page: Path) -> set[str]:
    """Return the anchors of the headings of a page, as the common forges make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in headings}


SCRIPTS = scripts()


def enum_values() -> set[str]:
    """Return the names of the values of all enums of the contract."""
    raw = files("release_manager").joinpath("descriptors.binpb").read_bytes()
    enums = (enum for file in FileDescriptorSet.FromString(raw).file for enum in file.enum_type)
    return {value.name for enum in enums for value in enum.value}


async def test_generated_parts_are_in_step(database_url: str) -> None:
    parts = await read_parts(database_url)
    stale = [path.name for path in changed_pages(FOLDER, parts)]
    assert stale == [], "run `python -m docs.generate`"


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: str(page.relative_to(PROJECT)))
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    dead = []
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        reached = target.exists() and (not anchor or anchor in anchors(target))
        if not reached:
            dead.append(link)
    assert dead == []


def test_every_program_that_is_named_exists() -> None:
    named = {m for text in texts() for m in re.findall(r"python -m ([a-z_.]+[a-z_])", text)}
    assert named
    missing = {name for name in named if importlib.util.find_spec(name) is None}
    assert missing == set()


def test_every_setting_that_is_named_exists() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in FOLDER.glob("*.md"))
    words = set(re.findall(r"`([A-Z]+(?:_[A-Z]+)+)(?:=[^`]*)?`", text))
    codes = {code.name for code in grpc.StatusCode} | {"NOT_SERVING"}
    assert words - codes - enum_values() - set(errors_by_reason()) - SETTINGS == set()


def test_every_event_of_the_log_is_explained() -> None:
    code = "\n".join(
        path.read_text(encoding="utf-8")
        for folder in ("services", "shared")
        for path in (PROJECT / folder).rglob("*.py")
    )
    logged = set(re.findall(r"\b_?log\.(?:info|warning|error|exception)\(\s*\"(\w+)\"", code))
    page = (FOLDER / "operations.md").read_text(encoding="utf-8")
    assert len(logged) > 40
    assert {name for name in logged if f"`{name}`" not in page} == set()


@pytest.mark.parametrize("heading", SCRIPTS)
async def test_every_statement_runs_on_a_seeded_database(
    seeded_database_url: str, heading: str
) -> None:
    connection = await asyncpg.connect(driver_url(seeded_database_url))
    try:
        for statement in SCRIPTS[heading]:
            await connection.fetch(statement)
    finally:
        await connection.close()


def test_the_check_of_versions_knows_every_kind_of_aggregate() -> None:
    (statement,) = SCRIPTS["Whether every change has its entry"]
    kinds = set(re.findall(r"SELECT '(\w+)'(?: AS producer)?, '(\w+):' \|\|", statement))
    assert kinds == {("catalog", kind) for kind in catalog.AGGREGATES} | {
        ("deployment", kind) for kind in deployment.RECORDED
    }


async def test_the_seeded_ledger_passes_the_documented_checks(seeded_database_url: str) -> None:
    connection = await asyncpg.connect(driver_url(seeded_database_url))
    try:
        order, leaves = [await connection.fetch(s) for s in SCRIPTS["Checking the ledger"]]
        (versions,) = SCRIPTS["Whether every change has its entry"]
        missing = await connection.fetch(versions)
    finally:
        await connection.close()
    assert [tuple(row) for row in order] == [(True, True)]
    assert (leaves, missing) == ([], [])
