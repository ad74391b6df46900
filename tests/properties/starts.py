"""Whether a start was as it must be, concluded from what was there when it committed.

Approvals, four eyes, release, promotion order, soak, locks and freeze windows; nothing of the
service's own rules is asked. The numbers are those of the description of its behaviour.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Final

from tests.properties.witness import Facts

UNAPPROVED: Final = "started without the approvals of its policy"
OWN: Final = "an approval by somebody who is behind it counted"
UNPOLICED: Final = "measured by another policy than the one in force"
UNFIT: Final = "started a release that may not be there"
OUT_OF_ORDER: Final = "started before it had completed where it has to before"
UNSOAKED: Final = "started before it had lived elsewhere for long enough"
LOCKED: Final = "started under a lock"
FROZEN: Final = "started in a freeze window"
UNTIMELY: Final = "started at another time than it may"

RANKS: Final = {"viewer": 1, "developer": 2, "lead": 3, "admin": 4}
DEFAULTS: Final[Facts] = {
    "dev": {"required_approvals": 0},
    "staging": {"required_approvals": 1, "valid_for_seconds": 7 * 86_400},
    "prod": {
        "required_approvals": 2,
        "lead_required": True,
        "author_may_approve": False,
        "valid_for_seconds": 86_400,
        "soak_seconds": 1_800,
    },
}
NOTHING_MORE: Final[Facts] = {
    "lead_required": False,
    "minimum_role": "developer",
    "requester_may_approve": False,
    "author_may_approve": True,
    "valid_for_seconds": None,
    "soak_seconds": 0,
}


def judged_start(facts: Facts) -> list[str]:
    """Return what was wrong with a start."""
    rollback = facts["after"]["kind"] == "rollback"
    if rollback:
        return [*_restricted(facts), *_unfit(facts)]
    return [
        *_unapproved(facts),
        *_restricted(facts),
        *_unfit(facts),
        *_unready(facts),
    ]


def asked_policy(facts: Facts) -> dict[str, Any]:
    """Return the policy in force, with what its environment's type asks for by itself."""
    usual = DEFAULTS[facts["environment"]["environment_type"]]
    return {**NOTHING_MORE, **usual, **(facts["policy"] or {})}


def counted(facts: Facts) -> list[Facts]:
    """Return the approvals that count: current, bound to what is there, and by who may."""
    return [row for row in facts["approvals"] if _counts(row, facts)]


def _counts(row: Facts, facts: Facts) -> bool:
    policy, person = asked_policy(facts), facts["people"][row["approver_id"]]
    started = _time(facts["after"]["started_at"])
    return (
        row["status"] == "approved"
        and row["artifact_digest"] == facts["release"]["artifact_digest"]
        and row["policy_version"] == facts["environment"]["policy_version"]
        and row["overrides_version"] == len(facts["overrides"])
        and _time(row["decided_at"]) <= started < _end(row, policy)
        and person["active"]
        and person["kind"] == "person"
        and _rank(person) >= max(RANKS[policy["minimum_role"]], RANKS["developer"])
        and not _own(row, facts)
    )


def _own(row: Facts, facts: Facts) -> bool:
    policy, who = asked_policy(facts), row["approver_id"]
    requested = who in facts["after"]["requesters"] and not policy["requester_may_approve"]
    written = who in facts["release"]["authors"] and not policy["author_may_approve"]
    return requested or written


def _unapproved(facts: Facts) -> Iterator[str]:
    policy, valid = asked_policy(facts), counted(facts)
    needed = policy["required_approvals"]
    people = {row["approver_id"] for row in valid}
    if facts["policy_then"] != facts["environment"]["policy_version"]:
        yield UNPOLICED
    if not needed:
        return
    if len(people) < needed:
        yield f"{UNAPPROVED}: {len(people)} of {needed}"
        standing = {row["approver_id"] for row in facts["approvals"] if row["status"] == "approved"}
        own = {row["approver_id"] for row in facts["approvals"] if _own(row, facts)} & standing
        if own:
            yield OWN
    if any(row["status"] == "rejected" for row in facts["approvals"]):
        yield f"{UNAPPROVED}: somebody has rejected it"
    leads = {
        row["approver_id"]
        for row in valid
        if min(RANKS[row["approver_role"]], _rank(facts["people"][row["approver_id"]]))
        >= RANKS["lead"]
    }
    barred = [set(one["authors"]) for one in facts["overrides"]] or [set()]
    if policy["lead_required"] and any(not leads - authors for authors in barred):
        yield f"{UNAPPROVED}: no lead or admin who has no part in the override"


