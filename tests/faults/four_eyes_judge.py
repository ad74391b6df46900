"""What PostgreSQL saw at each commit of a race, and whether that was as it must be.

A witness in the database writes down what is true when a decision or a start commits. What is
concluded from it here uses nothing of the service: no rule, no status that it computed.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from release_manager.deployment.v1 import deployment_pb2 as pb

from shared.domain_error import DomainError

Facts = Mapping[str, Any]

# Deferred to the commit, so that whatever came between a check and the commit of what it let
# pass is seen: a change of a role, a policy or a digest that no lock has kept away.
WITNESS = """
    CREATE TABLE witnessed (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        deployment_id uuid NOT NULL,
        about text NOT NULL,
        facts jsonb NOT NULL
    );
    CREATE INDEX ON witnessed (deployment_id);
    CREATE FUNCTION witness() RETURNS trigger LANGUAGE plpgsql
        SECURITY DEFINER SET search_path = public AS $$
    DECLARE
        before jsonb := CASE WHEN TG_OP <> 'INSERT' THEN to_jsonb(OLD) END;
        after jsonb := CASE WHEN TG_OP <> 'DELETE' THEN to_jsonb(NEW) END;
        subject uuid := coalesce(after, before) ->> TG_ARGV[0];
    BEGIN
        INSERT INTO witnessed (deployment_id, about, facts)
        SELECT d.id, TG_TABLE_NAME, jsonb_build_object(
            'before', before, 'after', after, 'requesters', d.requesters, 'authors', r.authors,
            'digest', r.artifact_digest, 'policy_version', e.policy_version, 'policy', p.policy,
            'policy_then', (SELECT coalesce(max(o.policy_version), 0) FROM environment_policies o
                WHERE o.environment_id = e.id AND o.created_at <= d.started_at),
            'approvals', (SELECT coalesce(jsonb_agg(to_jsonb(a)), '[]') FROM approvals a
                WHERE a.deployment_id = d.id),
            'people', (SELECT jsonb_object_agg(u.id, to_jsonb(u)) FROM users u
                JOIN approvals a ON a.approver_id = u.id WHERE a.deployment_id = d.id))
        FROM deployments d
        JOIN releases r ON r.id = d.release_id
        JOIN environments e ON e.id = d.environment_id
        LEFT JOIN environment_policies p
            ON p.environment_id = e.id AND p.policy_version = e.policy_version
        WHERE d.id = subject;
        RETURN NULL;
    END $$;
    CREATE CONSTRAINT TRIGGER witness AFTER INSERT OR UPDATE OR DELETE ON approvals
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION witness('deployment_id');
    CREATE CONSTRAINT TRIGGER witness AFTER UPDATE ON deployments
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
        WHEN (OLD.status <> NEW.status) EXECUTE FUNCTION witness('id');
