"""How every list of the catalog service reaches its rows: by an index, whatever it is asked for.

The plans are those of the statements that the service really sends, for the first page and for the
one after it, made with as many rows as are promised for. What is asked is what `benchmarks.lists`
measures; nothing that a list can be asked for may be missing there.
"""

import re
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from benchmarks.list_kinds import CATALOG, IDENTITY, MODULES, Kind, kinds
from services.catalog.operations.sessions import Sessions
from services.catalog.servicer import CatalogServicer
from services.catalog.servicer_identity import IdentityServicer
from shared.db.engine import Database
from shared.errors import ExpressionInvalid
from shared.identity.access_tokens import AccessTokens
from shared.identity.actor import Actor, Call, Role, current_call
from shared.identity.keys import ensure_keys
from shared.identity.passwords import Passwords
from shared.ids import new_id
from shared.paging import PageTokens
from shared.rpc.pages import Paging
from tests.support.plans import Node, plans_of, scanned, shown

pytestmark = pytest.mark.asyncio(loop_scope="session")

# The table of what is listed. What is joined to it is reached by whatever way is cheapest.
LISTED = {
    "ListTeams": "teams",
    "ListServices": "services",
    "ListEnvironments": "environments",
    "ListReleases": "releases",
    "ListRunbooks": "runbooks",
    "ListRunbookVersions": "runbook_versions",
    "ListRunbookExecutions": "runbook_executions",
    "ListUsers": "users",
    "ListSessions": "sessions",
    "ListServiceAccounts": "service_accounts",
    "ListApiTokens": "api_tokens",
}
# What says how a list is asked for, and not for what.
HOW = {"page_size", "page_token", "filter", "order_by"}
# The conditions of its index are those of the node below.
BY_BITMAP = "Bitmap Heap Scan"
KINDS = list(kinds())
LISTS = [
    f"/{service}/{method.name}"
    for service, module in MODULES.items()
    for method in module.DESCRIPTOR.services_by_name[service.rpartition(".")[2]].methods
    if method.name.startswith("List")
]


class Lists:
    """The servicers of the catalog process, called by an admin."""

    def __init__(self, database: Database, directory: Path) -> None:
        self.database = database
        self._actor = Actor(new_id(), "somebody", Role.ADMIN)
        keys = ensure_keys(directory)
        paging = Paging(PageTokens(keys.hmac))
        # Nothing is changed, and so nothing delivered.
        no_changes: Any = None
        lifetime = timedelta(days=30)
        sessions = Sessions(AccessTokens(keys, lifetime), lifetime)
        self._passwords = Passwords(4)
        self._servicers = {
            CATALOG: CatalogServicer(database, no_changes, paging, no_changes),
            IDENTITY: IdentityServicer(
                database, no_changes, paging, passwords=self._passwords, sessions=sessions
            ),
        }

    async def page(self, method: str, request: Any) -> Any:
        """Return a page."""
        current_call.set(Call(method, "", actor=self._actor))
        _, service, rpc = method.split("/")
        return await getattr(self._servicers[service], rpc)(request, None)

    def close(self) -> None:
        """End what runs beside."""
        self._passwords.close()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def lists(filled: Database, tmp_path_factory: pytest.TempPathFactory) -> Any:
    made = Lists(filled, tmp_path_factory.mktemp("keys"))
    yield made
    made.close()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
async def test_every_page_of_a_list_is_reached_by_an_index(lists: Lists, kind: Kind) -> None:
    request: Any = kind.request
    for _ in ("the first page", "the one after it"):
        answers: list[Any] = []

        async def read(asked: Any = request, into: list[Any] = answers) -> None:
            into.append(await lists.page(kind.method, asked))

        plans = await plans_of(lists.database, read)
        assert is_bounded(plans, LISTED[kind.rpc]), shown(plans)
        if not answers[0].next_page_token:
            break
        request = kind.later(answers[0].next_page_token)


def is_bounded(plans: Sequence[Node], table: str) -> bool:
    """Say whether the rows of a table are reached by an index that says which ones, or in order.

    In order means that nothing sorts what was found, so that reading ends with the page.
    """
    mine = [node for node in plans if node.get("Relation Name") == table]
    narrowed = all("Index Cond" in node or node["Node Type"] == BY_BITMAP for node in mine)
    in_order = not any(node["Node Type"] == "Sort" for node in plans)
    return bool(mine) and table not in scanned(plans) and (narrowed or in_order)


def of(method: str) -> Iterator[Any]:
    """Yield the requests of a list that are looked at."""
    return (kind.request for kind in KINDS if kind.method == method)


@pytest.mark.parametrize("method", LISTS)
async def test_every_list_is_looked_at_by_each_of_its_fields(method: str) -> None:
    descriptor = next(of(method)).DESCRIPTOR
    asked = {field.name for request in of(method) for field, _ in request.ListFields()}
    assert {field.name for field in descriptor.fields} - HOW == asked - HOW


@pytest.mark.parametrize("method", LISTS)
async def test_every_filter_and_order_of_a_list_is_looked_at(lists: Lists, method: str) -> None:
    first = next(of(method))
    for name in {"filter", "order_by"} & set(first.DESCRIPTOR.fields_by_name):
        request = type(first)(**{name: "nothing = 1" if name == "filter" else "nothing"})
        with pytest.raises(ExpressionInvalid) as refused:
            await lists.page(method, request)
        known = str(refused.value.facts["problem"]).split("is not one of ")[1].split(", ")
        expressions = [getattr(request, name) for request in of(method)]
        if name == "filter":
            compared = re.compile(r"\b([a-z_]+)(?:\.\w+)? ?(?:[<>=:]|!=)")
            asked = {found for one in expressions for found in compared.findall(one)}
            assert set(known) <= asked
        else:
            directions = {f"{field}{way}" for field in known for way in ("", " desc")}
            assert directions <= set(expressions)
