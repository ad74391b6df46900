"""What is asked of the lists: each of their fields, filters, orders and searches, alone and joined.

The names and values are those of `benchmarks.catalog_past`. tests/integration/catalog/test_plans.py
looks at the plan of each, and fails when a list can be asked for more than is here.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final

from google.protobuf.message import Message
from release_manager.catalog.v1 import catalog_pb2
from release_manager.common.v1 import access_pb2
from release_manager.identity.v1 import identity_pb2

from benchmarks.catalog_past import COMMIT, id_of

CATALOG: Final = "release_manager.catalog.v1.CatalogService"
IDENTITY: Final = "release_manager.identity.v1.IdentityService"
MODULES: Final[Mapping[str, ModuleType]] = {CATALOG: catalog_pb2, IDENTITY: identity_pb2}

# The requests by their fields.
_FIELDS: Final[Mapping[str, tuple[Mapping[str, Any], ...]]] = {
    "ListTeams": ({}, {"show_archived": True}),
    "ListServices": (
        {},
        {"show_archived": True},
        {"team": "team-3"},
        {"owner": "user-9"},
        {"tier": catalog_pb2.SERVICE_TIER_2},
        {"lifecycle": catalog_pb2.SERVICE_LIFECYCLE_DEPRECATED},
        {"team": "team-3", "lifecycle": catalog_pb2.SERVICE_LIFECYCLE_PRODUCTION},
        {"query": "everybody"},
        {"query": "word77"},
        {"query": "nothing"},
        {"query": '"thing 77"', "order_by": "updated_at desc"},
        {"query": "group -word77", "team": "team-3"},
    ),
    "ListEnvironments": (
        {},
        {"show_archived": True},
        {"type": catalog_pb2.ENVIRONMENT_TYPE_PROD},
    ),
    "ListReleases": (
        {},
        {"show_archived": True},
        {"service": "service-7"},
        {"service": "service-7", "order_by": "version desc"},
        {"service": "service-7", "order_by": "published_at desc"},
        {"service": "service-7", "status": catalog_pb2.RELEASE_STATUS_PUBLISHED},
        {"status": catalog_pb2.RELEASE_STATUS_PUBLISHED},
        {"status": catalog_pb2.RELEASE_STATUS_DRAFT},
        {"status": catalog_pb2.RELEASE_STATUS_DRAFT, "order_by": "version"},
        {"filter": "status = DRAFT AND irreversible = true"},
        {"filter": 'service = "service-7" AND version : "9"'},
        {"filter": 'service = "service-7" OR service = "service-8"'},
        {"order_by": "version desc, created_at"},
    ),
    "ListRunbooks": (
        {},
        {"show_archived": True},
        {"service": "service-7"},
        {"environment": "place-4"},
        {"environment": "place-400"},
        {"tag": "tag7"},
        {"query": "logs"},
        {"query": "word77"},
        {"query": "nothing"},
        {"query": '"thing 77"', "order_by": "updated_at desc"},
        {"service": "service-7", "environment": "place-4", "order_by": "created_at desc"},
    ),
    "ListRunbookVersions": ({"runbook": id_of("runbook-1")}, {"runbook": id_of("runbook-2")}),
    "ListRunbookExecutions": (
        {},
        {"runbook": id_of("runbook-1")},
        {"service": "service-2"},
        {"deployment_id": id_of("deployment-7")},
    ),
    "ListUsers": (
        {},
        {"team": "team-3"},
        {"role": access_pb2.ROLE_ADMIN},
        {"role": access_pb2.ROLE_DEVELOPER},
        {"kind": identity_pb2.USER_KIND_PERSON},
        {"kind": identity_pb2.USER_KIND_SERVICE},
        {"active": True},
        {"active": False},
        {"team": "team-3", "active": True},
        {"filter": "role = ADMIN AND active = true"},
    ),
    "ListSessions": ({"user": "user-1"}, {"user": "user-2"}),
    "ListServiceAccounts": ({}, {"owner": "user-9"}),
    "ListApiTokens": ({"service_account": "program-1"}, {"service_account": "program-2"}),
}
_MOMENTS: Final = (
    '{field} > "2025-12-31T12:00:00Z"',
    '{field} < "2025-12-31T12:00:00Z"',
    '{field} > "2026-01-31T12:00:00Z"',
)
# Each field that can be filtered by: by what is there once, often, and not at all.
_FILTERS: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "ListTeams": {
        "name": ('name = "team-77"', 'name : "77"', 'name : "@"', 'name = "team-7*"'),
        "description": ('description : "kind 7"', 'description : "@"', 'description = "@"'),
        "created_at": _MOMENTS,
        "updated_at": _MOMENTS,
    },
    "ListServices": {
        "name": ('name = "service-77"', 'name : "77"', 'name : "@"', 'name = "service-7*"'),
        "description": ('description : "thing 7"', 'description : "@"', 'description = "@"'),
        "repository": ('repository : "group-7/"', 'repository : "@"', 'repository = "@"'),
        "team": ('team = "team-3"', 'team = "nobody"', 'team : "7"', f'team = "{id_of("team-3")}"'),
        "owner": ('owner = "user-9"', 'owner : "@"', f'owner = "{id_of("user-9")}"'),
        "tier": ("tier = TIER_1", "tier <= TIER_2"),
        "lifecycle": ("lifecycle = EXPERIMENTAL", "lifecycle != PRODUCTION"),
        "labels": ('labels.lang = "l7"', 'labels.lang = "none"', "labels:lang", "labels:other"),
        "created_at": _MOMENTS,
        "updated_at": _MOMENTS,
    },
    "ListEnvironments": {
        "name": ('name = "place-77"', 'name : "77"', 'name : "@"', 'name = "place-7*"'),
        "description": ('description : "kind 7"', 'description : "@"', 'description = "@"'),
        "type": ("type = PROD", "type != PROD"),
        "promotion_order": ("promotion_order = 7", "promotion_order > 90"),
        "created_at": _MOMENTS,
        "updated_at": _MOMENTS,
    },
    "ListReleases": {
        "service": (
            *('service = "service-7"', 'service = "nothing"', 'service : "77"'),
            *('service : "@"', f'service = "{id_of("service-7")}"'),
        ),
        "version": ('version = "1.7.0"', 'version : ".7."', 'version : "@"', 'version = "1.7*"'),
        "status": ("status = PUBLISHED", "status = DRAFT", "status != PUBLISHED"),
        "commit": (f'commit = "{COMMIT}"', 'commit : "@"', 'commit = "abc*"'),
        "created_by": (
            *('created_by = "user-9"', 'created_by = "nobody"', 'created_by : "@"'),
            f'created_by = "{id_of("user-9")}"',
        ),
        "irreversible": ("irreversible = true", "irreversible = false"),
        "commit_time": (*_MOMENTS, "{field}:*", "NOT {field}:*"),
        "published_at": (*_MOMENTS, "{field}:*", "NOT {field}:*"),
        "created_at": _MOMENTS,
        "updated_at": _MOMENTS,
    },
    "ListRunbooks": {
        "title": ('title = "thing 77 is broken"', 'title : "77"', 'title : "@"', 'title = "a*"'),
        "service": ('service = "service-7"', 'service : "77"', 'service = "nothing"'),
        "environment": ('environment = "place-4"', 'environment : "7"', 'environment = "nothing"'),
        "tags": ('tags : "tag7"', 'tags : "none"'),
        "created_by": ('created_by = "user-9"', 'created_by : "@"'),
        "created_at": _MOMENTS,
        "updated_at": _MOMENTS,
    },
    "ListUsers": {
        "username": ('username = "user-77"', 'username : "77"', 'username : "@@"'),
        "email": ('email = "user-77@past.example.com"', 'email : "77@"', 'email : "@@"'),
        "full_name": ('full_name : "called 77"', 'full_name : "@"', 'full_name = "@"'),
        "role": ("role = ADMIN", "role = DEVELOPER"),
        "kind": ("kind = PERSON", "kind = SERVICE"),
        "active": ("active = true", "active = false"),
        "team": ('team = "team-3"', 'team : "77"', 'team = "nothing"'),
        "created_at": _MOMENTS,
        "updated_at": _MOMENTS,
    },
}
_ORDERS: Final[Mapping[str, tuple[str, ...]]] = {
    "ListTeams": ("name", "created_at", "updated_at"),
    "ListServices": ("name", "tier", "created_at", "updated_at"),
    "ListEnvironments": ("promotion_order", "name", "created_at", "updated_at"),
    "ListReleases": ("version", "published_at", "created_at", "updated_at"),
    "ListRunbooks": ("title", "created_at", "updated_at"),
    "ListUsers": ("username", "created_at", "updated_at"),
}


@dataclass(frozen=True, slots=True)
class Kind:
    """What is asked of a list: its method as it is called, in words, and the first request."""

    method: str
    name: str
    request: Message

    def later(self, page_token: str, page_size: int = 0) -> Any:  # noqa: ANN401  (any list's)
        """Return the request of a later page."""
        request: Any = type(self.request)()
        request.CopyFrom(self.request)
        request.page_token, request.page_size = page_token, page_size
        return request

    @property
    def rpc(self) -> str:
        """The name of the method alone."""
        return self.method.rpartition("/")[2]


def kinds() -> Iterator[Kind]:
    """Yield everything that is asked, list by list."""
    for service, module in MODULES.items():
        for rpc in module.DESCRIPTOR.services_by_name[service.rpartition(".")[2]].methods:
            for asked in _asked(rpc.name):
                said = ", ".join(f"{field}={value}" for field, value in asked.items())
                request = getattr(module, f"{rpc.name}Request")(**asked)
                yield Kind(f"/{service}/{rpc.name}", f"{rpc.name} {said}".strip(), request)


def _asked(rpc: str) -> Iterator[Mapping[str, Any]]:
    yield from _FIELDS.get(rpc, ())
    for field, expressions in _FILTERS.get(rpc, {}).items():
        for expression in expressions:
            yield {"filter": expression.replace("{field}", field)}
    for field in _ORDERS.get(rpc, ()):
        yield {"order_by": field}
        yield {"order_by": f"{field} desc"}
