"""Service accounts and their API tokens."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest
from google.protobuf.json_format import MessageToDict
from release_manager.common.v1 import access_pb2
from release_manager.identity.v1 import identity_pb2 as pb

from shared.errors import (
    EtagMismatch,
    ReferenceInactive,
    ResourceExists,
    ResourceNotFound,
    TokenRejected,
    ValidationFailed,
)
from tests.rpc.catalog.conftest import entries, refusal
from tests.rpc.catalog.identities import Identities
from tests.support.platform import Platform, bearer
from tests.support.programs import execute

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def create(platform: Platform, **facts: Any) -> Any:
    request = pb.CreateServiceAccountRequest(
        name=f"bot-{uuid4().hex[:12]}", owner="lead1", role=access_pb2.ROLE_DEVELOPER
    )
    request.MergeFrom(pb.CreateServiceAccountRequest(**facts))
    return await platform.identity.CreateServiceAccount(
        request, metadata=await platform.person("admin")
    )


async def issue(platform: Platform, account: str, **facts: Any) -> Any:
    request = pb.CreateApiTokenRequest(service_account=account, description="CI", **facts)
    return await platform.identity.CreateApiToken(request, metadata=await platform.person("admin"))


async def who(platform: Platform, token: str, **metadata: str) -> Any:
    more = [(name.replace("_", "-"), value) for name, value in metadata.items()]
    return await platform.identity.WhoAmI(pb.WhoAmIRequest(), metadata=(*bearer(token), *more))


async def test_an_account_and_its_user_are_made_and_recorded_together(
    platform: Platform,
) -> None:
    answer = await create(platform, scopes=["deploy", "audit.write"], description="Deploys")
    account = answer.service_account
    assert (account.owner, list(account.scopes)) == ("lead1", ["audit.write", "deploy"])
    admin = await platform.person("admin")
    for reference in (account.id, account.name, account.name.upper()):
        request = pb.GetServiceAccountRequest(service_account=reference)
        found = await platform.identity.GetServiceAccount(request, metadata=admin)
        assert found.service_account == account
    user = (
        await platform.identity.GetUser(pb.GetUserRequest(user=account.name), metadata=admin)
    ).user
    assert (user.id, user.kind) == (account.user_id, pb.USER_KIND_SERVICE)
    assert user.email == f"{account.name}@service.invalid"
    assert len(answer.audit.event_ids) == len(answer.audit.leaf_indexes) == 2
    for kind, resource in (("user", user.id), ("service_account", account.id)):
        assert [entry.action for entry in await entries(platform, kind, resource)] == ["create"]


async def test_the_name_of_a_user_or_account_is_taken(platform: Platform) -> None:
    account = (await create(platform)).service_account
    for name in (account.name, "dev1"):
        assert isinstance(await refusal(create(platform, name=name)), ResourceExists)


async def test_the_owner_is_an_active_person(platform: Platform) -> None:
    program = (await create(platform)).service_account
    for owner, error in (("nobody", ResourceNotFound), (program.name, ValidationFailed)):
        assert isinstance(await refusal(create(platform, owner=owner)), error)


async def test_a_token_is_shown_once_and_acts_as_its_account(platform: Platform) -> None:
    account = (await create(platform, scopes=["on_behalf_of"])).service_account
    made = await issue(platform, account.name, valid_days=7)
    assert made.token.startswith(made.api_token.prefix)
    life = made.api_token.expires_at.ToSeconds() - made.api_token.created_at.ToSeconds()
    assert life == 7 * 86_400
    answer = await who(platform, made.token)
    assert (answer.user.username, list(answer.scopes)) == (account.name, ["on_behalf_of"])
    answer = await who(platform, made.token, x_on_behalf_of="dev1")
    assert answer.on_behalf_of
    log = await entries(platform, "api_token", made.api_token.id)
    assert [entry.action for entry in log] == ["create"]
    assert made.token not in str(MessageToDict(log[0].details))


async def test_a_rehearsed_token_is_not_shown(platform: Platform, owner: Any) -> None:
    account = (await create(platform)).service_account
    made = await issue(platform, account.name, validate_only=True)
    assert made.token == ""
    assert made.api_token.id
    assert (
        await owner.fetchval("SELECT count(*) FROM api_tokens WHERE id = $1", made.api_token.id)
        == 0
    )


async def test_tokens_are_listed_newest_first_without_themselves(
    platform: Platform, owner: Any
) -> None:
    account = (await create(platform)).service_account
    made = [await issue(platform, account.name) for _ in range(5)]
    admin = await platform.person("admin")
    seen: list[Any] = []
    request = pb.ListApiTokensRequest(service_account=account.name, page_size=2)
    while True:
        page = await platform.identity.ListApiTokens(request, metadata=admin)
        seen += page.api_tokens
        request.page_token = page.next_page_token
        if not request.page_token:
            break
    assert [token.id for token in seen] == [answer.api_token.id for answer in reversed(made)]
    for table in ("api_tokens", "outbox", "audit_logs"):
        text = await owner.fetchval(f"SELECT string_agg(t::text, ' ') FROM {table} t")
        assert not any(answer.token in text for answer in made)


async def test_a_revoked_token_ends_within_two_seconds(platform: Platform, owner: Any) -> None:
    account = (await create(platform)).service_account
    made, other = await issue(platform, account.name), await issue(platform, account.name)
    await who(platform, made.token)
    admin = await platform.person("admin")
    request = pb.RevokeApiTokenRequest(api_token_id=made.api_token.id)
    first = await platform.identity.RevokeApiToken(request, metadata=admin)
    again = await platform.identity.RevokeApiToken(request, metadata=admin)
    assert first.api_token.revoked_at == again.api_token.revoked_at
    assert (len(first.audit.event_ids), len(again.audit.event_ids)) == (1, 0)
    await asyncio.sleep(platform.settings.user_cache_seconds + 0.1)
    assert isinstance(await refusal(who(platform, made.token)), TokenRejected)
    assert (await who(platform, other.token)).user.username == account.name
    version = "SELECT row_version FROM service_accounts WHERE id = $1"
    assert await owner.fetchval(version, account.id) == 4
    log = await entries(platform, "api_token", made.api_token.id)
    assert [entry.action for entry in log] == ["create", "revoke"]


async def test_many_at_once_make_as_many_versions(platform: Platform, owner: Any) -> None:
    account = (await create(platform)).service_account
    await asyncio.gather(*(issue(platform, account.id) for _ in range(10)))
    rows = await owner.fetch(
        "SELECT aggregate_seq FROM outbox WHERE aggregate = $1 ORDER BY 1",
        f"service_account:{account.id}",
    )
    assert [row[0] for row in rows] == list(range(1, 12))


async def test_tokens_of_what_is_not_there_or_not_active(platform: Platform) -> None:
    assert isinstance(await refusal(issue(platform, "nobody")), ResourceNotFound)
    request = pb.RevokeApiTokenRequest(api_token_id=str(uuid4()))
    admin = await platform.person("admin")
    call = platform.identity.RevokeApiToken(request, metadata=admin)
    assert isinstance(await refusal(call), ResourceNotFound)
    account = (await create(platform)).service_account
    await execute(
        platform.database_url, "UPDATE users SET active = false WHERE username = $1", account.name
    )
    assert isinstance(await refusal(issue(platform, account.name)), ReferenceInactive)


async def test_accounts_are_listed_by_owner(platform: Platform) -> None:
    mine = (await create(platform, owner="lead2")).service_account
    answer = await platform.identity.ListServiceAccounts(
        pb.ListServiceAccountsRequest(owner="lead2"), metadata=await platform.person("admin")
    )
    assert list(answer.service_accounts) == [mine]


async def test_an_account_is_changed_with_its_user(platform: Platform) -> None:
    identities = Identities(platform)
    account = (await create(platform, scopes=["deploy"])).service_account
    change = {"service_account": account.name, "role": access_pb2.ROLE_LEAD, "owner": "lead2"}
    answer = await identities.call("UpdateServiceAccount", **change, scopes=["on_behalf_of"])
    changed = answer.service_account
    assert (changed.role, changed.owner, changed.etag) == (access_pb2.ROLE_LEAD, "lead2", "2")
    assert list(changed.scopes) == ["on_behalf_of"]
    assert len(answer.audit.event_ids) == 2
    assert (await identities.get(account.user_id)).role == access_pb2.ROLE_LEAD
    emptied = await identities.call(
        "UpdateServiceAccount", service_account=account.id, mask=["scopes", "description"]
    )
    assert (list(emptied.service_account.scopes), emptied.service_account.owner) == ([], "lead2")
    assert len(emptied.audit.event_ids) == 1
    log = await entries(platform, "service_account", account.id)
    assert [entry.action for entry in log] == ["create", "update", "update"]
    details = MessageToDict(log[1].details)
    assert details["before"]["scopes"] == ["deploy"]
    assert details["after"]["owner"] == "lead2"
    users = await entries(platform, "user", account.user_id)
    assert MessageToDict(users[1].details)["after"] == {"role": "lead"}


async def test_a_change_of_an_account_is_checked(platform: Platform) -> None:
    identities = Identities(platform)
    account = (await create(platform)).service_account
    wrong = [
        ({"owner": "nobody"}, ResourceNotFound),
        ({"owner": account.name}, ValidationFailed),
        ({"description": "x", "etag": "7"}, EtagMismatch),
        ({"mask": ["owner"]}, ValidationFailed),
        ({"mask": ["name"]}, ValidationFailed),
    ]
    for fields, expected in wrong:
        asked = {"service_account": account.id, **fields}
        found = await identities.refused("UpdateServiceAccount", **asked)
        assert isinstance(found, expected), fields
    gone = (await identities.create()).user
    await identities.call("DeactivateUser", user=gone.id)
    asked = {"service_account": account.id, "owner": gone.username}
    error = await identities.refused("UpdateServiceAccount", **asked)
    assert isinstance(error, ReferenceInactive)


async def test_a_deactivated_account_stops_and_goes_on(platform: Platform) -> None:
    identities = Identities(platform)
    account = (await create(platform)).service_account
    token = (await issue(platform, account.name)).token
    await who(platform, token)
    named = {"service_account": account.name}
    for events in (2, 0):
        answer = await identities.call("DeactivateServiceAccount", **named)
        assert not answer.service_account.active
        assert len(answer.audit.event_ids) == events
    await asyncio.sleep(platform.settings.user_cache_seconds + 0.1)
    assert isinstance(await refusal(who(platform, token)), TokenRejected)
    assert isinstance(await refusal(issue(platform, account.name)), ReferenceInactive)
    assert (await identities.call("ReactivateServiceAccount", **named)).service_account.active
    await asyncio.sleep(platform.settings.user_cache_seconds + 0.1)
    assert (await who(platform, token)).user.username == account.name


@pytest.mark.parametrize(("overlap", "seconds"), [(None, 86_400), (0, 0), (168, 7 * 86_400)])
async def test_a_rotated_token_goes_on_for_the_overlap(
    platform: Platform, overlap: int | None, seconds: int
) -> None:
    identities = Identities(platform)
    account = (await create(platform)).service_account
    old = await issue(platform, account.name, valid_days=30)
    asked = {"api_token_id": old.api_token.id, "valid_days": 60}
    if overlap is not None:
        asked["overlap_hours"] = overlap
    answer = await identities.call("RotateApiToken", **asked)
    made, replaced = answer.api_token, answer.replaced
    assert made.description == old.api_token.description
    assert made.expires_at.ToSeconds() - made.created_at.ToSeconds() == 60 * 86_400
    assert replaced.id == old.api_token.id
    assert replaced.expires_at.ToSeconds() - made.created_at.ToSeconds() == seconds
    assert (await who(platform, answer.token)).user.username == account.name
    if overlap == 0:
        assert isinstance(await refusal(who(platform, old.token)), TokenRejected)
        error = await identities.refused("RotateApiToken", **asked)
        assert isinstance(error, ReferenceInactive)
    else:
        assert (await who(platform, old.token)).user.username == account.name
    assert len(answer.audit.event_ids) == 2
    log = await entries(platform, "api_token", old.api_token.id)
    assert [entry.action for entry in log] == ["create", "rotate"]
    assert MessageToDict(log[1].details)["replaced_by"] == made.id
    (entry,) = await entries(platform, "api_token", made.id)
    assert MessageToDict(entry.details)["replaces"] == old.api_token.id


async def test_a_rotation_never_lengthens_and_its_token_is_nowhere_else(
    platform: Platform, owner: Any
) -> None:
    identities = Identities(platform)
    account = (await create(platform)).service_account
    old = await issue(platform, account.name, valid_days=1)
    rotate = {"api_token_id": old.api_token.id, "overlap_hours": 168}
    rehearsed = await identities.call("RotateApiToken", **rotate, validate_only=True)
    assert rehearsed.token == ""
    answer = await identities.call("RotateApiToken", **rotate)
    assert answer.replaced.expires_at == old.api_token.expires_at
    for table in ("api_tokens", "outbox", "audit_logs", "idempotency_records"):
        text = await owner.fetchval(f"SELECT string_agg(t::text, ' ') FROM {table} t") or ""
        assert answer.token not in text
    error = await identities.refused("RotateApiToken", api_token_id=str(uuid4()))
    assert isinstance(error, ResourceNotFound)
