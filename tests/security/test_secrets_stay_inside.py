"""Passwords, hashes, tokens and keys are nowhere but where they belong (OWASP ASVS 15.3.1, 16.2.5).

A session of work that uses every secret there is: passwords that are set, changed, wrong and too
short; log-ins, refreshed and reused tokens; API tokens made and rotated; credentials that are
refused. All that comes out meanwhile is searched: the log at its most talkative, every answer and
every status with its details, the entries of the ledger, the outbox, and exports in all formats. A
token may be in the one answer that hands it out, and nothing else may be anywhere.
"""

from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
import pytest_asyncio
from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from release_manager.audit.v1 import audit_pb2
from release_manager.common.v1 import access_pb2
from release_manager.identity.v1 import identity_pb2 as pb

from shared.identity.opaque_tokens import digest_of
from shared.setting_values import driver_url
from tests.support.every_rpc import EveryRpc
from tests.support.log_lines import logging_kept
from tests.support.platform import AUDIT, IDENTITY, Platform, bearer, product_methods
from tests.support.raw_calls import Metadata

pytestmark = pytest.mark.asyncio(loop_scope="session")

PASSWORDS = ("first secret words", "second secret words", "third secret words", "quite wrong words")
SHORT = "$hort1!"
FORMATS = (
    *(audit_pb2.EXPORT_FORMAT_CSV_EXACT, audit_pb2.EXPORT_FORMAT_CSV_SPREADSHEET),
    *(audit_pb2.EXPORT_FORMAT_NDJSON, audit_pb2.EXPORT_FORMAT_OCSF),
)
LEAST_SECRETS = 40
LEAST_ANSWERS = 120


@dataclass
class Work:
    """All that came out, and the secrets that were used; `handed_out` are in one answer each."""

    platform: Platform
    answers: list[tuple[str, bytes]] = field(default_factory=list)
    handed_out: list[str] = field(default_factory=list)
    log: str = ""
    written: str = ""
    exported: bytes = b""

    async def call(self, rpc: str, by: Metadata = (), /, **fields: Any) -> Any:
        """Call the identity service, whatever becomes of it; return the answer if there is one."""
        method = f"/{IDENTITY}/{rpc}"
        request = getattr(pb, f"{rpc}Request")(**fields)
        return await self.ask(method, request, by)

    async def ask(self, method: str, request: Message, by: Metadata) -> Any:
        """Call any method, and keep what it answers or how it fails."""
        answer = await self.platform.ask(method, request, by)
        said = f"{answer.text} {answer.reason} {answer.facts} {answer.fields}"
        self.answers += [(method, said.encode()), *((method, raw) for raw in answer.answers)]
        if not answer.ok or not answer.answers:
            return None
        output = product_methods()[method].output_type
        return message_factory.GetMessageClass(output).FromString(answer.answers[0])

    def given(self, *tokens: str) -> None:
        self.handed_out += tokens


async def worked(work: Work) -> None:
    """Use every kind of secret."""
    platform, name = work.platform, f"s{uuid4().hex[:10]}"
    admin = await platform.person("admin")
    user = {"username": name, "email": f"{name}@x.example.com", "role": access_pb2.ROLE_LEAD}
    for password in (SHORT, PASSWORDS[0]):
        await work.call("CreateUser", admin, **user, password=password, request_id=str(uuid4()))
    for password in (PASSWORDS[3], PASSWORDS[0] * 10, ""):
        await work.call("Login", username=name, password=password)
    await work.call("Login", username=PASSWORDS[1], password=name)  # one in place of the other
    session = (await work.call("Login", username=name, password=PASSWORDS[0])).session
    mine = bearer(session.access_token)
    for current, new in ((PASSWORDS[3], PASSWORDS[1]), (PASSWORDS[0], PASSWORDS[1])):
        await work.call("ChangePassword", mine, current_password=current, new_password=new)
    again = (await work.call("Refresh", refresh_token=session.refresh_token)).session
    await work.call("Refresh", refresh_token=again.refresh_token + "x")
    for token in (again.refresh_token, session.access_token[:-4] + "AAAA"):
        await work.call("WhoAmI", bearer(token))
    work.given(*(s for one in (session, again) for s in (one.access_token, one.refresh_token)))
    await work.call("ResetPassword", admin, user=name, password=PASSWORDS[2])
    account = {"name": f"{name}-ci", "owner": "dev1", "role": access_pb2.ROLE_VIEWER}
    await work.call("CreateServiceAccount", admin, **account)
    wanted = {"service_account": account["name"], "description": "for a test"}
    made = await work.call("CreateApiToken", admin, **wanted)
    rotated = await work.call("RotateApiToken", admin, api_token_id=made.api_token.id)
    for token in (made.token, rotated.token, rotated.token[:-2]):
        await work.call("WhoAmI", bearer(token))
    await work.call("RevokeApiToken", admin, api_token_id=rotated.api_token.id)
    work.given(made.token, rotated.token)


