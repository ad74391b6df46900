"""What continues a list or an export cannot be changed, moved or made (OWASP ASVS 8.2.2, 11.2).

Every bit of a token flipped, one at a time; tokens of another caller, another filter, another
export, and of a key that the installation had before: each and every one is refused. A `request_id`
is worth nothing to anybody else, and nothing with another request. For all lists, and with what was
made up: `tests/rpc/test_bad_page_tokens.py`.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import grpc
import pytest
import pytest_asyncio
from google.protobuf.message import Message
from release_manager.audit.v1 import audit_pb2
from release_manager.catalog.v1 import catalog_pb2
from release_manager.identity.v1 import identity_pb2

from shared.clock import system_clock
from shared.paging import LIFETIME, PageTokens
from tests.support.platform import AUDIT, CATALOG, Platform
from tests.support.raw_calls import Answer, Metadata, some_at_a_time

pytestmark = pytest.mark.asyncio(loop_scope="session")

TEAMS, ENTRIES, EXPORT = (
    *(f"/{CATALOG}/ListTeams", f"/{AUDIT}/ListAuditLogs"),
    f"/{AUDIT}/ExportAuditLogs",
)
LEAST_BITS = 200


@dataclass
class Tokens:
    """The running product, two leads, and a token of the first for each of three methods."""

    platform: Platform
    one: Metadata
    other: Metadata
    user_id: UUID
    requests: dict[str, Any]

    def request(self, method: str, token: str, **changes: object) -> Any:
        """Return the request that a token continues, or one like it."""
        made: Any = type(self.requests[method])()
        made.CopyFrom(self.requests[method])
        setattr(made, "resume_token" if method == EXPORT else "page_token", token)
        for name, value in changes.items():
            setattr(made, name, value)
        return made

    def token(self, method: str) -> str:
        """Return the token of a method."""
        made = self.requests[method]
        return str(made.resume_token if method == EXPORT else made.page_token)

    async def answer(self, method: str, request: Message, by: Metadata | None = None) -> Answer:
        return await self.platform.ask(method, request, by or self.one)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def tokens(platform: Platform) -> Tokens:
    session = await platform.log_in("lead1")
    one, other = await platform.person("lead1"), await platform.person("lead2")
    teams = catalog_pb2.ListTeamsRequest(page_size=1)
    entries = audit_pb2.ListAuditLogsRequest(page_size=1)
    export = audit_pb2.ExportAuditLogsRequest()
    listed = await platform.catalog.ListTeams(teams, metadata=one)
    read = await platform.audit.ListAuditLogs(entries, metadata=one)
    sent = [answer async for answer in platform.audit.ExportAuditLogs(export, metadata=one)]
    teams.page_token, entries.page_token = listed.next_page_token, read.next_page_token
    export.resume_token = next(answer.resume_token for answer in sent if answer.resume_token)
    requests = {TEAMS: teams, ENTRIES: entries, EXPORT: export}
    return Tokens(platform, one, other, UUID(session.user.id), requests)


def assert_refused(answer: Answer, why: object) -> None:
    assert (answer.code, answer.reason) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "PAGE_TOKEN_INVALID",
    ), f"{why}: {answer}"
    assert not answer.answers


def flipped(token: str) -> list[str]:
    """Return the token with each bit of it changed, one at a time."""
    raw = urlsafe_b64decode(token + "=" * (-len(token) % 4))
    found = []
    for bit in range(8 * len(raw)):
        changed = bytearray(raw)
        changed[bit // 8] ^= 1 << bit % 8
        found.append(urlsafe_b64encode(changed).decode().rstrip("="))
    assert len(set(found)) == len(found) >= LEAST_BITS
    return found


@pytest.mark.parametrize("method", [TEAMS, ENTRIES, EXPORT])
async def test_a_token_with_a_bit_flipped_is_refused(tokens: Tokens, method: str) -> None:
    assert (await tokens.answer(method, tokens.request(method, tokens.token(method)))).ok
    changed = flipped(tokens.token(method))
    # Of exports a caller may have two at a time.
    answers = await some_at_a_time(
        (tokens.answer(method, tokens.request(method, text)) for text in changed),
        most=1 if method == EXPORT else 8,
    )
    for bit, answer in enumerate(answers):
        assert_refused(answer, bit)


@pytest.mark.parametrize("method", [TEAMS, ENTRIES, EXPORT])
async def test_a_token_of_somebody_else_is_refused(tokens: Tokens, method: str) -> None:
    request = tokens.request(method, tokens.token(method))
    assert_refused(await tokens.answer(method, request, tokens.other), "another caller")


async def test_a_token_with_another_filter_is_refused(tokens: Tokens) -> None:
    filters: dict[str, list[dict[str, object]]] = {
        TEAMS: [{"filter": 'name = "x"'}, {"order_by": "name desc"}, {"show_archived": True}],
        ENTRIES: [{"oldest_first": True}],
        EXPORT: [{"format": audit_pb2.EXPORT_FORMAT_NDJSON}],
    }
    for method, all_changes in filters.items():
        for changes in all_changes:
            request = tokens.request(method, tokens.token(method), **changes)
            assert_refused(await tokens.answer(method, request), changes)
    for method in (ENTRIES, EXPORT):
        request = tokens.request(method, tokens.token(method))
        request.filter.user = "dev1"
        assert_refused(await tokens.answer(method, request), "user")


async def test_a_token_of_an_earlier_key_is_refused(tokens: Tokens) -> None:
    """Right in everything else: the same code makes one that is taken with the key of today."""
    query: Any = tokens.request(TEAMS, "")
    query.ClearField("page_size")
    about = (TEAMS, tokens.user_id, query.SerializeToString(deterministic=True))
    today, earlier = PageTokens(tokens.platform.keys.hmac), PageTokens(b"e" * 32)
    position = today.decode(*about, tokens.token(TEAMS))
    again, foreign = today.encode(*about, position), earlier.encode(*about, position)
    assert (await tokens.answer(TEAMS, tokens.request(TEAMS, again))).ok
    assert_refused(await tokens.answer(TEAMS, tokens.request(TEAMS, foreign)), "an earlier key")


async def test_a_token_expires(tokens: Tokens) -> None:
    query: Any = tokens.request(TEAMS, "")
    query.ClearField("page_size")
    about = (TEAMS, tokens.user_id, query.SerializeToString(deterministic=True))
    key = tokens.platform.keys.hmac
    position = PageTokens(key).decode(*about, tokens.token(TEAMS))
    for age, good in (
        (LIFETIME - timedelta(hours=1), True),
        (LIFETIME + timedelta(hours=1), False),
    ):
        then = system_clock() - age
        made = PageTokens(key, partial(datetime.fromtimestamp, then.timestamp(), UTC))
        made_then = made.encode(*about, position)
        answer = await tokens.answer(TEAMS, tokens.request(TEAMS, made_then))
        assert answer.ok is good
        if not good:
            assert_refused(answer, "expired")


async def test_the_id_of_a_request_is_worth_nothing_to_anybody_else(platform: Platform) -> None:
    """Whoever learns it gets neither the answer nor anything done by it."""
    admin = await platform.person("admin")
    another = await platform.program("admin")
    method, request_id = f"/{CATALOG}/CreateTeam", str(uuid4())
    name = f"t-{request_id[:8]}"
    request = catalog_pb2.CreateTeamRequest(name=name, request_id=request_id)
    first, again = [await platform.ask(method, request, admin) for _ in range(2)]
    assert first.ok
    assert (
        catalog_pb2.CreateTeamResponse.FromString(again.answers[0]).team.id
        == catalog_pb2.CreateTeamResponse.FromString(first.answers[0]).team.id
    )
    assert (await platform.ask(method, request, another)).reason == "RESOURCE_EXISTS"
    other = catalog_pb2.CreateTeamRequest(name=f"{name}x", request_id=request_id)
    assert (await platform.ask(method, other, admin)).reason == "REQUEST_ID_REUSED"
    found = await platform.identity.WhoAmI(identity_pb2.WhoAmIRequest(), metadata=another)
    assert found.user.username != "admin"
