"""The audit entries of the sample data: 20 of what its rows tell, sealed like any other entry."""

import secrets
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Final

from seed.rows import Connection, Row, Rows, named
from services.audit.rules import leaf
from services.audit.rules.events import Event, Sealed, seal
from shared.ids import new_id_at

PRODUCER: Final = "seed"
_ADDRESS: Final = "192.0.2.10"  # of a range that documentation may use (RFC 5737)
_AGENT: Final = "grpcurl/1.9.3"

# The parameters of the ledger's append function, each an array with one element for each event.
_PARAMETERS: Final = (
    *("event_id", "request_mac", "salt", "event_digest", "occurred_at", "user_id", "action"),
    *("resource_type", "resource_id", "details", "ip_address", "user_agent", "category"),
    *("producer", "aggregate", "aggregate_seq"),
)

Told = tuple[datetime, Row, str, str, Row, dict[str, Any]]


def entries(rows: Rows) -> list[Sealed]:
    """Return the entries in the order of their times. They belong to no aggregate."""
    # The key only tells a repeated event from another one; these are never sent again.
    mac_key = leaf.request_key(secrets.token_bytes(32))
    ordered = sorted(_told(rows), key=lambda told: told[0])
    return [_sealed(told, mac_key) for told in ordered]


async def append(connection: Connection, sealed: Sequence[Sealed]) -> None:
    """Append the entries with their own times, which only an empty ledger's owner may."""
    first = sealed[0].occurred_at.date().replace(day=1)
    await connection.execute("SELECT audit_ensure_partitions($1, 2)", first)
    places = ", ".join(f"${number}" for number in range(1, len(_PARAMETERS) + 2))
    arrays = [[_parameter(event, name) for event in sealed] for name in _PARAMETERS]
    times = [event.occurred_at for event in sealed]
    await connection.execute(f"SELECT audit_append_past({places})", *arrays, times)


def _parameter(event: Sealed, name: str) -> object:
    value = getattr(event, name)
    return value.decode() if name == "details" else value


def _sealed(told: Told, mac_key: bytes) -> Sealed:
    at, user, action, resource_type, resource, details = told
    event = Event(
        action=action,
        resource_type=resource_type,
        resource_id=str(resource["id"]),
        event_id=new_id_at(at),
        occurred_at=at,
        user=user["username"],
        details=details,
        ip_address=_ADDRESS,
        user_agent=_AGENT,
    )
    return seal(event, producer=PRODUCER, user_id=user["id"], now=at, mac_key=mac_key)


def _told(rows: Rows) -> Iterator[Told]:
    yield from _catalog(rows)
    yield from _deployments(rows)
    yield from _decisions(rows)


def _catalog(rows: Rows) -> Iterator[Told]:
    """Nine entries about the catalog."""
    admin = named(rows, "users", username="admin")
    for table, kind, name in (
        ("teams", "team", "Backend"),
        ("services", "service", "payment"),
        ("environments", "environment", "Prod"),
    ):
        row = named(rows, table, name=name)
        yield row["created_at"], admin, "create", kind, row, {"after": {"name": name}}
    policy = rows["environment_policies"][0]
    prod = named(rows, "environments", name="Prod")
    changed = {"environment": "Prod", "after": {"policy_version": 1, **policy["policy"]}}
    yield policy["created_at"], admin, "update", "environment", prod, changed
    for version in ("1.0.0", "2.3.0"):
        row = named(rows, "releases", version=version, status="promoted")
        author = named(rows, "users", id=row["created_by"])
        name = _release(rows, row)
        created = {"release": name, "after": {"status": "draft"}}
        published = {"release": name, "after": {"status": "published"}}
        yield row["created_at"], author, "create", "release", row, created
        yield row["published_at"], author, "publish", "release", row, published
    runbook = named(rows, "runbooks", title="Charges are stuck")
    author = named(rows, "users", id=runbook["created_by"])
    details = {"after": {"title": runbook["title"]}}
    yield runbook["created_at"], author, "create", "runbook", runbook, details


def _deployments(rows: Rows) -> Iterator[Told]:
    """Eight entries: of each deployment its request."""
    reasons = {row["rollback_deployment_id"]: row["reason"] for row in rows["rollbacks"]}
    for row in rows["deployments"]:
        release = named(rows, "releases", id=row["release_id"])
        details = {
            "release": _release(rows, release),
            "environment": named(rows, "environments", id=row["environment_id"])["name"],
        }
        if row["id"] in reasons:
            details["reason"] = reasons[row["id"]]
        user = named(rows, "users", id=row["deployed_by"])
        yield row["deployed_at"], user, str(row["kind"]), "deployment", row, details


def _decisions(rows: Rows) -> Iterator[Told]:
    """Three entries: the approvals that were given."""
    for row in rows["approvals"]:
        if row["decided_at"] is not None:
            deployment = named(rows, "deployments", id=row["deployment_id"])
            user = named(rows, "users", id=row["approver_id"])
            details = {"comment": row["comment"]}
            yield row["decided_at"], user, "approve", "deployment", deployment, details


def _release(rows: Rows, release: Row) -> str:
    service = named(rows, "services", id=release["service_id"])
    return f"{service['name']}@{release['version']}"