async def read_everything(work: Work) -> None:
    """Make a valid call of every method, and export the ledger in all formats."""
    rpcs = await EveryRpc.of(work.platform)
    for method, request in rpcs.requests.items():
        await work.ask(method, request, rpcs.caller(method))
    everything = audit_pb2.AuditLogFilter(category=audit_pb2.AUDIT_CATEGORY_ALL)
    for form in FORMATS:
        asked = audit_pb2.ExportAuditLogsRequest(format=form, filter=everything)
        answer = await rpcs.ask(f"/{AUDIT}/ExportAuditLogs", asked)
        assert answer.ok, answer
        work.exported += b"".join(answer.answers)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def work(platform: Platform) -> Work:
    made = Work(platform)
    await platform.person("admin")
    with logging_kept() as kept:
        await worked(made)
        await read_everything(made)
        made.log = kept.text
    owner = await asyncpg.connect(driver_url(platform.database_url))
    for table in ("audit_logs", "outbox", "idempotency_records", "audit_event_keys"):
        made.written += (
            await owner.fetchval(f"SELECT string_agg(t::text, ' ') FROM {table} t") or ""
        )
    await owner.close()
    return made


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def secrets(work: Work) -> Mapping[str, bytes]:
    """Give everything that may be nowhere, in each of its spellings, by what it is."""
    found: dict[str, bytes] = {}
    owner = await asyncpg.connect(driver_url(work.platform.database_url))
    hashes = await owner.fetch(
        "SELECT DISTINCT password_hash FROM users WHERE password_hash LIKE '$%'"
    )
    await owner.close()
    found |= {f"hash {n}": row[0].encode() for n, row in enumerate(hashes)}
    found |= {f"password {n}": text.encode() for n, text in enumerate((*PASSWORDS, SHORT))}
    for number, token in enumerate(work.handed_out):
        found |= dict(spelled(f"digest of token {number}", digest_of(token)))
    key_dir = work.platform.settings.key_dir
    for path in sorted(key_dir.iterdir()):
        if path.suffix == ".key":
            found |= dict(spelled(path.name, path.read_bytes()))
        elif path.suffix == ".token":
            found[path.name] = path.read_bytes().strip()
        elif path.suffix == ".pem" and not path.name.endswith(".pub.pem"):
            body = [line for line in path.read_bytes().splitlines() if b"-----" not in line]
            found |= {f"{path.name} {n}": line for n, line in enumerate(body) if len(line) > 20}
    return found


def spelled(name: str, raw: bytes) -> Iterator[tuple[str, bytes]]:
    yield f"{name}, raw", raw
    yield f"{name}, hex", raw.hex().encode()
    yield f"{name}, base64", b64encode(raw).rstrip(b"=")
    yield f"{name}, base64url", urlsafe_b64encode(raw).rstrip(b"=")


async def test_there_was_enough_to_find(work: Work, secrets: Mapping[str, bytes]) -> None:
    assert len(secrets) >= LEAST_SECRETS
    assert len(work.answers) >= LEAST_ANSWERS
    assert b"reset_password" in work.exported
    assert "reset_password" in work.written
    assert '"rpc"' in work.log
    assert all(secrets.values())


async def test_no_answer_has_a_secret(work: Work, secrets: Mapping[str, bytes]) -> None:
    for name, secret in secrets.items():
        assert not {method for method, raw in work.answers if secret in raw}, name


async def test_a_token_is_in_the_answer_that_hands_it_out_and_in_no_other(work: Work) -> None:
    for token in work.handed_out:
        assert sum(token.encode() in raw for _method, raw in work.answers) == 1


@pytest.mark.parametrize("place", ["log", "written", "exported"])
async def test_no_secret_is_in(work: Work, secrets: Mapping[str, bytes], place: str) -> None:
    content: str | bytes = getattr(work, place)
    searched = content if isinstance(content, bytes) else content.encode()
    for name, secret in secrets.items():
        assert secret not in searched, name
    for token in work.handed_out:
        assert token.encode() not in searched


async def test_no_answer_has_a_field_for_a_password_or_a_hash_of_one() -> None:
    names = {
        field.name
        for method in product_methods().values()
        for field in fields_of(method.output_type, set())
        if not field.GetOptions().Extensions[access_pb2.sensitive]
    }
    hidden = {name for name in names if "password" in name or "private" in name}
    assert hidden == {"password_change_required"}
    assert not {name for name in names if "token_hash" in name or "secret" in name}


def fields_of(message: Descriptor, seen: set[str]) -> Iterator[Any]:
    """Yield the fields of a message and of all messages in it."""
    if message.full_name in seen:
        return
    seen.add(message.full_name)
    for one in message.fields:
        yield one
        if one.message_type is not None:
            yield from fields_of(one.message_type, seen)