"""
RANKS = {"viewer": 1, "developer": 2, "lead": 3, "admin": 4}
# What an environment for production asks for as long as nobody has published anything else.
UNPUBLISHED = {
    "required_approvals": 2,
    "lead_required": True,
    "minimum_role": "developer",
    "valid_for_seconds": 86_400,
}
DECIDED = ("approved", "rejected")
SELF = "decided about their own"
BELOW = "started with too few"
TWICE = "counted twice"
UNQUALIFIED = "decided without the right to"
UNBOUND = "bound to something else than what was there"
CHANGED = "changed afterwards"
ANSWERED = "answered something else than what happened"


@dataclass(frozen=True, slots=True)
class Answer:
    """What somebody asked for in a race, and got: a response or an error."""

    who: str
    user_id: UUID
    what: str
    result: object

    @property
    def accepted(self) -> bool:
        """Whether it was done."""
        return not isinstance(self.result, DomainError)

    @property
    def outcome(self) -> str:
        """The reason of a refusal, or that it was done."""
        return self.result.reason if isinstance(self.result, DomainError) else "done"


def judged(seen: Sequence[tuple[str, Facts]], answers: Sequence[Answer]) -> list[str]:
    """Return what was wrong in a race; `seen` are a table and what was witnessed, in order."""
    wrong: list[str] = []
    starts = 0
    for table, facts in seen:
        if table == "approvals":
            wrong += _about_decision(facts)
        elif facts["before"]["status"] == "pending" and facts["after"]["started_at"] is not None:
            starts += 1
            wrong += _about_start(facts)
    if starts > 1:
        wrong.append(f"{ANSWERED}: started {starts} times")
    return wrong + list(_about_answers(seen, starts, answers))


def counted(facts: Facts) -> list[Facts]:
    """Return the approvals that count for a start which commits where this is true."""
    policy, started = _policy(facts), _time(facts["after"]["started_at"])
    return [row for row in facts["approvals"] if _counts(row, facts, policy, started)]


def _counts(row: Facts, facts: Facts, policy: Facts, started: datetime) -> bool:
    return (
        row["status"] == "approved"
        and row["artifact_digest"] == facts["digest"]
        and row["policy_version"] == facts["policy_version"]
        and _time(row["decided_at"]) <= started < _end(row, policy)
        and not _own(row, facts)
        and _qualified(row, facts)
    )


def _about_start(facts: Facts) -> Iterator[str]:
    policy, valid = _policy(facts), counted(facts)
    people = {row["approver_id"] for row in valid}
    if len(people) < policy["required_approvals"]:
        yield f"{BELOW}: {len(people)} of {policy['required_approvals']} approvals"
    ranks = [min(_rank(row["approver_role"]), _rank_now(row, facts)) for row in valid]
    if policy["lead_required"] and max(ranks, default=0) < RANKS["lead"]:
        yield f"{BELOW}: no lead or admin among them"
    if any(row["status"] == "rejected" for row in facts["approvals"]):
        yield f"{BELOW}: somebody has rejected it"
    if facts["policy_then"] != facts["policy_version"]:
        yield f"{UNBOUND}: started under {facts['policy_version']}, by its time not"


def _about_decision(facts: Facts) -> Iterator[str]:
    """Look at one change of a row of approvals when it commits."""
    before, row = facts["before"], facts["after"]
    if before is not None and before["decided_at"] is not None:
        yield from _unchanged(before, row)
        return
    if row is None or row["status"] not in DECIDED:
        return
    if _own(row, facts):
        yield f"{SELF}: {row['status']}"
    if not _qualified(row, facts) or _rank(row["approver_role"]) != _rank_now(row, facts):
        yield f"{UNQUALIFIED}: {facts['people'][row['approver_id']]['role']}"
    if row["artifact_digest"] != facts["digest"]:
        yield f"{UNBOUND}: the digest"
    if row["policy_version"] != facts["policy_version"]:
        yield f"{UNBOUND}: policy {row['policy_version']}, not {facts['policy_version']}"
    current = Counter(
        other["approver_id"] for other in facts["approvals"] if other["status"] in DECIDED
    )
    if current[row["approver_id"]] != 1:
        yield f"{TWICE}: {current[row['approver_id']]} current decisions of one person"


def _unchanged(before: Facts, after: Facts | None) -> Iterator[str]:
    """A decision stays for ever; an approval may become void, and nothing else of it changes."""
    if after is None:
        yield f"{CHANGED}: deleted"
        return
    changed = {name for name in after if after[name] != before[name]} - {"updated_at"}
    void = before["status"] == "approved" and after["status"] in ("expired", "revoked")
    if changed - {"status"} or ("status" in changed and not void):
        yield f"{CHANGED}: {', '.join(sorted(changed))}"


def _about_answers(
    seen: Sequence[tuple[str, Facts]], starts: int, answers: Sequence[Answer]
) -> Iterator[str]:
    """Hold what people were told against what was committed."""
    decided = {
        (facts["after"]["approver_id"], facts["after"]["status"])
        for table, facts in seen
        if table == "approvals" and facts["after"] and facts["after"]["status"] in DECIDED
    }
    told = [answer for answer in answers if answer.accepted]
    if sum(answer.what == "start" for answer in told) != starts:
        yield f"{ANSWERED}: starts, of which there were {starts}"
    words = {"approve": "approved", "reject": "rejected"}
    claimed = {(str(one.user_id), words[one.what]) for one in told if one.what in words}
    if claimed != decided:
        yield f"{ANSWERED}: decisions {claimed ^ decided}"
    people = len({person for person, status in decided if status == "approved"})
    for answer in told:
        if isinstance(answer.result, pb.ApproveDeploymentResponse):
            given = answer.result.deployment.approvals_given
            if not 0 < given <= people:
                yield f"{ANSWERED}: {given} approvals by {people} people"


def _own(row: Facts, facts: Facts) -> bool:
    return row["approver_id"] in (*facts["requesters"], *facts["authors"])


def _qualified(row: Facts, facts: Facts) -> bool:
    person = facts["people"][row["approver_id"]]
    least = max(_rank(_policy(facts)["minimum_role"]), RANKS["developer"])
    return person["active"] and person["kind"] == "person" and _rank(person["role"]) >= least


def _policy(facts: Facts) -> Facts:
    return UNPUBLISHED | (facts["policy"] or {})


def _rank(role: str | None) -> int:
    return RANKS[role or "viewer"]


def _rank_now(row: Facts, facts: Facts) -> int:
    return _rank(facts["people"][row["approver_id"]]["role"])


def _end(row: Facts, policy: Facts) -> datetime:
    seconds = policy["valid_for_seconds"]
    given = _time(row["decided_at"])
    return (
        datetime.max.replace(tzinfo=given.tzinfo)
        if seconds is None
        else given + timedelta(seconds=seconds)
    )


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