def _restricted(facts: Facts) -> Iterator[str]:
    after = facts["after"]
    started, rollback = _time(after["started_at"]), after["kind"] == "rollback"
    let_past = _let_past(facts)
    for lock in facts["locks"]:
        ends = [_time(lock[name]) for name in ("released_at", "expires_at") if lock[name]]
        holds = _time(lock["created_at"]) <= started < min(ends, default=_never(started))
        if holds and (lock["includes_rollbacks"] or not rollback) and "lock" not in let_past:
            yield LOCKED
    covering = [window for window in facts["windows"] if _covers(window, facts)]
    open_now = {window["id"] for window in covering if _is_open(window, started)}
    denied = [w for w in covering if w["kind"] == "deny" and w["id"] in open_now]
    allowing = [w for w in covering if w["kind"] == "allow"]
    closed = [w for w in allowing if w["id"] not in open_now]
    if rollback:
        denied = [window for window in denied if window["includes_rollbacks"]]
        allowing = closed = [window for window in allowing if window["includes_rollbacks"]]
        closed = [window for window in closed if window["id"] not in open_now]
    if "freeze" not in let_past and (denied or (allowing and len(closed) == len(allowing))):
        yield FROZEN


def _unfit(facts: Facts) -> Iterator[str]:
    release = facts["release"]
    if release["status"] in ("draft", "abandoned") or release["archived_at"] is not None:
        yield f"{UNFIT}: {release['status']}"
    if facts["marks"]:
        yield f"{UNFIT}: it is marked bad"


def _unready(facts: Facts) -> Iterator[str]:
    let_past, after = _let_past(facts), facts["after"]
    if "promotion_order" not in let_past:
        for place in facts["before_here"]:
            if place["newest"] != "completed":
                yield f"{OUT_OF_ORDER}: {place['environment']}"
    # What lives somewhere since a minute has not lived there for the hours that are asked for.
    if asked_policy(facts)["soak_seconds"] > 86_400 and "soak" not in let_past:
        yield UNSOAKED
    started = _time(after["started_at"])
    if after["not_before"] and started < _time(after["not_before"]):
        yield f"{UNTIMELY}: too early"
    if after["start_by"] and started >= _time(after["start_by"]):
        yield f"{UNTIMELY}: too late"


def _let_past(facts: Facts) -> set[str]:
    return {override["gate"] for override in facts["overrides"]}


def _covers(window: Facts, facts: Facts) -> bool:
    """Say whether a window is about this service and environment; about teams none is here."""
    after, subjects = facts["after"], window["subjects"]
    services = [s["service_id"] for s in subjects if s["service_id"] and not s["exempt"]]
    exempt = [s["service_id"] for s in subjects if s["exempt"]]
    places = [s["environment_id"] for s in subjects if s["environment_id"]]
    types = window["environment_types"]
    return (
        (not services or after["service_id"] in services)
        and after["service_id"] not in exempt
        and (not places or after["environment_id"] in places)
        and (not types or facts["environment"]["environment_type"] in types)
    )


def _is_open(window: Facts, moment: datetime) -> bool:
    """Say whether a window with one fixed span is open; there are no others here."""
    span = window["schedule"]["once"]
    return _time(span["opens_at"]) <= moment < _time(span["closes_at"])


def _rank(person: Facts) -> int:
    return RANKS[person["role"]]


def _end(row: Facts, policy: Facts) -> datetime:
    given, seconds = _time(row["decided_at"]), policy["valid_for_seconds"]
    return _never(given) if seconds is None else given + timedelta(seconds=seconds)


def _never(moment: datetime) -> datetime:
    return datetime.max.replace(tzinfo=moment.tzinfo)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
