"""Every bad value in every field of every request, on the running product.

What each case may be answered with is decided by `tests.support.corpus`. Whatever the answer:
never UNKNOWN or INTERNAL, always an ErrorInfo, nothing of the inside in a sentence, no row changed,
and the services still there.
"""

import asyncio
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from release_manager.audit.v1 import audit_pb2
from release_manager.catalog.v1 import catalog_pb2

from shared.rpc.interceptors.validation import Validation
from shared.rpc.status import DOMAIN
from shared.setting_values import driver_url
from tests.support.corpus import (
    SOUGHT_CODES,
    UNFORESEEN_CODES,
    Case,
    Code,
    Expected,
    cases,
)
from tests.support.corpus_values import TEXTS
from tests.support.every_rpc import EveryRpc
from tests.support.named_fields import names_the_field
from tests.support.platform import (
    AUDIT,
    CATALOG,
    DEPLOYMENT,
    IDENTITY,
    OUTPUT,
    RETENTION,
    Platform,
    product_methods,
)
from tests.support.raw_calls import Answer, some_at_a_time
from tests.support.rows import RECORDS, changed, fingerprints
from tests.support.things_made import event

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]

METHODS = sorted(product_methods())
LEAST_COMPLAINTS = 20
LOGIN = f"/{IDENTITY}/Login"
LOGOUT = f"/{IDENTITY}/Logout"
CHANGE_PASSWORD = f"/{IDENTITY}/ChangePassword"
# Of these, one caller may have few at a time.
SCARCE = {
    f"/{AUDIT}/ExportAuditLogs",
    f"/{AUDIT}/FollowAuditLogs",
    f"/{DEPLOYMENT}/WatchDeployments",
    f"/{OUTPUT}/TailStageOutput",
}
REFRESH = f"/{IDENTITY}/Refresh"
# A session is what a log-in makes; all others rehearse, or write audit entries only.
MADE_BY = {LOGIN: {"sessions", "refresh_tokens"}}
# What a request is answered with that nothing can make valid: a program has neither session nor
# password, and the token is nobody's.
NOT_OK = {
    REFRESH: Code.UNAUTHENTICATED,
    LOGOUT: Code.PERMISSION_DENIED,
    CHANGE_PASSWORD: Code.PERMISSION_DENIED,
    f"/{RETENTION}/RetireAuditLogs": Code.FAILED_PRECONDITION,  # no month is old enough
}
# After so many wrong passwords the right one has to wait like any other.
IN_TIME = {LOGIN: frozenset({Code.UNAUTHENTICATED, Code.RESOURCE_EXHAUSTED})}

KINDS = ("ErrorInfo", "BadRequest", "RetryInfo", "PreconditionFailure")
# What callers are told; never DebugInfo, which is for stack traces.
DETAILS = {f"google.rpc.{name}" for name in KINDS}
NEVER = {Code.UNKNOWN, Code.INTERNAL, Code.DATA_LOSS, Code.UNIMPLEMENTED}
LEAST_ERRORS_OF_A_METHOD = 10
# What no caller may read: SQL, files, classes, exceptions, addresses in memory, hashes.
INSIDE = re.compile(
    r"""\b(SELECT|INSERT\ INTO|UPDATE|DELETE\ FROM)\s.*\b(FROM|VALUES|SET|WHERE)\b
    | sqlalchemy | asyncpg | pydantic | protovalidate | psycopg | grpc\._ | grpc\.aio
    | Traceback | \bFile\ " | \.py\b | site-packages | /(home|usr|work|tmp|var)/
    | <class\  | \bobject\ at\ 0x | \bNoneType\b | \b[A-Z][A-Za-z]*(Error|Exception|Warning)\b
    | \b(relation|column|constraint|table)\ " | \b(pk|fk|uq|ix|ck)_[a-z_]+
    | \brm_(audit|catalog|deployment)
    | \$2[aby]\$ | password123 | BEGIN\ PRIVATE """,
    re.VERBOSE,
)


@dataclass
class Corpus(EveryRpc):
    """The running product with a valid request for each method, and the errors that were read."""

    read: Counter[tuple[str, Code]] = field(default_factory=Counter)

    async def answer(self, case: Case) -> Answer:
        answer = await self.platform.ask(case.method, case.raw, self.caller(case.method))
        if not answer.ok:
            self.read[case.method, answer.code] += 1
        return answer


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def corpus(platform: Platform) -> Corpus:
    return await Corpus.of(platform)


async def test_there_is_a_valid_request_for_every_method(corpus: Corpus) -> None:
    assert corpus.requests.keys() == product_methods().keys()
    for method, request in corpus.requests.items():
        answer = await corpus.platform.ask(method, request, corpus.caller(method))
        assert answer.code is NOT_OK.get(method, Code.OK), f"{method}: {answer}"


