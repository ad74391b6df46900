"""No input becomes SQL (OWASP ASVS 1.2.4).

Expressions, orders and searches of all lists get strings that would change a statement if they
became part of one. What counts is PostgreSQL's own log: not one statement that it could not parse
or understand (SQLSTATE class 42). Statements are built in one way only, which ruff checks (S608);
the places that it cannot judge are listed here with their number.
"""

import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import pytest
import pytest_asyncio
from google.protobuf import message_factory

from shared.setting_values import driver_url
from tests.support.database import Databases
from tests.support.platform import Platform, product_methods, running_platform
from tests.support.raw_calls import some_at_a_time
from tests.support.rows import RECORDS, changed, fingerprints

pytestmark = pytest.mark.asyncio(loop_scope="session")

ROOT = Path(__file__).resolve().parents[2]
CODES = {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND}
SEARCHED = ("filter", "order_by", "query", "tag", "action", "resource_type", "resource_id", "name")
PAYLOADS = (
    *("'", '"', "''", "\\'", "';", "--", "/*", "*/", "$1", ":name", "%s", "%(x)s", "{}", "{0}"),
    *("' OR 1=1--", "' OR 'a'='a", "') OR ('1'='1", '" OR ""="', "1; DROP TABLE users--"),
    *(
        "'; SELECT pg_sleep(5)--",
        "' UNION SELECT password_hash FROM users--",
        "x' AND 1=(SELECT 1)--",
    ),
    *("name; SELECT 1", "name, (SELECT 1)", "name DESC; --", "(CASE WHEN 1=1 THEN name END)"),
    *("pg_sleep(1)", "name::int", "name COLLATE x", "name NULLS", "1", "users.password_hash"),
    *("$$x$$", "E'\\x41'", "U&'\\0041'", "\\", "%", "_", "%27", "&#39;", "\u02bc", "\uff07"),
    *("name = ''' OR 1=1 --'", 'name = "\'; DROP TABLE teams; --"', "name:\"' OR '1'='1\""),
    *('name = "\\"', 'name = "%\\\\" OR name != "x"', "NOT name = \"'\" AND name = '\"'"),
)
UNREADABLE = re.compile(r"\b42[0-9A-Z]{3}:|syntax error|does not exist|PANIC|FATAL:  XX")
# Each has the reason beside it: places for values, names of columns, a number.
UNJUDGED = {
    "services/audit/store/appending.py": 2,
    "services/audit/store/export_queries.py": 1,
    "services/audit/store/plain_rows.py": 1,
    "services/audit/store/retention.py": 2,
    "services/audit/store/trees.py": 1,
}
LEAST_REQUESTS = 900


@dataclass
class Searched:
    """The running product, and what PostgreSQL has complained about since it started."""

    platform: Platform
    owner: Any
    complaints: Callable[[], list[str]]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def searched(databases: Databases) -> AsyncIterator[Searched]:
    with databases.fresh(seeded=True) as url:
        owner = await asyncpg.connect(driver_url(url))
        log = Path(await owner.fetchval("SHOW data_directory")).parent / "postgres.log"
        if not log.is_file():
            await owner.close()
            pytest.skip("the log of a PostgreSQL that was not started here is somebody else's")
        name = await owner.fetchval("SELECT current_database()")
        await owner.execute(f'ALTER DATABASE "{name}" SET log_error_verbosity = verbose')
        begun = log.stat().st_size
        async with running_platform(url) as platform:

            def complaints() -> list[str]:
                with log.open(errors="replace") as file:
                    file.seek(begun)
                    return [line for line in file if UNREADABLE.search(line)]

            yield Searched(platform, owner, complaints)
        await owner.close()


def requests() -> list[tuple[str, Any]]:
    """Return a request for each list, each field that is searched by, and each payload."""
    found = []
    for method, described in sorted(product_methods().items()):
        for field in described.input_type.fields:
            message: Any = message_factory.GetMessageClass(described.input_type)
            if "page_token" not in described.input_type.fields_by_name:
                continue
            inner = field.message_type
            if field.name in SEARCHED and inner is None and not field.is_repeated:
                found += [(method, message(**{field.name: payload})) for payload in PAYLOADS]
            elif inner is not None and field.name == "filter":
                found += [
                    (method, message(filter={one.name: payload}))
                    for one in inner.fields
                    if one.name in SEARCHED
                    for payload in PAYLOADS
                ]
    return found


async def test_what_is_searched_for_never_becomes_a_statement(searched: Searched) -> None:
    platform, tried = searched.platform, requests()
    assert len(tried) >= LEAST_REQUESTS
    admin = await platform.person("admin")
    before = await fingerprints(platform.database_url, without=RECORDS)
    answers = await some_at_a_time(platform.ask(method, asked, admin) for method, asked in tried)
    for (method, asked), answer in zip(tried, answers, strict=True):
        assert answer.code in CODES, f"{method} {asked}: {answer}"
    after = await fingerprints(platform.database_url, without=RECORDS)
    assert changed(before, after) == {}
    assert searched.complaints() == []
    assert platform.errors == []


async def test_an_order_that_is_none_is_refused(searched: Searched) -> None:
    admin = await searched.platform.person("admin")
    orders = [(m, asked) for m, asked in requests() if getattr(asked, "order_by", "")]
    assert orders
    for method, asked in orders:
        answer = await searched.platform.ask(method, asked, admin)
        assert answer.code is grpc.StatusCode.INVALID_ARGUMENT, f"{method} {asked}: {answer}"


async def test_a_statement_that_cannot_be_read_would_be_noticed(searched: Searched) -> None:
    for number, statement in enumerate(("SELEC 1", "SELECT no_such_column FROM users"), start=1):
        known = len(searched.complaints())
        other = await asyncpg.connect(driver_url(searched.platform.database_url))
        with pytest.raises(asyncpg.PostgresError):
            await other.fetch(statement)
        await other.close()
        assert len(searched.complaints()) > known, number


async def test_statements_that_no_tool_can_judge_are_known() -> None:
    found = {
        path.relative_to(ROOT).as_posix(): count
        for folder in ("services", "shared")
        for path in (ROOT / folder).rglob("*.py")
        if (count := path.read_text().count("noqa: S608"))
    }
    assert found == UNJUDGED
    rules = (ROOT / "pyproject.toml").read_text().partition("[tool.ruff.lint.per-file-ignores]")
    assert 'select = ["ALL"]' in rules[0]
    assert "S608" not in rules[0]
    assert not re.search(r'"(services|shared)[^"]*" = \[[^\]]*S608', rules[2])
