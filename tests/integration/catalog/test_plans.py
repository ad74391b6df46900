"""How lists and look-ups reach their rows: by an index, whatever is asked for, never all of them.

The plans are those for the statements that the service really sends, with their parameters.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from sqlalchemy import event

from services.catalog.operations import releases, runbooks, services
from services.catalog.operations.releases import ReleaseChoice
from services.catalog.operations.runbooks import RunbookChoice
from services.catalog.operations.services import ServiceChoice
from services.catalog.rules.resources import ReleaseStatus
from services.catalog.store.reading import Listing
from shared.db.engine import Database
from shared.db.keyset import PageRequest
from shared.setting_values import driver_url
from tests.support.database import Databases

pytestmark = pytest.mark.asyncio(loop_scope="session")

# As many as an installation has after years; the plans are made for these.
PEOPLE, SERVICES, VERSIONS = 5_000, 1_000, 50
FILL = f"""
INSERT INTO teams (id, name)
SELECT gen_random_uuid(), 'team-' || n FROM generate_series(1, 50) AS n;

INSERT INTO users (id, team_id, username, email, role, password_hash)
SELECT gen_random_uuid(), t.id, 'person-' || n, 'person-' || n || '@example.com', 'developer',
    'none'
FROM generate_series(1, {PEOPLE}) AS n JOIN teams t ON t.name = 'team-' || n % 50 + 1;

INSERT INTO services (id, team_id, owner_id, name, description, labels)
SELECT gen_random_uuid(), u.team_id, u.id, 'service-' || n,
    'It does thing ' || n % 400 || ' for everybody, and word' || n || ' for some',
    jsonb_build_object('lang', 'l' || n % 50)
FROM generate_series(1, {SERVICES}) AS n JOIN users u ON u.username = 'person-' || n;

INSERT INTO releases (id, service_id, created_by, authors, version, commit_sha, artifact_digest,
    status, published_at, created_at, updated_at)
SELECT gen_random_uuid(), s.id, s.owner_id, ARRAY[s.owner_id], '1.' || v || '.0',
    md5(s.name || v), 'sha256:0', CASE v WHEN 1 THEN 'abandoned' ELSE 'published' END, at, at, at
FROM services s CROSS JOIN generate_series(1, {VERSIONS}) AS v,
    LATERAL (SELECT now() - v * interval '1 day' - hashtext(s.name) * interval '1 ms') AS m (at);

INSERT INTO runbooks (id, service_id, created_by, title, content, tags)
SELECT gen_random_uuid(), s.id, s.owner_id, 'Runbook ' || n || ' of ' || s.name,
    'Look at word' || n || ' of ' || s.name, jsonb_build_array('tag' || n)
