"""Between the messages of insights and the values of this service."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from google.protobuf.duration_pb2 import Duration
from release_manager.deployment.v1 import insights_pb2 as pb

from services.deployment.messages_enums import KIND
from services.deployment.messages_times import duration, moment, timestamp
from services.deployment.operations.dora import Dora, DoraQuery
from services.deployment.rules.dora import (
    DAY,
    Counted,
    Delivery,
    Excluded,
    Figure,
    nearest_rank,
    per,
    rate,
)

USUAL_EVIDENCE: Final = 100
MOST_EVIDENCE: Final = 1_000
_SPEAKS_AGAINST: Final = {
    "failed": "it failed",
    "rolled_back": "it was rolled back",
    "marked_bad": "its release is marked bad there because of it",
}


def wanted(request: pb.GetDoraMetricsRequest) -> DoraQuery:
    """Return what a request asks about."""
    start = moment(request, "start")
    if start is None:  # the contract requires it
        message = "the request has no start"
        raise ValueError(message)
    return DoraQuery(
        start=start,
        end=moment(request, "end"),
        service=request.service,
        team=request.team,
        environment=request.environment,
    )


def figures(found: Dora, max_evidence: int) -> pb.GetDoraMetricsResponse:
    """Return the figures as a message, each list with at most so many deployments."""
    most = min(max_evidence or USUAL_EVIDENCE, MOST_EVIDENCE)
    return pb.GetDoraMetricsResponse(
        start=timestamp(found.interval.start),
        end=timestamp(found.interval.end),
        as_of=timestamp(found.as_of),
        environments=found.environments,
        deployment_frequency=_frequency(found, most),
        lead_time=_lead_time(found, most),
        change_failure_rate=_change_failure_rate(found.changes, most),
        time_to_restore=_time_to_restore(found.restoring, most),
    )


def _frequency(found: Dora, most: int) -> pb.DeploymentFrequency:
    figure, over = found.frequency, found.interval.length
    count = len(figure.counted)
    return pb.DeploymentFrequency(
        deployments=count,
        interval=duration(over),
        per_day=per(DAY, count, over, seen=found.seen),
        per_week=per(7 * DAY, count, over, seen=found.seen),
        days_with_deployment=figure.days,
        days=found.interval.days,
        evidence=_evidence(figure.counted, most, _completed),
        evidence_total=count,
        excluded=_excluded(figure.excluded, most),
    )


def _lead_time(found: Dora, most: int) -> pb.LeadTime:
    figure = found.lead_time
    return pb.LeadTime(
        measured=len(figure.counted),
        deployments=len(found.frequency.counted),
        **_spread(figure),
        evidence=_evidence(figure.counted, most, _brought),
        evidence_total=len(figure.counted),
        excluded=_excluded(figure.excluded, most),
    )


def _change_failure_rate(figure: Figure, most: int) -> pb.ChangeFailureRate:
    failures = len(figure.failed)
    return pb.ChangeFailureRate(
        failures=failures,
        deployments=len(figure.counted),
        rate=rate(failures, len(figure.counted)),
        evidence=_evidence(figure.counted, most, _changed),
        evidence_total=len(figure.counted),
        excluded=_excluded(figure.excluded, most),
    )


def _time_to_restore(figure: Figure, most: int) -> pb.TimeToRestore:
    return pb.TimeToRestore(
        restored=len(figure.durations),
        failures=len(figure.counted),
        **_spread(figure),
        evidence=_evidence(figure.counted, most, _restored),
        evidence_total=len(figure.counted),
        excluded=_excluded(figure.excluded, most),
    )


def _completed(one: Counted) -> dict[str, Any]:
    later = " It was rolled back later." if one.delivery.rolled_back_by else ""
    return {"because": f"It completed in {one.delivery.environment}, and is no rollback.{later}"}


def _brought(one: Counted) -> dict[str, Any]:
    if one.brought is None:
        return {}
    earliest, releases = one.brought
    told = earliest.commit_time is not None
    source = "COMMIT_TIME" if told else "RELEASE_CREATED"
    what = "the commit" if told else "the creation, in place of the commit,"
    return {
        "because": f"It brought {releases} release(s) there first, and {what} of {earliest.name}"
        " is the earliest.",
        "lead_time": pb.LeadTimeEvidence(
            earliest_release=earliest.name,
            commit_time=timestamp(earliest.committed_at),
            commit_time_source=pb.CommitTimeSource.Value(f"COMMIT_TIME_SOURCE_{source}"),
            releases=releases,
        ),
    }


def _changed(one: Counted) -> dict[str, Any]:
    place = one.delivery.environment
    if not one.failures:
        return {"because": f"It reached {place}, and nothing speaks against it."}
    against = ", and ".join(_SPEAKS_AGAINST[failure] for failure in one.failures)
    return {
        "because": f"It reached {place}, and failed: {against}.",
        "failure": pb.ChangeFailureEvidence(
            reasons=[
                pb.ChangeFailureReason.Value(f"CHANGE_FAILURE_REASON_{failure.upper()}")
                for failure in one.failures
            ],
            rolled_back_by=str(one.delivery.rolled_back_by or ""),
            marks=map(str, one.marks),
        ),
    }


def _restored(one: Counted) -> dict[str, Any]:
    place, restored = one.delivery.environment, one.restored
    if restored is None:
        because = f"It failed, and nothing that stands has completed in {place} since."
        return {"because": because, "restore": pb.RestoreEvidence()}
    return {
        "because": f"It failed, and the next that stands in {place} is {restored.by}.",
        "restore": pb.RestoreEvidence(
            restored_by=str(restored.by), restored_at=timestamp(restored.at)
        ),
    }


def _evidence(counted: Sequence[Counted], most: int, more: Any) -> Iterable[pb.DoraEvidence]:  # noqa: ANN401  (what a figure adds)
    for one in counted[:most]:
        delivery = one.delivery
        yield pb.DoraEvidence(
            deployment=str(delivery.id),
            release=delivery.release,
            environment=delivery.environment,
            kind=KIND[delivery.kind],
            ended_at=timestamp(delivery.ended_at),
            duration=duration(one.duration),
            **more(one),
        )


def _excluded(
    excluded: Mapping[Excluded, tuple[Delivery, ...]], most: int
) -> Iterable[pb.DoraExclusion]:
    for reason, deliveries in excluded.items():
        yield pb.DoraExclusion(
            reason=pb.DoraExclusionReason.Value(f"DORA_EXCLUSION_REASON_{reason.upper()}"),
            total=len(deliveries),
            deployments=[str(one.id) for one in deliveries[:most]],
        )


def _spread(figure: Figure) -> dict[str, Duration | None]:
    """Return what half and nine tenths of the measured do not exceed; nothing without any."""
    ranks = {
        "median": nearest_rank(figure.durations, 50),
        "p90": nearest_rank(figure.durations, 90),
    }
    return {name: duration(value) for name, value in ranks.items() if value is not None}
