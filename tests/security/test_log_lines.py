"""One event is one line, whatever callers put into it (OWASP ASVS 16.2.2, 16.2.5, 16.4.1).

Line breaks, escape sequences of terminals, characters that turn the direction of text, values of a
mebibyte, and tokens in places where no token belongs: in names, in metadata, in errors. Every call
is one line of JSON in ASCII of bounded length, its time is UTC, and no secret is in any of them.
"""

from collections.abc import Mapping
from typing import Any

import pytest
import structlog
from release_manager.catalog.v1 import catalog_pb2
from release_manager.identity.v1 import identity_pb2

from services.catalog.servicer.teams import TeamRpcs
from tests.support.forged_tokens import Forger
from tests.support.log_lines import LogLines, logging_kept
from tests.support.platform import AUDIT, CATALOG, IDENTITY, Platform, bearer
from tests.support.programs import add_session

pytestmark = pytest.mark.asyncio(loop_scope="session")

LONGEST_LINE = 40_000
HOSTILE: Mapping[str, str] = {
    "line breaks": 'x\r\n{"event":"rpc","code":"OK","actor":"admin"}\n',
    "other line breaks": "x\u2028y\u2029z\x85\x0b\x0c",
    "escape sequences": "\x1b[2J\x1b]0;title\x07\x9b31m",
    "the other direction": "\u202egnp.exe\u2066\u2069\u200f",
    "all that a call may have": "x" * (1_048_576 // 2 - 200),
    "quotes": '"}\\" , "level": "critical',
}
UNPRINTABLE = set("\r\x1b\x07\x9b\u202e\u2028\u2029")


def rpc_lines(kept: LogLines) -> list[dict[str, Any]]:
    """Return the lines of calls, but for those of the services among themselves."""
    return [
        line
        for line in kept.lines
        if line["event"] == "rpc" and not line["method"].startswith(f"/{AUDIT}/")
    ]


def assert_harmless(kept: LogLines) -> None:
    assert kept.text.isascii()
    assert not set(kept.text) & UNPRINTABLE
    assert all(len(line) <= LONGEST_LINE for line in kept.text.split("\n"))
    for line in kept.lines:
        assert str(line["timestamp"]).endswith("Z")


@pytest.mark.parametrize("name", HOSTILE)
async def test_each_call_is_one_line(platform: Platform, name: str) -> None:
    text, admin = HOSTILE[name], await platform.person("admin")
    calls = {
        f"/{IDENTITY}/Login": identity_pb2.LoginRequest(username=text, password=text),
        f"/{IDENTITY}/GetUser": identity_pb2.GetUserRequest(user=text),
        f"/{CATALOG}/CreateTeam": catalog_pb2.CreateTeamRequest(name=text, description=text),
        f"/{CATALOG}/ListServices": catalog_pb2.ListServicesRequest(filter=text, order_by=text),
    }
    with logging_kept() as kept:
        for method, request in calls.items():
            await platform.ask(method, request, admin)
    assert_harmless(kept)
    assert sorted(line["method"] for line in rpc_lines(kept)) == sorted(calls)


@pytest.mark.parametrize("name", HOSTILE)
async def test_an_event_with_it_is_one_line(name: str) -> None:
    """Whatever is logged by name, in an exception, or by a library."""
    text = HOSTILE[name] * 2 + "."
    with logging_kept() as kept:
        log = structlog.get_logger("any")
        log.info("told", said=text, deep=[{"said": text}])
        log.error("failed", exc_info=RuntimeError(text))
        structlog.stdlib.get_logger("any").warning(text)
    assert len(kept.lines) == 3
    assert_harmless(kept)


async def test_metadata_is_logged_in_one_line(platform: Platform) -> None:
    admin = await platform.person("admin")
    metadata = [
        *admin,
        ("x-request-id", 'a" b\\ {"event":1}'),
        ("x-request-id-2", "rmt_" + "s" * 43),
        ("x-forwarded-for", '1.2.3.4", "actor": "root'),
        ("x-on-behalf-of", '{"event":"rpc"}'),
    ]
    with logging_kept() as kept:
        await platform.ask(f"/{IDENTITY}/WhoAmI", b"", metadata)
        await platform.ask(f"/{CATALOG}/{'N' * 2_000}", b"", admin)
    assert_harmless(kept)
    assert len(rpc_lines(kept)) == 2
    assert "root" not in kept.text
    assert "s" * 20 not in kept.text


async def test_no_token_is_in_any_line(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of calls that succeed, that are refused because of the token, and that fail unexpectedly."""
    session = await platform.log_in("dev2")
    session_id, user_id, _refresh = await add_session(platform.database_url, "dev2")
    forger = Forger(platform.keys, user_id, session_id)
    tokens = {
        "good": session.access_token,
        "expired": forger.aged(3_600),
        "forged": forger.signed_by_another(),
        "API token of nobody": "rmt_" + "q" * 43,
    }

    async def fails(_self: object, request: Any, _context: object) -> None:
        raise RuntimeError(f"no connection for Bearer {session.access_token}: {request.team}")

    with logging_kept() as kept:
        for token in tokens.values():
            await platform.ask(f"/{IDENTITY}/WhoAmI", b"", bearer(token))
            wrong = identity_pb2.RefreshRequest(refresh_token=token[:400])
            await platform.ask(f"/{IDENTITY}/Refresh", wrong, bearer(token))
            named = identity_pb2.GetUserRequest(user=token[:200])
            await platform.ask(f"/{IDENTITY}/GetUser", named, bearer(session.access_token))
        monkeypatch.setattr(TeamRpcs, "GetTeam", fails)
        request = catalog_pb2.GetTeamRequest(team=tokens["API token of nobody"])
        await platform.ask(f"/{CATALOG}/GetTeam", request, bearer(session.access_token))
        await platform.identity.Refresh(
            identity_pb2.RefreshRequest(refresh_token=session.refresh_token)
        )
    assert_harmless(kept)
    for name, token in (tokens | {"refresh": session.refresh_token}).items():
        for part in (token, token[:40], token[-40:]):
            assert part not in kept.text, name
    assert len(rpc_lines(kept)) == 3 * len(tokens) + 2