FROM services s CROSS JOIN generate_series(1, 5) AS n;
"""
# What is listed. The names of people and teams are joined to it, by whatever way is cheapest.
LISTED = {"releases", "services", "runbooks"}
PAGE = PageRequest(50)
EPOCH_2026 = 1_767_225_600_000_000
NOBODY = "00000000-0000-0000-0000-000000000000"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def filled(databases: Databases) -> AsyncIterator[Database]:
    """Connections as the service has them, to a database with years in it."""
    with databases.fresh() as url:
        owner = await asyncpg.connect(driver_url(url))
        await owner.execute(FILL)
        await owner.execute("VACUUM ANALYZE")
        await owner.close()
        database = Database(url, role="rm_catalog", application_name="test plans")
        yield database
        await database.close()


def rows_of(**asked: Any) -> Callable[[Database], Awaitable[Any]]:
    """Return a list of releases."""
    choice = ReleaseChoice(asked.pop("service", ""), asked.pop("status", None))
    at = asked.pop("at", PAGE)
    return lambda db: releases.page(db, choice, Listing(**asked), at)


def services_of(**asked: Any) -> Callable[[Database], Awaitable[Any]]:
    """Return a list of services."""
    choice = ServiceChoice(asked.pop("team", ""), asked.pop("owner", ""))
    at = asked.pop("at", PAGE)
    return lambda db: services.page(db, choice, Listing(**asked), at)


def runbooks_of(**asked: Any) -> Callable[[Database], Awaitable[Any]]:
    """Return a list of runbooks."""
    choice = RunbookChoice(asked.pop("service", ""), "", asked.pop("tag", ""))
    at = asked.pop("at", PAGE)
    return lambda db: runbooks.page(db, choice, Listing(**asked), at)


# What is asked for, and the index that leads to the rows.
READS: dict[str, tuple[Callable[[Database], Awaitable[Any]], str]] = {
    "releases": (rows_of(), "ix_releases_created_at"),
    "releases, a later page": (
        rows_of(at=PageRequest(50, (EPOCH_2026, NOBODY))),
        "ix_releases_created_at",
    ),
    "releases by change": (rows_of(order_by="updated_at desc"), "ix_releases_updated_at"),
    "releases by version": (rows_of(order_by="version desc"), "ix_releases_version_key"),
    "releases by publication": (
        rows_of(order_by="published_at desc"),
        "ix_releases_published_at",
    ),
    "releases in two directions": (
        rows_of(order_by="version desc, created_at"),
        "ix_releases_version_key",
    ),
    "releases of a service": (
        rows_of(service="service-7", order_by="version"),
        "ix_releases_service_id_version_key",
    ),
    "releases of a service, a later page": (
        rows_of(service="service-7", order_by="version", at=PageRequest(50, ("1c0011", NOBODY))),
        "ix_releases_service_id",
    ),
    "releases of a service that a filter names": (
        rows_of(filter='service = "service-7"'),
        "releases_service_id",
    ),
    "releases of a commit": (
        rows_of(filter='commit = "c4ca4238a0b923820dcc509a6f75849b"'),
        "ix_releases_commit_sha",
    ),
    "releases of a person": (rows_of(filter='created_by = "person-9"'), "ix_releases_created_by"),
    "releases in a status": (rows_of(status=ReleaseStatus.DRAFT), "ix_releases_status"),
    "several releases": (
        lambda db: releases.each(db, [f"service-{n}@1.{n % 50 + 1}.0" for n in range(1, 101)]),
        "releases_service_id",
    ),
    "a comparison": (
        lambda db: releases.compare(db, "service-7@1.2.0", "service-7@1.40.0"),
        "ix_releases_service_id_version_key",
    ),
    "services": (services_of(), "uq_services_name"),
    "services, a later page": (
        services_of(at=PageRequest(50, ("service-500", NOBODY))),
        "uq_services_name",
    ),
    "services of a team": (services_of(team="team-3"), "ix_services_team_id"),
    "services of a person": (services_of(owner="person-9"), "ix_services_owner_id"),
    "services by words": (services_of(query="word77"), "ix_services_words"),
    "services with a label": (services_of(filter='labels.lang = "l7"'), "ix_services_labels"),
    "several services": (
        lambda db: services.each(db, [f"service-{n}" for n in range(1, 30)]),
        "uq_services_name",
    ),
    "runbooks": (runbooks_of(), "ix_runbooks_lower_title"),
    "runbooks by words": (runbooks_of(query='"service 77"'), "ix_runbooks_words"),
    "runbooks of a service": (runbooks_of(service="service-7"), "uq_runbooks_service_id_title"),
}


@pytest.mark.parametrize("name", READS)
async def test_rows_are_reached_by_an_index(filled: Database, name: str) -> None:
    read, index = READS[name]
    plans = await explained(filled, read)
    scanned = [node["Relation Name"] for node in plans if node["Node Type"] == "Seq Scan"]
    assert not LISTED & set(scanned), shown(plans)
    used = {str(node["Index Name"]) for node in plans if "Index Name" in node}
    assert any(index in one for one in used), used


def shown(plans: list[dict[str, Any]]) -> str:
    """Return what matters of plans, a line for each node."""
    told = ("Node Type", "Relation Name", "Index Name", "Index Cond", "Filter", "Plan Rows")
    lines = [" | ".join(str(node[name]) for name in told if name in node) for node in plans]
    return "\n".join(lines)


async def explained(
    database: Database, read: Callable[[Database], Awaitable[Any]]
) -> list[dict[str, Any]]:
    """Return the nodes of the plans of every statement that a read sends."""
    sent: list[tuple[str, Any]] = []

    def note(*given: Any) -> None:
        sent.append((given[2], given[3]))

    listened = (database.engine.sync_engine, "before_cursor_execute", note)
    event.listen(*listened)
    try:
        await read(database)
    finally:
        event.remove(*listened)
    found: list[dict[str, Any]] = []
    async with database.transaction() as tx:
        driver: Any = (await tx.get_raw_connection()).driver_connection
        for statement, parameters in sent:
            answer = await driver.fetchval(f"EXPLAIN (FORMAT JSON) {statement}", *parameters)
            made = json.loads(answer) if isinstance(answer, str) else answer
            found += nodes(made[0]["Plan"])
    return found


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a plan and all plans in it."""
    yield {name: value for name, value in plan.items() if name != "Plans"}
    for child in plan.get("Plans", ()):
        yield from nodes(child)
