"""The catalog of the sample data: teams, users, services, environments, releases and runbooks."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from hashlib import sha1, sha256
from typing import Any, Final, NamedTuple

from seed.rows import Row, Rows, named, stamped
from shared.ids import new_id_at

USERNAMES: Final = ("admin", "lead1", "lead2", "dev1", "dev2", "dev3", "viewer1", "viewer2")

_TEAMS: Final = {
    "Platform": "Gateways, clusters and the tools everybody builds on",
    "Backend": "Accounts, payments and notifications",
    "Frontend": "Everything a customer sees",
}
_USERS: Final = {
    "admin": ("Platform", "admin", "Administrator"),
    "lead1": ("Platform", "lead", "Platform Lead"),
    "lead2": ("Backend", "lead", "Backend Lead"),
    "dev1": ("Backend", "developer", "First Backend Developer"),
    "dev2": ("Backend", "developer", "Second Backend Developer"),
    "dev3": ("Frontend", "developer", "Frontend Developer"),
    "viewer1": ("Platform", "viewer", "Auditor"),
    "viewer2": ("Frontend", "viewer", "Support"),
}
_SERVICES: Final = {
    "auth": ("Backend", "lead2", "tier-1", "production", "Log-in, sessions and permissions"),
    "payment": ("Backend", "dev1", "tier-1", "production", "Charges, refunds and invoices"),
    "dashboard": ("Frontend", "dev3", "tier-2", "production", "The customers' start page"),
    "gateway": ("Platform", "lead1", "tier-1", "production", "Routing, limits and TLS"),
    "notification": ("Backend", "dev2", "tier-3", "experimental", "Mail, SMS and push"),
}
_ENVIRONMENTS: Final = {
    "Dev": ("dev", 10, "Every change, as soon as it is built"),
    "Staging": ("staging", 20, "The rehearsal, with production's configuration"),
    "Prod": ("prod", 30, "What customers use"),
}
PROD_POLICY: Final[Mapping[str, Any]] = {"soak_seconds": 0}
"""Prod follows the default policy of its type, but nothing has to soak in Staging first."""


class _Release(NamedTuple):
    service: str
    version: str
    author: str
    days_ago: int
    status: str
    notes: str


class _Runbook(NamedTuple):
    service: str
    environment: str | None
    author: str
    title: str
    tags: tuple[str, ...]
    steps: tuple[str, ...]


_RELEASES: Final = (
    _Release("payment", "1.0.0", "dev1", 24, "published", "First release with refunds"),
    _Release("payment", "1.1.0", "dev2", 17, "published", "Invoices as PDF"),
    _Release("payment", "1.2.0", "dev1", 1, "published", "Retries with back-off"),
    _Release("auth", "2.3.0", "dev1", 6, "published", "Sessions survive a restart"),
    _Release("auth", "2.4.0-rc.1", "dev2", 2, "draft", "Passkeys"),
    _Release("dashboard", "0.9.0", "dev3", 20, "published", "New charts"),
    _Release("dashboard", "1.0.0", "dev3", 3, "draft", "Dark mode"),
    _Release("gateway", "3.1.4", "dev1", 12, "published", "Limits for each tenant"),
    _Release(
        "gateway", "3.0.0", "dev1", 28, "abandoned", "HTTP/3, taken back before it was deployed"
    ),
    _Release("notification", "0.5.0", "dev2", 9, "published", "Push notifications"),
)
_RUNBOOKS: Final = (
    _Runbook(
        "auth",
        "Prod",
        "lead2",
        "Log-ins fail",
        ("login", "incident"),
        (
            "Look at the error rate of `/token`.",
            "If it rose with a deployment, roll that deployment back.",
            "Otherwise check the age of the signing keys and rotate them.",
        ),
    ),
    _Runbook(
        "payment",
        None,
        "dev1",
        "Charges are stuck",
        ("charges", "queue"),
        (
            "Pause the worker, so that nothing is charged twice.",
            "Compare the queue with the ledger of the bank.",
            "Resume, and watch the first ten charges.",
        ),
    ),
    _Runbook(
        "gateway",
        "Prod",
        "lead1",
        "Certificate expires",
        ("tls",),
        (
            "Renew the certificate.",
            "Reload the gateways one after the other.",
            "Check the date with a client from outside.",
        ),
    ),
)


def catalog(now: datetime, password_hashes: Mapping[str, str]) -> Rows:
    """Return the rows of the catalog, the oldest 30 days before `now`."""
    rows: Rows = {}
    rows["teams"] = _teams(now - timedelta(days=30))
    rows["users"] = _users(rows, now - timedelta(days=30, minutes=-10), password_hashes)
    rows["services"] = _services(rows, now - timedelta(days=29))
    rows["environments"] = _environments(now - timedelta(days=29, hours=-1))
    rows["environment_policies"] = _policies(rows, now - timedelta(days=28))
    rows["releases"] = [_release(rows, now, given) for given in _RELEASES]
    rows["runbooks"] = [
        _runbook(rows, now - timedelta(days=10 - number), given)
        for number, given in enumerate(_RUNBOOKS)
    ]
    rows["runbook_versions"] = [_first_version(runbook) for runbook in rows["runbooks"]]
    return rows


def _teams(at: datetime) -> list[Row]:
    return [
        stamped({"id": new_id_at(at), "name": name, "description": text, "row_version": 0}, at)
        for name, text in _TEAMS.items()
    ]


def _users(rows: Rows, at: datetime, password_hashes: Mapping[str, str]) -> list[Row]:
    return [
        stamped(
            {
                "id": new_id_at(at),
                "team_id": named(rows, "teams", name=team)["id"],
                "username": username,
                "email": f"{username}@example.com",
                "full_name": full_name,
                "password_hash": password_hashes[username],
                "role": role,
                "kind": "person",
                "active": True,
                "row_version": 0,
            },
            at,
        )
        for username, (team, role, full_name) in _USERS.items()
    ]


def _services(rows: Rows, at: datetime) -> list[Row]:
    return [
        stamped(
            {
                "id": new_id_at(at),
                "team_id": named(rows, "teams", name=team)["id"],
                "owner_id": named(rows, "users", username=owner)["id"],
                "name": name,
                "description": description,
                "repository": f"https://git.example.com/{team.lower()}/{name}",
                "tier": tier,
                "lifecycle": lifecycle,
                "row_version": 0,
            },
            at,
        )
        for name, (team, owner, tier, lifecycle, description) in _SERVICES.items()
    ]


def _environments(at: datetime) -> list[Row]:
    return [
        stamped(
            {
                "id": new_id_at(at),
                "name": name,
                "environment_type": kind,
                "promotion_order": order,
                "policy_version": 1 if kind == "prod" else 0,
                "description": description,
                "row_version": 0,
            },
            at,
        )
        for name, (kind, order, description) in _ENVIRONMENTS.items()
    ]


def _policies(rows: Rows, at: datetime) -> list[Row]:
    policy = {
        "id": new_id_at(at),
        "environment_id": named(rows, "environments", name="Prod")["id"],
        "policy_version": 1,
        "policy": dict(PROD_POLICY),
        "published_by": named(rows, "users", username="admin")["id"],
        "reason": "What has completed in Staging may follow at once",
    }
    return [stamped(policy, at)]


def _release(rows: Rows, now: datetime, new: _Release) -> Row:
    at = now - timedelta(days=new.days_ago, hours=6)
    author = named(rows, "users", username=new.author)["id"]
    name = f"{new.service}@{new.version}".encode()
    complete = new.status != "draft"
    return stamped(
        {
            "id": new_id_at(at),
            "service_id": named(rows, "services", name=new.service)["id"],
            "created_by": author,
            "authors": [author],
            "version": new.version,
            "status": new.status,
            # Looks like git's name of a commit; it protects nothing.
            "commit_sha": sha1(name, usedforsecurity=False).hexdigest() if complete else "",
            # The last commit lies a few hours to two days before the release that brings it.
            "commit_time": at - _age_of_commit(name) if complete else None,
            "artifact_digest": f"sha256:{sha256(name).hexdigest()}" if complete else "",
            "notes": new.notes,
            "irreversible": False,
            "published_at": at + timedelta(minutes=20) if complete else None,
            "row_version": 0,
        },
        at,
    )


def _age_of_commit(name: bytes) -> timedelta:
    """Return how long before its release a commit was made, the same in every seed."""
    return timedelta(minutes=180 + int.from_bytes(sha256(name).digest()[:4]) % 2_700)


def _runbook(rows: Rows, at: datetime, new: _Runbook) -> Row:
    place = named(rows, "environments", name=new.environment)["id"] if new.environment else None
    steps = (f"{number}. {step}\n" for number, step in enumerate(new.steps, start=1))
    return stamped(
        {
            "id": new_id_at(at),
            "service_id": named(rows, "services", name=new.service)["id"],
            "environment_id": place,
            "created_by": named(rows, "users", username=new.author)["id"],
            "title": new.title,
            "content": "".join(steps),
            "tags": list(new.tags),
            "version": 1,
            "published_at": at,
            "row_version": 0,
        },
        at,
    )


def _first_version(runbook: Row) -> Row:
    own = {"service_id", "row_version"}
    copied = {name: value for name, value in runbook.items() if name not in own}
    return {**copied, "id": new_id_at(runbook["created_at"]), "runbook_id": runbook["id"]}
