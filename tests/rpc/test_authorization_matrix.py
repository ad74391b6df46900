"""Every method, called by every kind of caller on the running product, against one reviewed file.

A minimal request is enough: whether a caller may is decided before the request is looked at. What
the file says and what happened are compared by one function, and the last tests prove that neither
it nor the enforcement can be wrong about a single cell without being noticed.
"""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass

import grpc
import pytest
import pytest_asyncio
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from shared.identity.access import AccessRules
from shared.identity.actor import Actor
from shared.rpc.status import DOMAIN
from tests.rpc.authorization import ALLOWED, Cell, Matrix, mismatches
from tests.support.forged_tokens import MINUTE, Forger
from tests.support.platform import (
    AUDIT,
    CATALOG,
    DEPLOYMENT,
    Platform,
    bearer,
    methods_named,
    product_methods,
)
from tests.support.programs import add_person, add_session
from tests.support.raw_calls import Answer, Metadata
from tests.support.rows import changed, fingerprints

pytestmark = pytest.mark.asyncio(loop_scope="session")

MATRIX = Matrix.read()
AT_ONCE = 16
REFUSED = {"R", "S"}  # what the door alone decides; operations ask for credentials themselves
OPENED = (f"/{CATALOG}/CreateTeam", f"/{AUDIT}/ListAuditLogs", f"/{DEPLOYMENT}/CancelDeployment")
LOGOUT = "/release_manager.identity.v1.IdentityService/Logout"
PEOPLE = {"viewer": "viewer1", "developer": "dev1", "lead": "lead1", "admin": "admin"}
PROGRAMS = {
    "program": ("admin",),
    "writer": ("viewer", "audit.write"),
    "exporter": ("lead", "audit.export"),
    "reader": ("lead", "audit.read"),
    "ci": ("developer", "deploy"),
    "eraser": ("admin", "audit.redact"),
    "archivist": ("admin", "audit.retire"),
    "holder": ("admin", "audit.hold"),
    "webhooker": ("admin", "audit.webhooks"),
}


@dataclass
class Observed:
    """What every cell was answered with, and which rows the refused calls changed."""

    answers: Mapping[Cell, Answer]
    changed_by_refused: Mapping[str, object]

    @property
    def letters(self) -> Mapping[Cell, str]:
        return {cell: MATRIX.letter(answer) for cell, answer in self.answers.items()}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def callers(platform: Platform) -> Mapping[str, Metadata]:
    """Give the metadata of every kind of caller."""
    url, keys = platform.database_url, platform.keys
    await add_person(url, "former-admin", "admin", active=False)
    former, admin = (
        Forger(keys, user_id, session_id)
        for session_id, user_id, _refresh in [
            await add_session(url, name) for name in ("former-admin", "admin")
        ]
    )
    tokens = {
        "deactivated": former.token(),
        "expired": admin.aged(60 * MINUTE),
        "forged": admin.signed_by_another(),
        "unsigned": admin.unsigned(),
        "elsewhere": admin.token(admin.claims(aud="another-product")),
    }
    return {
        "anonymous": (),
        **{caller: await platform.person(name) for caller, name in PEOPLE.items()},
        **{caller: bearer(token) for caller, token in tokens.items()},
        **{caller: await platform.program(*what) for caller, what in PROGRAMS.items()},
        **{name: await platform.service_identity(name) for name in ("deployment", "catalog")},
    }


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def served(platform: Platform) -> Mapping[str, grpc.aio.Channel]:
    """Give every method that the running services name by reflection, with its channel."""
    found: dict[str, grpc.aio.Channel] = {}
    for channel in platform.channels.values():
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = reflection_pb2.ServerReflectionRequest(list_services="")
        async for answer in stub.ServerReflectionInfo(iter([asked])):
            for service in answer.list_services_response.service:
                found |= dict.fromkeys(methods_named(service.name), channel)
    return found


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def observed(
    platform: Platform,
    callers: Mapping[str, Metadata],
    served: Mapping[str, grpc.aio.Channel],
) -> Observed:
    """Run every cell: the refused ones first, so that they can be held against the database."""
    cells = [cell for cell in MATRIX.cells if cell[0] in served]
    refused = [cell for cell in cells if MATRIX.cells[cell] != "A"]
    allowed = [cell for cell in cells if MATRIX.cells[cell] == "A"]
    before = await fingerprints(platform.database_url)
    answers = await run(platform, callers, refused)
    after = await fingerprints(platform.database_url)
    answers |= await run(platform, callers, allowed)
    return Observed(answers, changed(before, after))