@pytest.mark.parametrize("method", METHODS)
async def test_bad_input(corpus: Corpus, method: str) -> None:
    platform = corpus.platform
    platform.errors.clear()
    corpus.admin = await platform.person("admin")
    valid = corpus.requests[method]
    as_ever = await platform.ask(method, valid, corpus.caller(method))
    tried = list(cases(method, valid))
    excluded = RECORDS | MADE_BY.get(method, set())
    before = await fingerprints(platform.database_url, without=excluded)
    wrong = complaints(tried, await all_answers(corpus, tried), as_ever)
    assert not wrong, f"{len(wrong)} of {len(tried)}:\n" + "\n".join(wrong[:40])
    after = await fingerprints(platform.database_url, without=excluded)
    assert changed(before, after) == {}
    assert platform.errors == []


async def test_the_errors_that_were_read_are_as_many_as_it_looks(corpus: Corpus) -> None:
    """Every sentence of every error of the cases above was searched for what is of the inside."""
    codes = {code for _method, code in corpus.read}
    assert not codes & NEVER
    methods = {method for method, _code in corpus.read}
    assert methods
    assert corpus.read.total() > LEAST_ERRORS_OF_A_METHOD * len(methods)
    said = ", ".join(f"{code.name} {count}" for code, count in of_codes(corpus.read).most_common())
    print(f"{corpus.read.total():,} errors of {len(methods)} methods read: {said}")  # noqa: T201


def of_codes(read: Counter[tuple[str, Code]]) -> Counter[Code]:
    counted: Counter[Code] = Counter()
    for (_method, code), count in read.items():
        counted[code] += count
    return counted


