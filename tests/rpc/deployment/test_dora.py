"""GetDoraMetrics on the whole product: what is refused, and what the seeded data gives."""

import time
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from release_manager.deployment.v1 import insights_pb2 as pb

from shared.errors import ResourceNotFound, ValidationFailed
from tests.rpc.catalog.conftest import refusal
from tests.support.platform import Platform

pytestmark = pytest.mark.asyncio(loop_scope="session")

DAY = 86_400
PAST = 1_700_000_000


def asked(**fields: Any) -> pb.GetDoraMetricsRequest:
    """Return a request about a day long ago, with other fields where they are given."""
    usual = {"start": Timestamp(seconds=PAST), "end": Timestamp(seconds=PAST + DAY)}
    return pb.GetDoraMetricsRequest(**{**usual, **fields})


async def ask(platform: Platform, request: pb.GetDoraMetricsRequest) -> pb.GetDoraMetricsResponse:
    found: pb.GetDoraMetricsResponse = await platform.insights.GetDoraMetrics(
        request, metadata=await platform.person("viewer1")
    )
    return found


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({}, "scope"),
        ({"all": False}, "all"),
        ({"service": ""}, "service"),
        ({"all": True, "start": None}, "start"),
        ({"all": True, "max_evidence": -1}, "max_evidence"),
        ({"all": True, "end": Timestamp(seconds=PAST)}, "start"),
        ({"all": True, "end": Timestamp(seconds=PAST - 1)}, "start"),
        ({"all": True, "end": Timestamp(seconds=PAST + 366 * DAY + 1)}, "start"),
        ({"all": True, "end": Timestamp(seconds=253_402_300_799)}, "end"),
    ],
    ids=lambda case: case if isinstance(case, str) else "",
)
async def test_what_cannot_be_measured_is_refused(
    platform: Platform, fields: dict[str, Any], field: str
) -> None:
    error = await refusal(ask(platform, asked(**fields)))
    assert isinstance(error, ValidationFailed)
    assert [violation.field for violation in error.fields] == [field]


@pytest.mark.parametrize("what", ["service", "team", "environment"])
async def test_what_is_not_there_is_refused(platform: Platform, what: str) -> None:
    scope = {"all": True} if what == "environment" else {}
    error = await refusal(ask(platform, asked(**scope, **{what: "nowhere"})))
    assert isinstance(error, ResourceNotFound)
    assert error.facts["resource_type"] == what


async def test_a_year_is_not_too_long(platform: Platform) -> None:
    request = asked(all=True, end=Timestamp(seconds=PAST + 366 * DAY))
    assert (await ask(platform, request)).deployment_frequency.interval.seconds == 366 * DAY


async def test_no_data_is_absent(platform: Platform) -> None:
    found = await ask(platform, asked(all=True))
    assert list(found.environments) == ["Prod"]
    absent = [
        (found.deployment_frequency, "per_day"),
        (found.deployment_frequency, "per_week"),
        (found.lead_time, "median"),
        (found.lead_time, "p90"),
        (found.change_failure_rate, "rate"),
        (found.time_to_restore, "median"),
        (found.time_to_restore, "p90"),
    ]
    assert not [name for figure, name in absent if figure.HasField(name)]


async def test_the_seeded_payment_in_dev(platform: Platform) -> None:
    """1.0.0 works, 1.1.0 is rolled back, 1.2.0 fails and its rollback has not ended."""
    start = Timestamp(seconds=int(time.time()) - 60 * DAY)
    request = pb.GetDoraMetricsRequest(
        service="payment", environment="dev", start=start, max_evidence=1
    )
    found = await ask(platform, request)
    frequency, changes = found.deployment_frequency, found.change_failure_rate
    assert (frequency.deployments, len(frequency.evidence), frequency.evidence_total) == (2, 1, 2)
    assert (changes.failures, changes.deployments, changes.rate) == (2, 3, 2 / 3)
    assert (found.time_to_restore.restored, found.time_to_restore.failures) == (1, 2)
    assert found.time_to_restore.median.seconds > 0
    told = found.lead_time.evidence[0].lead_time
    assert told.commit_time_source == pb.COMMIT_TIME_SOURCE_COMMIT_TIME
    assert found.lead_time.measured == 2
    assert found.as_of == found.end
    assert {(one.reason, one.total) for one in changes.excluded} == {
        (pb.DORA_EXCLUSION_REASON_ROLLBACK, 2)
    }
