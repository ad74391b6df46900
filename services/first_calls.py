"""The first five calls a newcomer makes, as data: printed at start, shown in the README, tested."""

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from shared.settings import Settings

PASSWORD = "password123"  # noqa: S105  (of the seeded users, and printed at start)
USERS = ("admin", "lead1", "lead2", "dev1", "dev2", "dev3", "viewer1", "viewer2")
TRIAL_TOKEN_FILE = "trial.token"  # noqa: S105  (a file name)
_TAKE = """grep -o '"{}": *"[^"]*"' | cut -d'"' -f4"""


@dataclass(frozen=True, slots=True)
class FirstCall:
    """One call: what it shows, the service it goes to, its method and its request as JSON.

    `token` is the shell variable that holds the caller's token, empty for a call without one.
    `takes` is the field of the answer that matters, `then` a program it is fed to, and `keeps` the
    shell variable it goes to.
    """

    title: str
    service: str
    method: str
    request: Mapping[str, object] = field(default_factory=dict)
    token: str = ""
    takes: str = ""
    then: str = ""
    keeps: str = ""


FIRST_CALLS = (
    FirstCall(
        title="Log in",
        service="catalog",
        method="release_manager.identity.v1.IdentityService/Login",
        request={"username": "lead1", "password": PASSWORD},
        takes="accessToken",
        keeps="TOKEN",
    ),
    FirstCall(
        title="List releases",
        service="catalog",
        method="release_manager.catalog.v1.CatalogService/ListReleases",
        request={"service": "auth"},
        token="TOKEN",  # noqa: S106  (the name of a variable)
    ),
    FirstCall(
        title="See what runs where",
        service="deployment",
        method="release_manager.deployment.v1.DeploymentService/ListEnvironmentStatuses",
        request={"environment": "Prod"},
        token="TOKEN",  # noqa: S106
    ),
    FirstCall(
        title="Write an audit entry, as a program with a token of its own does",
        service="audit",
        method="release_manager.audit.v1.AuditService/LogAction",
        request={
            "event": {
                "user": "dev1",
                "action": "create",
                "resource_type": "ticket",
                "resource_id": "OPS-1",
                "details": {"title": "First call"},
            }
        },
        token="TRIAL_TOKEN",  # noqa: S106
    ),
    FirstCall(
        title="Export the audit trail as CSV",
        service="audit",
        method="release_manager.audit.v1.AuditService/ExportAuditLogs",
        request={"filter": {"resource_type": "ticket"}},
        token="TOKEN",  # noqa: S106
        takes="data",
        then="base64 -d",
    ),
)


def shell_line(call: FirstCall, settings: Settings) -> str:
    """Return the call as one line for a shell, with grpcurl."""
    words = ["grpcurl", *_transport(settings)]
    line = " ".join(shlex.quote(word) for word in words)
    if call.token:
        line += f' -H "authorization: Bearer ${call.token}"'
    if call.request:
        line += f" -d {shlex.quote(json.dumps(call.request))}"
    line += f" {reachable(getattr(settings, f'{call.service}_address'))} {call.method}"
    if call.takes:
        line += " | " + _TAKE.format(call.takes)
    if call.then:
        line += " | " + call.then
    return f"{call.keeps}=$({line})" if call.keeps else line


def reachable(address: str) -> str:
    """Return where a client on this machine finds what listens on `address`."""
    host, _colon, port = address.rpartition(":")
    return {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host) + f":{port}"  # noqa: S104


def welcome(settings: Settings) -> str:
    """Return what is printed when everything runs: where, who, and the calls to try."""
    names = ("audit", "catalog", "deployment")
    token_file = settings.key_dir / TRIAL_TOKEN_FILE
    lines = [
        *(f"{name:<12}{reachable(getattr(settings, f'{name}_address'))}" for name in names),
        "",
        f"Seeded users, all with the password {PASSWORD}: {', '.join(USERS)}",
        f"Token of the service account `trial`, for LogAction: {_token(token_file)}",
        "",
        "To try it, paste:",
        "",
        f"TRIAL_TOKEN=$(cat {shlex.quote(str(token_file))})",
    ]
    for call in FIRST_CALLS:
        lines += [f"# {call.title}", shell_line(call, settings)]
    return "\n".join(lines)


def _token(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return f"missing, {path} cannot be read"


def _transport(settings: Settings) -> tuple[str, ...]:
    if settings.tls_certificate is None:
        return ("-plaintext",)
    if settings.tls_server_ca is None:
        return ()
    return ("-cacert", str(settings.tls_server_ca))
