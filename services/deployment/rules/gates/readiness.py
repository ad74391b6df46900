"""The gates about readiness: what has to be there, or to have been there, long enough."""

from datetime import datetime, timedelta

from services.deployment.rules.gates.facts import Gate, GateAnswer, GateFacts, GateStatus
from services.deployment.rules.lifecycle import DeploymentKind
from services.deployment.rules.moments import at_second
from services.deployment.rules.promotion import Need, Predecessor

_UNITS = (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1))


def soak(facts: GateFacts, now: datetime) -> GateAnswer:
    """Say whether the digest has lived in every environment before this one for long enough."""
    span = facts.approval.policy.soak
    if facts.kind is DeploymentKind.ROLLBACK:
        return _not_applicable(Gate.SOAK, "a rollback goes where it has been")
    if not span or not facts.predecessors:
        why = "nothing comes before" if span else "no soak time is required"
        return _not_applicable(Gate.SOAK, why)
    places = [(place, _lives_until(place, span, now)) for place in facts.predecessors]
    gone = [place.environment for place, ready in places if ready is None]
    waiting = [(place, ready) for place, ready in places if ready is not None and now < ready]
    if not gone and not waiting:
        names = ", ".join(place.environment for place, _ in places)
        why = f"it has lived for {in_words(span)} in {names}"
        return GateAnswer(Gate.SOAK, GateStatus.SATISFIED, why)
    version = facts.release.version
    if gone:
        names = ", ".join(gone)
        return GateAnswer(
            Gate.SOAK,
            GateStatus.UNSATISFIED,
            f"{version} is not live in {names}, where it has to live for {in_words(span)}",
            f"PromoteRelease the same digest in {names} again, and let it live there.",
        )
    earliest = max(ready for _, ready in waiting)
    names = ", ".join(place.environment for place, _ in waiting)
    return GateAnswer(
        Gate.SOAK,
        GateStatus.UNSATISFIED,
        f"{version} has lived in {names} for less than {in_words(span)}",
        f"Wait until {at_second(earliest)}.",
        earliest=earliest,
    )


def dependency(facts: GateFacts, _now: datetime) -> GateAnswer:
    """Say whether the services that this one depends on are live here in a version that will do."""
    if facts.kind is DeploymentKind.ROLLBACK:
        return _not_applicable(Gate.DEPENDENCY, "a rollback does not wait for other services")
    if not facts.needs:
        return _not_applicable(Gate.DEPENDENCY, f"{facts.service} depends on no other service")
    missing = [need for need in facts.needs if not need.met]
    if not missing:
        names = ", ".join(f"{need.service} {need.live}" for need in facts.needs)
        return GateAnswer(Gate.DEPENDENCY, GateStatus.SATISFIED, f"live here: {names}")
    fixes = ", ".join(f"{need.service} {_wanted(need)}" for need in missing)
    return GateAnswer(
        Gate.DEPENDENCY,
        GateStatus.UNSATISFIED,
        "; ".join(_missing(need) for need in missing),
        f"Complete a deployment to {facts.environment} of {fixes}, with PromoteRelease.",
    )


def not_before(facts: GateFacts, now: datetime) -> GateAnswer:
    """Say whether the time has come, and has not passed."""
    begin, end = facts.not_before, facts.start_by
    if end is not None and now >= end:
        return GateAnswer(
            Gate.NOT_BEFORE,
            GateStatus.UNSATISFIED,
            f"it had to start by {at_second(end)}",
            "Request a new deployment with PromoteRelease.",
            deadline=end,
        )
    if begin is None:
        return _not_applicable(Gate.NOT_BEFORE, "it may start at any time")
    if now >= begin:
        why = f"it may start since {at_second(begin)}"
        return GateAnswer(Gate.NOT_BEFORE, GateStatus.SATISFIED, why, deadline=end)
    return GateAnswer(
        Gate.NOT_BEFORE,
        GateStatus.UNSATISFIED,
        f"it does not start before {at_second(begin)}",
        f"Wait until {at_second(begin)}, or stop it with CancelDeployment and request another one.",
        deadline=end,
        earliest=begin,
    )


def in_words(span: timedelta) -> str:
    """Return a time span in the largest unit that tells it exactly."""
    seconds = span.total_seconds()
    name, size = next((unit for unit in _UNITS if seconds % unit[1] == 0), ("second", 1))
    number = seconds / size
    return f"{number:g} {name}" if number == 1 else f"{number:g} {name}s"


def _lives_until(place: Predecessor, span: timedelta, now: datetime) -> datetime | None:
    """Return when the digest will have lived there for the span, None if it does not live there.

    Once is enough: what has replaced it since says nothing against it.
    """
    if place.lived >= span:
        return now
    return None if place.live_since is None else place.live_since + span


def _missing(need: Need) -> str:
    runs = f"{need.service} {need.live} is live" if need.live else f"no {need.service} is live"
    return f"{runs}, {_wanted(need)} is needed"


def _wanted(need: Need) -> str:
    return f"{need.minimum} or later" if need.minimum else "any version"


def _not_applicable(gate: Gate, why: str) -> GateAnswer:
    return GateAnswer(gate, GateStatus.NOT_APPLICABLE, why)