@pytest.mark.parametrize("taken_away", ["check", "_decode"])
async def test_a_missing_guard_is_noticed(
    corpus: Corpus, taken_away: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the validation of requests, or without our own decoding, the corpus complains."""
    method = f"/{CATALOG}/CreateRunbook"
    valid = corpus.requests[method]
    as_ever = await corpus.platform.ask(method, valid, corpus.admin)
    tried = [case for case in cases(method, valid) if not case.is_large]
    with monkeypatch.context() as patched:
        if taken_away == "check":
            patched.setattr(Validation, "check", lambda *_: None)
        else:
            patched.setattr(Validation, "_decode", lambda _self, rpc, raw: rpc.decode(raw))
        answers = await all_answers(corpus, tried)
    corpus.platform.errors.clear()
    assert len(complaints(tried, answers, as_ever)) >= LEAST_COMPLAINTS


async def all_answers(corpus: Corpus, tried: Sequence[Case]) -> list[Answer]:
    """Send all cases, many at a time, but large ones and those of scarce methods one by one."""
    alone = asyncio.Semaphore(1)

    async def one(case: Case) -> Answer:
        async with alone if case.is_large or case.method in SCARCE else nullcontext():
            return await corpus.answer(case)

    return await some_at_a_time(map(one, tried))


def complaints(tried: Sequence[Case], answers: Sequence[Answer], as_ever: Answer) -> Sequence[str]:
    """Return a line for each answer that is wrong."""
    return [
        f"{case.label}: expected {case.expected.name}, was {answer} ({why})"
        for case, answer in zip(tried, answers, strict=True)
        if (why := complaint(case, answer, as_ever))
    ]


def complaint(case: Case, answer: Answer, as_ever: Answer) -> str:
    """Return what is wrong with an answer, or nothing."""
    if answer.code is Code.RESOURCE_EXHAUSTED and case.is_large and not answer.reason:
        return ""  # gRPC itself refuses what is over the server's limit
    allowed = {as_ever.code} | IN_TIME.get(case.method, frozenset())
    match case.expected:
        case Expected.REFUSED:
            allowed = {Code.INVALID_ARGUMENT}
        case Expected.SOUGHT:
            allowed |= SOUGHT_CODES
        case Expected.UNFORESEEN:
            allowed |= UNFORESEEN_CODES
        case Expected.TAKEN:
            pass
    if answer.code not in allowed | case.codes:
        return "wrong code"
    return "" if answer.ok else wrongly_said(case, answer)


def wrongly_said(case: Case, answer: Answer) -> str:
    """Return what is wrong with how a call was refused, or nothing."""
    if not answer.reason or answer.domain != DOMAIN:
        return "no ErrorInfo"
    if not names_the_field(case, answer):
        return f"names {list(answer.fields)[:3]}"
    if not set(answer.details) <= DETAILS:
        return "a detail that callers should not see"
    return "tells of the inside" if INSIDE.search(without_echo(case, answer)) else ""


def without_echo(case: Case, answer: Answer) -> str:
    """Return everything that an answer says but what it repeats of the request."""
    said = " ".join([answer.text, *answer.said])
    return said.replace(case.value, "") if case.value else said


@pytest.mark.parametrize(
    "leak",
    [
        "SELECT id FROM users",
        "(sqlalchemy.exc.DBAPIError) oops",
        'duplicate key breaks constraint "x"',
        "key uq_teams_name",
        'File "servicer.py", line 1',
        "Unexpected <class 'google.protobuf.message.DecodeError'>",
        "KeyError: 1",
        "permission denied for role rm_catalog",
        "open /tmp/keys",
    ],
)
async def test_what_is_of_the_inside_is_noticed(leak: str) -> None:
    assert INSIDE.search(leak)


DAY = Timestamp(seconds=1_700_000_000)
ACROSS: Mapping[str, tuple[str, Message]] = {
    "an interval without length": (
        "ListAuditLogs",
        audit_pb2.ListAuditLogsRequest(
            filter=audit_pb2.AuditLogFilter(start_date=DAY, end_date=DAY)
        ),
    ),
    "an interval that ends before it begins": (
        "ExportAuditLogs",
        audit_pb2.ExportAuditLogsRequest(
            filter=audit_pb2.AuditLogFilter(start_date=DAY, end_date=Timestamp(seconds=1))
        ),
    ),
    "an aggregate without a sequence": (
        "LogAction",
        audit_pb2.LogActionRequest(event=audit_pb2.AuditEvent(aggregate="team:1")),
    ),
    "a sequence without an aggregate": (
        "LogAction",
        audit_pb2.LogActionRequest(event=audit_pb2.AuditEvent(aggregate_seq=1)),
    ),
    "no key at all": ("GetAuditLog", audit_pb2.GetAuditLogRequest()),
    "no events": ("LogActions", audit_pb2.LogActionsRequest()),
    "1,001 events": ("LogActions", audit_pb2.LogActionsRequest(events=[event()] * 1_001)),
}


@pytest.mark.parametrize("name", ACROSS)
async def test_fields_that_do_not_go_together(corpus: Corpus, name: str) -> None:
    rpc, changes = ACROSS[name]
    method = f"/{AUDIT}/{rpc}"
    request = type(changes)()
    if rpc == "LogAction":
        request.CopyFrom(corpus.requests[method])
    request.MergeFrom(changes)
    answer = await corpus.platform.ask(method, request, corpus.caller(method))
    assert (answer.code, answer.reason) == (Code.INVALID_ARGUMENT, "VALIDATION_FAILED")


async def test_text_that_is_accepted_is_kept_as_it_was(corpus: Corpus) -> None:
    """Nothing is trimmed, normalized, escaped or cut: what is read is what was written."""
    platform, how = corpus.platform, {"metadata": corpus.admin}
    valid: Any = corpus.requests[f"/{CATALOG}/CreateRunbook"]
    kept = 0
    for label, text in TEXTS.items():
        request = catalog_pb2.CreateRunbookRequest(
            service=valid.service, title=f"{label}: {text}", content=f"{text}\n{text}."
        )
        if "\0" in text:
            continue
        made = (await platform.catalog.CreateRunbook(request, **how)).runbook
        read = await platform.catalog.GetRunbook(
            catalog_pb2.GetRunbookRequest(runbook=made.id), **how
        )
        assert (read.runbook.title, read.runbook.content) == (request.title, request.content)
        kept += 1
    assert kept == len(TEXTS) - 2


async def test_the_ledger_has_what_was_accepted_and_nothing_else(corpus: Corpus) -> None:
    platform = corpus.platform
    platform.errors.clear()
    for name in ("LogAction", "LogActions"):
        method = f"/{AUDIT}/{name}"
        tried = [case for case in cases(method, corpus.requests[method]) if not case.is_large]
        size = await entries(corpus)
        answers = await all_answers(corpus, tried)
        assert await entries(corpus) - size == sum(appended(method, answer) for answer in answers)
    assert platform.errors == []


def appended(method: str, answer: Answer) -> int:
    """Return how many entries an answer of LogAction or LogActions says were appended."""
    if not answer.ok:
        return 0
    [raw] = answer.answers
    if method.endswith("/LogAction"):
        return int(not audit_pb2.LogActionResponse.FromString(raw).deduplicated)
    results = audit_pb2.LogActionsResponse.FromString(raw).results
    return sum(result.outcome == audit_pb2.APPEND_OUTCOME_APPENDED for result in results)


async def entries(corpus: Corpus) -> int:
    """Return how many entries the ledger has, but for those about denied calls and reused event
    ids, which come a moment later, and about who reads it."""
    connection = await asyncpg.connect(driver_url(corpus.platform.database_url))
    try:
        counted: int = await connection.fetchval(
            "SELECT count(*) FROM audit_logs"
            " WHERE NOT (producer = 'audit' AND category IN ('access', 'security'))"
            " AND NOT (producer IN ('catalog', 'deployment') AND aggregate LIKE 'denial:%')"
        )
    finally:
        await connection.close()
    return counted


async def test_the_corpus_is_as_large_as_it_looks(corpus: Corpus) -> None:
    counted = Counter(
        case.expected
        for method, request in corpus.requests.items()
        for case in cases(method, request)
    )
    assert counted.total() > 8_000
    assert min(counted.values()) > 500
