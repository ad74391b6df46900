"""How the lists of deployments, approvals and rollbacks reach their rows, whatever is asked for.

The plans are those of the statements that the service sends for the first page and for the one
after it. Every filter and order that a list takes is looked at.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
from google.protobuf.message import Message
from release_manager.deployment.v1 import deployment_pb2 as pb

from benchmarks.board_past import DEPLOYMENT
from benchmarks.catalog_past import id_of
from services.deployment import messages_requests as commands
from services.deployment.operations import inspect
from services.deployment.store.fields import APPROVALS, DEPLOYMENTS, ROLLBACKS
from shared.db.engine import Database
from shared.db.filtering import Fields
from shared.db.keyset import Page, PageRequest
from tests.support.plans import Node, plans_of, scanned, shown

pytestmark = pytest.mark.asyncio(loop_scope="session")

MOMENT = ('{field} > "2026-08-01T00:00:00Z"', '{field} < "2026-01-20T00:00:00Z"')
SPAN = ('{field} > "2026-05-01T00:00:00Z" AND {field} < "2026-05-02T00:00:00Z"',)
NAMED: Mapping[str, tuple[str, ...]] = {
    "service": ('service = "service-7"', 'service : "77"', f'service = "{id_of("service-7")}"'),
    "team": ("team = team-3", "team = nobody", f'team = "{id_of("team-3")}"'),
    "environment": ("environment = place-3", "environment != place-3"),
    "environment_type": ("environment_type = PROD", "environment_type != PROD"),
}
FILTERS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "deployments": {
        **NAMED,
        "release": (
            *('release = "service-7@1.3.0"', 'release = "service-7@9.9.9"'),
            f'release = "{id_of("release-7-3")}"',
        ),
        "digest": ('digest = "sha256:nothing"', 'digest : "77"'),
        "deployed_by": ("deployed_by = user-9", "deployed_by = nobody"),
        "status": ("status = FAILED OR status = CANCELLED", "status = PENDING", "status != FAILED"),
        "kind": ("kind = ROLLBACK", "kind != ROLLBACK"),
        "failure_class": ("failure_class = ERRORED", "failure_class = FAILED"),
        "failure_cause": ("failure_cause = STAGE_FAILED",),
        "rollback_of": (f'rollback_of = "{DEPLOYMENT}"', "rollback_of:*"),
        "rolled_back_by": (f'rolled_back_by = "{DEPLOYMENT}"', "NOT rolled_back_by:*"),
        "superseded_by": (f'superseded_by = "{DEPLOYMENT}"', "superseded_by:*"),
        "deployed_at": (*MOMENT, *SPAN),
        "started_at": (*MOMENT, *SPAN, "NOT {field}:*"),
        "completed_at": (*MOMENT, *SPAN, "NOT {field}:*"),
        "created_at": (*MOMENT, *SPAN),
    },
    "approvals": {
        "deployment": (f'deployment = "{DEPLOYMENT}"',),
        "approver": ("approver = user-9", "approver = nobody"),
        "status": ("status = PENDING", "status = APPROVED"),
        "service": NAMED["service"],
        "environment": NAMED["environment"],
        "decided_at": (*MOMENT, "NOT {field}:*"),
        "created_at": MOMENT,
    },
    "rollbacks": {
        **NAMED,
        "deployment": (f'deployment = "{DEPLOYMENT}"',),
        "status": ("status = FAILED", "status = COMPLETED"),
        "initiated_by": ("initiated_by = user-9", "initiated_by = nobody"),
        "completed_at": (*MOMENT, "NOT {field}:*"),
        "created_at": MOMENT,
    },
}
ORDERS = {
    "deployments": ("deployed_at", "created_at", "started_at", "completed_at"),
    "approvals": ("created_at",),
    "rollbacks": ("created_at",),
}
# Indexes of only those rows that are asked for.
PARTIAL = {
    f"ix_deployments_{name}"
    for name in ("rollback_of", "rolled_back_by", "superseded_by", "failures")
}
JOINED = (
    'status = FAILED AND environment_type = PROD AND service = "service-7"',
    'status = PENDING AND team = "team-3"',
)
LISTS: Mapping[str, tuple[type[Message], Any, Any, Fields]] = {
    "deployments": (
        *(pb.ListDeploymentsRequest, commands.deployments, inspect.deployments, DEPLOYMENTS),
    ),
    "approvals": (*(pb.ListApprovalsRequest, commands.approvals, inspect.approvals, APPROVALS),),
    "rollbacks": (*(pb.ListRollbacksRequest, commands.rollbacks, inspect.rollbacks, ROLLBACKS),),
}


def kinds() -> Iterator[tuple[str, Mapping[str, str]]]:
    """Yield everything that is asked of a list: nothing, each filter, each order, some together."""
    for table, fields in FILTERS.items():
        yield table, {}
        for field, filters in fields.items():
            for one in filters:
                yield table, {"filter": one.format(field=field)}
        for name in ORDERS[table]:
            yield table, {"order_by": name}
            yield table, {"order_by": f"{name} desc"}
    for one in JOINED:
        yield "deployments", {"filter": one}
        yield "deployments", {"filter": one, "order_by": "completed_at desc"}
    yield "deployments", {"service": "service-7", "filter": "status = FAILED"}


def named(kind: object) -> str | None:
    return kind if isinstance(kind, str) else " ".join(dict(kind).values()) or "anything"  # type: ignore[call-overload]


@pytest.mark.parametrize(("table", "asked"), list(kinds()), ids=named)
async def test_every_page_of_a_list_is_reached_by_an_index(
    filled: Database, table: str, asked: Mapping[str, str]
) -> None:
    request, command, read, _ = LISTS[table]
    after = None
    for _ in ("the first page", "the one after it"):
        pages: list[Page[Any]] = []

        async def ask(at: Any = after, into: list[Page[Any]] = pages) -> None:
            wanted = command(request(**asked), PageRequest(50, at))
            into.append(await read(filled, wanted))

        plans = await plans_of(filled, ask)
        assert is_bounded(plans, table), shown(plans)
        after = pages[0].last
        if after is None:
            break


def is_bounded(plans: Sequence[Node], table: str) -> bool:
    """Say whether rows are reached by an index that says which ones, or in the order of the list.

    In order means that nothing sorts what was found by the keys of the list.
    """
    mine = [node for node in plans if node.get("Alias") == table]
    bitmap = "Bitmap Heap Scan"
    narrowed = all(
        "Index Cond" in node or node["Node Type"] == bitmap or node.get("Index Name") in PARTIAL
        for node in mine
    )
    keys = [" ".join(node["Sort Key"]) for node in plans if node["Node Type"] == "Sort"]
    in_order = not any(f"{table}." in key for key in keys)
    return bool(mine) and table not in scanned(plans) and (narrowed or in_order)


@pytest.mark.parametrize("table", LISTS)
async def test_every_filter_and_order_of_a_list_is_looked_at(table: str) -> None:
    fields = LISTS[table][3]
    compared = re.compile(r"\b([a-z_]+)(?=:| [<>=:]|!=| !=)")
    asked = [given.get("filter", "") for name, given in kinds() if name == table]
    assert set(fields.filters) <= {found for one in asked for found in compared.findall(one)}
    assert set(fields.orders) == set(ORDERS[table])
