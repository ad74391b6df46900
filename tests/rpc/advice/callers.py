"""The reasons about who calls and how the request is made."""

import asyncio
from uuid import uuid4

from release_manager.common.v1 import access_pb2

from shared import errors
from shared.domain_error import DomainError
from tests.rpc.advice.scene import Ask, Scene, Situation, ask, case, fresh
from tests.support.platform import PASSWORD, bearer

REMEMBERED_SECONDS = 2.1  # who somebody is, is remembered for two
STRONG = "correct horse battery staple"


async def person(scene: Scene, role: int = access_pb2.ROLE_DEVELOPER) -> str:
    """Make a person, whose password an admin has given, and return the user name."""
    name = fresh("person")
    email = f"{name}@example.com"
    await scene.do("admin", "CreateUser", username=name, email=email, role=role, password=STRONG)
    return name


@case(errors.CredentialsMissing, "Login")
async def nobody_is_logged_in(scene: Scene) -> Situation:
    call = ask("", "ListTeams")

    async def follow(_: DomainError) -> Ask:
        session = await scene.do("", "Login", username="viewer1", password=PASSWORD)
        return call.by(bearer(session.session.access_token))

    return Situation(call, follow)


@case(errors.TokenRejected, "Refresh")
async def a_token_is_not_good_any_more(scene: Scene) -> Situation:
    session = (await scene.do("", "Login", username="viewer1", password=PASSWORD)).session
    call = ask(bearer(session.access_token[:-8] + "AAAAAAAA"), "ListTeams")

    async def follow(_: DomainError) -> Ask:
        renewed = await scene.do("", "Refresh", refresh_token=session.refresh_token)
        return call.by(bearer(renewed.session.access_token))

    return Situation(call, follow)


@case(errors.LoginRefused, "Check both")
async def a_password_is_wrong(_scene: Scene) -> Situation:
    call = ask("", "Login", username="viewer2", password="password124")

    async def follow(_: DomainError) -> Ask:
        return call.but(password=PASSWORD)

    return Situation(call, follow)


@case(errors.PasswordChangeRequired, "ChangePassword, and go on two seconds later")
async def a_password_was_given_by_somebody_else(scene: Scene) -> Situation:
    name = await person(scene)
    await scene.do("admin", "ResetPassword", user=name, password=STRONG)
    session = (await scene.do("", "Login", username=name, password=STRONG)).session
    token = bearer(session.access_token)

    async def follow(_: DomainError) -> None:
        await scene.do(token, "ChangePassword", current_password=STRONG, new_password=f"{STRONG} 2")
        await asyncio.sleep(REMEMBERED_SECONDS)

    return Situation(ask(token, "ListTeams"), follow)


@case(errors.RoleRequired, "Ask somebody who has it")
async def somebody_with_the_role_does_it(scene: Scene) -> Situation:
    release, place = await scene.release(await scene.service()), await scene.place()
    call = ask("dev1", "MarkReleaseBad", release=release, environment=place, reason="it leaks")

    async def follow(error: DomainError) -> Ask:
        return call.by({"lead": "lead1", "admin": "admin"}[error.facts["required"]])

    return Situation(call, follow)


@case(errors.ScopeRequired, "UpdateServiceAccount")
async def a_program_gets_the_scope(scene: Scene) -> Situation:
    release, place = await scene.release(await scene.service()), await scene.place()
    name = fresh("robot")
    role = access_pb2.ROLE_DEVELOPER
    await scene.do("admin", "CreateServiceAccount", name=name, owner="lead1", role=role)
    made = await scene.do(
        "admin", "CreateApiToken", service_account=name, description="a case", valid_days=1
    )
    call = ask(bearer(made.token), "CreateDeployment", release=release, environment=place)

    async def follow(error: DomainError) -> None:
        scopes = [error.facts["scope"]]
        await scene.do(
            "admin", "UpdateServiceAccount", service_account=name, scopes=scopes, mask=["scopes"]
        )
        await asyncio.sleep(REMEMBERED_SECONDS)

    return Situation(call, follow)


@case(errors.LastAdmin, "UpdateUser")
async def the_last_admin_steps_back(scene: Scene) -> Situation:
    """It is only tried out: other cases need the admin of the seed."""
    other = await person(scene)
    scene.afterwards.append(ask("admin", "DeactivateUser", user=other))
    admin = access_pb2.ROLE_ADMIN
    call = ask("admin", "UpdateUser", user="admin", role=access_pb2.ROLE_LEAD, validate_only=True)

    async def follow(_: DomainError) -> None:
        await scene.do("admin", "UpdateUser", user=other, role=admin)

    return Situation(call, follow)


@case(errors.ValidationFailed, "the fields named in the details")
async def a_field_is_corrected(_scene: Scene) -> Situation:
    call = ask("admin", "CreateEnvironment", name=fresh("place"), type=1, promotion_order=-1)

    async def follow(error: DomainError) -> Ask:
        (wrong,) = error.fields
        return call.but(**{wrong.field: 900})

    return Situation(call, follow)


@case(errors.MalformedRequest, "the same protos")
async def the_protos_are_those_of_the_server(_scene: Scene) -> Situation:
    call = Ask("viewer1", "ListTeams", raw=b"\xff\xff\xff")

    async def follow(_: DomainError) -> Ask:
        return ask("viewer1", "ListTeams")

    return Situation(call, follow)


@case(errors.PageTokenInvalid, "without a page token")
async def a_list_begins_anew(scene: Scene) -> Situation:
    first = await scene.do("viewer1", "ListTeams", page_size=1)
    call = ask("viewer1", "ListServices", page_token=first.next_page_token)

    async def follow(_: DomainError) -> Ask:
        return call.but(page_token="")

    return Situation(call, follow)


@case(errors.RequestIdReused, "Use a new UUID")
async def each_request_has_its_id(scene: Scene) -> Situation:
    known = str(uuid4())
    await scene.do("admin", "CreateTeam", name=fresh("team"), request_id=known)
    call = ask("admin", "CreateTeam", name=fresh("team"), request_id=known)

    async def follow(_: DomainError) -> Ask:
        return call.but(request_id=str(uuid4()))

    return Situation(call, follow)
