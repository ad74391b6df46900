"""What a person with nothing but grpcurl can do: every RPC is found, described and called.

`buf curl` stands in for grpcurl, which is no Python package; like it, it knows of the services only
what reflection tells.
"""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio
from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message

from tests.support.grpcurl import BUF
from tests.support.platform import (
    AUDIT,
    CATALOG,
    DEPLOYMENT,
    ENDLESS,
    EXECUTION,
    IDENTITY,
    INSIGHTS,
    NOTIFICATIONS,
    OUTPUT,
    RESTRICTIONS,
    RETENTION,
    Platform,
    product_methods,
)
from tests.support.raw_calls import Metadata
from tests.support.valid_requests import valid_requests

pytestmark = pytest.mark.asyncio(loop_scope="session")

AT_ONCE = 3
ADDRESSES = {
    AUDIT: "audit",
    NOTIFICATIONS: "audit",
    RETENTION: "audit",
    IDENTITY: "catalog",
    CATALOG: "catalog",
    DEPLOYMENT: "deployment",
    EXECUTION: "deployment",
    INSIGHTS: "deployment",
    OUTPUT: "deployment",
    RESTRICTIONS: "deployment",
}
# A person's session is not ended by a program's log-out, and nobody has this refresh token.
# No month is old enough to be dropped.
NOT_OK = {
    "ChangePassword": "permission_denied",
    "Logout": "permission_denied",
    "Refresh": "unauthenticated",
    "RetireAuditLogs": "failed_precondition",
}

ALWAYS = (
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
)