async def run(
    platform: Platform, callers: Mapping[str, Metadata], cells: list[Cell]
) -> dict[Cell, Answer]:
    """Call the methods of the cells, some at a time, each as its caller."""
    places = asyncio.Semaphore(AT_ONCE)

    async def one(cell: Cell) -> tuple[Cell, Answer]:
        method, caller = cell
        metadata = callers[caller]
        if method == LOGOUT and caller in PEOPLE:  # ends the session, so it gets one of its own
            metadata = bearer((await platform.log_in(PEOPLE[caller])).access_token)
        async with places:
            return cell, await knock(platform, method, metadata)

    return dict(await asyncio.gather(*map(one, cells)))


async def knock(platform: Platform, method: str, metadata: Metadata) -> Answer:
    """Call a method with the smallest request; a stream of health or reflection has no end."""
    endless = method not in product_methods()
    return await platform.ask(method, b"", metadata, most=1 if endless else None)


async def test_every_method_has_a_row_and_every_row_a_method(
    served: Mapping[str, grpc.aio.Channel],
) -> None:
    assert MATRIX.methods == served.keys()
    assert product_methods().keys() <= served.keys()


async def test_the_file_names_the_callers_of_this_test(callers: Mapping[str, Metadata]) -> None:
    assert sorted(callers) == sorted(MATRIX.callers)


async def test_every_cell_is_answered_as_the_file_says(observed: Observed) -> None:
    assert mismatches(MATRIX.cells, observed.letters) == []
    assert len(observed.answers) == len(MATRIX.methods) * len(MATRIX.callers)


async def test_refusals_say_the_same_in_the_same_words(observed: Observed) -> None:
    """A refused caller learns which rule stands in the way, and nothing of the request."""
    for letter, meaning in MATRIX.letters.items():
        refused = [
            answer
            for cell, answer in observed.answers.items()
            if MATRIX.cells[cell] == letter != ALLOWED
        ]
        assert {f"{answer.code.name} {answer.reason}" for answer in refused} <= {meaning}
        assert {answer.domain for answer in refused} <= {DOMAIN}
        texts = {replace_facts(answer) for answer in refused}
        assert len(texts) <= 1, texts


def replace_facts(answer: Answer) -> str:
    """Return the sentence without the facts in it."""
    text = answer.text
    for value in answer.facts.values():
        text = re.sub(rf"\b{re.escape(value)}\b", "…", text)
    return text


async def test_refused_calls_change_nothing(observed: Observed) -> None:
    assert observed.changed_by_refused == {}


async def test_nothing_unexpected_was_logged(platform: Platform, observed: Observed) -> None:
    assert observed.answers
    assert platform.errors == []


async def test_every_flipped_cell_is_noticed(observed: Observed) -> None:
    letters = observed.letters
    for cell in MATRIX.cells:
        noticed = mismatches(MATRIX.flipped(cell).cells, letters)
        assert [mismatch.cell for mismatch in noticed] == [cell]


@pytest.mark.parametrize("method", OPENED)
async def test_an_open_door_is_noticed(
    platform: Platform,
    callers: Mapping[str, Metadata],
    method: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Take the enforcement of the running product away from one method, and run its row."""
    enforced = AccessRules.check

    def open_door(rules: AccessRules, called: str, actor: Actor | None) -> None:
        if called != method:
            enforced(rules, called, actor)

    row = {cell: letter for cell, letter in MATRIX.cells.items() if cell[0] == method}
    with monkeypatch.context() as patched:
        patched.setattr(AccessRules, "check", open_door)
        answers = await run(platform, callers, list(row))
    noticed = mismatches(row, {cell: MATRIX.letter(answer) for cell, answer in answers.items()})
    opened = {cell for cell, letter in row.items() if letter in REFUSED}
    assert opened <= {mismatch.cell for mismatch in noticed}
    platform.errors.clear()  # of operations that were never meant to be reached
