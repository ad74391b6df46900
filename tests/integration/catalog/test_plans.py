"""How what is asked most reaches its rows: by the index that was made for it.

The plans are those for the statements that the service really sends, with their parameters.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from benchmarks.catalog_past import COMMIT
from services.catalog.operations import releases, runbooks, services
from services.catalog.operations.releases import ReleaseChoice
from services.catalog.operations.runbooks import RunbookChoice
from services.catalog.operations.services import ServiceChoice
from services.catalog.rules.resources import ReleaseStatus
from services.catalog.store.reading import Listing
from shared.db.engine import Database
from shared.db.keyset import PageRequest
from tests.support.plans import indexes, plans_of, shown

pytestmark = pytest.mark.asyncio(loop_scope="session")

PAGE = PageRequest(50)
EPOCH_2026 = 1_767_225_600_000_000
NOBODY = "00000000-0000-0000-0000-000000000000"


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
        rows_of(filter=f'commit = "{COMMIT}"'),
        "ix_releases_commit_sha",
    ),
    "releases of a person": (rows_of(filter='created_by = "user-9"'), "ix_releases_created_by"),
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
    "services of a person": (services_of(owner="user-9"), "ix_services_owner_id"),
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
async def test_rows_are_reached_by_the_index_made_for_it(filled: Database, name: str) -> None:
    read, index = READS[name]
    plans = await plans_of(filled, lambda: read(filled))
    used = indexes(plans)
    assert any(index in one for one in used), shown(plans)