@dataclass
class Curl:
    """buf curl against the running services."""

    platform: Platform
    requests: Mapping[str, Message]
    admin: Metadata
    writer: Metadata
    program: Metadata

    async def run(self, name: str, path: str, *words: str) -> tuple[int, str, str]:
        """Run buf curl against the service that has this short name; return code and outputs.

        Of a stream without end, the first answer is the output.
        """
        address = self.platform.addresses[name]
        process = await asyncio.create_subprocess_exec(
            BUF, "curl", "--protocol", "grpc", "--http2-prior-knowledge", *words,
            f"http://{address}{path}",
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        if path in ENDLESS:
            assert process.stdout is not None
            first = await process.stdout.readuntil(b"}\n")
            process.terminate()
            await process.communicate()
            return 0, first.decode(), ""
        out, err = await process.communicate()
        return process.returncode or 0, out.decode(), err.decode()

    async def call(self, method: str, data: str, caller: Metadata) -> tuple[int, str, str]:
        """Call a method with a request in JSON."""
        headers = [word for key, value in caller for word in ("-H", f"{key}: {value!s}")]
        return await self.run(ADDRESSES[method.split("/")[1]], method, *headers, "-d", data)

    async def answer(self, method: str, **request: object) -> Any:
        """Call a method as admin, which must succeed; return its answer."""
        code, out, err = await self.call(method, json.dumps(request), self.admin)
        assert code == 0, err
        return json.loads(out)

    def caller(self, method: str) -> Metadata:
        """Return who may call a method without harm to the other calls."""
        name = method.split("/")[2]
        if name in {"LogAction", "LogActions", "GetAggregateSequences"}:
            return self.writer
        return self.program if name in {"Logout", "ChangePassword"} else self.admin


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def curl(platform: Platform) -> Curl:
    admin = await platform.person("admin")
    writer = await platform.program("viewer", "audit.write", "on_behalf_of")
    program = await platform.program("admin")
    requests = await valid_requests(platform, admin, writer)
    return Curl(platform, requests, admin, writer, program)


async def test_every_rpc_is_reached_by_reflection(curl: Curl) -> None:
    places = asyncio.Semaphore(AT_ONCE)

    async def one(method: str, request: Message) -> str:
        async with places:
            code, out, err = await curl.call(method, MessageToJson(request), curl.caller(method))
        expected = NOT_OK.get(method.split("/")[2])
        if expected is not None:
            return "" if f'"{expected}"' in err else f"{method}: {out}{err}"
        return "" if code == 0 and not err else f"{method}: {out}{err}"

    assert curl.requests.keys() == product_methods().keys()
    failed = await asyncio.gather(*(one(*item) for item in curl.requests.items()))
    assert [text for text in failed if text] == []


@pytest.mark.parametrize("service", sorted(set(ADDRESSES.values())))
async def test_each_service_lists_its_own(curl: Curl, service: str) -> None:
    own = sorted(name for name, where in ADDRESSES.items() if where == service)
    code, out, err = await curl.run(service, "", "--list-services")
    assert code == 0, err
    assert sorted(out.split()) == sorted([*own, *ALWAYS])
    code, out, err = await curl.run(service, "", "--list-methods")
    assert code == 0, err
    listed = {f"/{line}" for line in out.split() if line.split("/")[0] in own}
    assert listed == {method for method in product_methods() if method.split("/")[1] in own}


async def test_things_are_named_by_name_or_by_id(curl: Curl) -> None:
    """Every kind of thing that a request names, by its name in any case and by its id."""
    named = {
        (f"/{CATALOG}/GetTeam", "team"): "Platform",
        (f"/{CATALOG}/GetService", "service"): "auth",
        (f"/{CATALOG}/GetEnvironment", "environment"): "Prod",
        (f"/{IDENTITY}/GetUser", "user"): "dev1",
    }
    for (method, field), name in named.items():
        answers = [
            await curl.answer(method, **{field: spelled})
            for spelled in (name, name.lower(), name.upper())
        ]
        found = answers[0][field]
        answers.append(await curl.answer(method, **{field: found["id"]}))
        answers.append(await curl.answer(method, **{field: found["id"].upper()}))
        assert answers == [answers[0]] * 5


async def test_releases_are_named_by_service_and_version(curl: Curl) -> None:
    listed = await curl.answer(f"/{CATALOG}/ListReleases", service="auth")
    for release in listed["releases"]:
        by_name = await curl.answer(f"/{CATALOG}/GetRelease", release=release["name"])
        by_id = await curl.answer(f"/{CATALOG}/GetRelease", release=release["id"])
        assert by_name == by_id
        assert by_name["release"]["name"] == f"auth@{by_name['release']['version']}"


async def test_filters_take_names_and_ids(curl: Curl) -> None:
    service = (await curl.answer(f"/{CATALOG}/GetService", service="auth"))["service"]["id"]
    environment = await curl.answer(f"/{CATALOG}/GetEnvironment", environment="prod")
    environment = environment["environment"]["id"]
    for method in (f"/{DEPLOYMENT}/ListDeployments", f"/{DEPLOYMENT}/ListEnvironmentStatuses"):
        answers = [
            await curl.answer(method, service=one, environment=other)
            for one, other in (("auth", "prod"), (service, environment), ("AUTH", "PROD"))
        ]
        for answer in answers:  # each has a moment of its own
            for status in answer.get("statuses", ()):
                status.pop("asOf", None)
            answer.pop("asOf", None)
        assert answers[0]
        assert answers == [answers[0]] * 3


async def test_a_release_is_deployed_by_names_and_by_ids(curl: Curl) -> None:
    request: Any = curl.requests[f"/{DEPLOYMENT}/CreateDeployment"]
    release = await curl.answer(f"/{CATALOG}/GetRelease", release=request.release)
    environment = await curl.answer(f"/{CATALOG}/GetEnvironment", environment="dev")
    ids = release["release"]["id"], environment["environment"]["id"]
    for names in ((request.release, "dev"), (request.release.upper(), "DEV"), ids):
        answer = await curl.answer(
            f"/{DEPLOYMENT}/CreateDeployment",
            release=names[0],
            environment=names[1],
            validate_only=True,
        )
        assert answer["deployment"]["releaseId"] == ids[0]
        assert answer["deployment"]["environmentId"] == ids[1]


async def test_an_error_says_what_to_do(curl: Curl) -> None:
    code, _out, err = await curl.call(
        f"/{CATALOG}/GetRelease", '{"release": "auth@0.0.0"}', curl.admin
    )
    assert code != 0
    assert "not_found" in err
    assert "There is no release auth@0.0.0." in err
    assert "google.rpc.ErrorInfo" in err
    code, _out, err = await curl.call(f"/{CATALOG}/ListTeams", "{}", ())
    assert code != 0
    assert "Log in with IdentityService/Login" in err
