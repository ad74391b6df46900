"""The page about filters: every example in it is run, and finds what it says."""

import re
from typing import Any

import pytest
import pytest_asyncio

from docs.generate import FOLDER
from shared.errors import ExpressionInvalid
from tests.rpc.catalog.calls import Catalog
from tests.support.platform import Platform

pytestmark = pytest.mark.asyncio(loop_scope="session")

PAGE = (FOLDER / "filters.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `List(\w+)` \| `(.+?)` \|(.*)\|$", re.MULTILINE)


def rows(heading: str) -> list[tuple[str, str, str]]:
    """Return the rows of the table under a heading: list, expression, and what comes of it."""
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    return [(name, text, found.strip()) for name, text, found in ROW.findall(section)]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def catalog(platform: Platform) -> Catalog:
    return Catalog(platform)


def called(entry: Any) -> str:
    """Return what people call an entry."""
    return str(getattr(entry, "name", "") or entry.title)


@pytest.mark.parametrize(("name", "text", "expected"), rows("Examples of filters"))
async def test_a_filter_finds_what_the_page_says(
    catalog: Catalog, name: str, text: str, expected: str
) -> None:
    found = await catalog.listed(name, filter=text)
    assert ", ".join(map(called, found)) == expected


@pytest.mark.parametrize(("name", "text", "expected"), rows("Examples of orders"))
async def test_an_order_begins_as_the_page_says(
    catalog: Catalog, name: str, text: str, expected: str
) -> None:
    found = await catalog.listed(name, order_by=text)
    assert ", ".join(map(called, found)).startswith(expected)


@pytest.mark.parametrize(("name", "text", "expected"), rows("Examples of searches"))
async def test_a_search_finds_what_the_page_says(
    catalog: Catalog, name: str, text: str, expected: str
) -> None:
    found = await catalog.listed(name, query=text)
    assert ", ".join(map(called, found)) == expected


@pytest.mark.parametrize(("name", "text", "position"), rows("Examples of what is refused"))
async def test_what_the_page_calls_wrong_is_refused(
    catalog: Catalog, name: str, text: str, position: str
) -> None:
    error = await catalog.refused(f"List{name}", filter=text)
    assert isinstance(error, ExpressionInvalid)
    assert error.facts["position"] == position


@pytest.mark.parametrize(("name", "filters", "orders"), rows("Fields"))
async def test_the_page_names_every_field(
    catalog: Catalog, name: str, filters: str, orders: str
) -> None:
    for field, told in (("filter", f"`{filters}`"), ("order_by", orders)):
        asked: dict[str, Any] = {field: "nothing = 1" if field == "filter" else "nothing"}
        error = await catalog.refused(f"List{name}", **asked)
        there = error.facts["problem"].split("is not one of ")[1].split(", ")
        assert re.findall(r"`(\w+)`", told) == there


async def test_the_page_has_examples_of_every_list() -> None:
    shown = {name for name, _, _ in rows("Examples of filters")}
    assert shown == {"Teams", "Services", "Environments", "Releases", "Runbooks"}
