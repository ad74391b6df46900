"""What a policy may say, how it is stored, and what a new one does to the time to decide."""

import json
from dataclasses import fields, replace
from datetime import timedelta
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.deployment.operations.policies import content_of, policy_of
from services.deployment.rules import approvals
from services.deployment.rules.approvals import ApprovalStatus
from services.deployment.rules.policy import (
    EnvironmentType,
    OnFailure,
    Policy,
    check_consistent,
    default_policy,
)
from shared.errors import ValidationFailed
from shared.identity.actor import Role
from tests.unit.deployment.facts import HOUR, START, approval, asked, person

APPROVING = (Role.DEVELOPER, Role.LEAD, Role.ADMIN)
COMBINATIONS = list(product((0, 1, 10), APPROVING, (False, True)))
spans = st.timedeltas(timedelta(seconds=1), timedelta(days=365))
limits = st.none() | spans
policies = st.builds(
    Policy,
    version=st.just(7),
    since=st.just(START),
    required_approvals=st.integers(0, 10),
    minimum_role=st.sampled_from(APPROVING),
    decide_within=limits,
    valid_for=limits,
    on_failure=st.sampled_from(OnFailure),
    soak=spans,
    stable_after=spans,
    strict_stages=st.frozensets(st.sampled_from(["build", "test", "smoke_test"])),
    explicit_target_role=st.sampled_from(APPROVING),
    in_progress_limit=spans,
    paused_limit=spans,
    cancel_timeout=spans,
)


@pytest.mark.parametrize(
    ("required", "role", "lead"),
    COMBINATIONS,
    ids=[f"{required}-{role.stored}-{lead}" for required, role, lead in COMBINATIONS],
)
def test_who_wants_certain_approvers_asks_for_approvals(
    required: int, role: Role, *, lead: bool
) -> None:
    policy = Policy(required_approvals=required, minimum_role=role, lead_required=lead)
    wrong = [
        name
        for name, given_ in (
            ("policy.lead_required", lead),
            ("policy.minimum_role", role > Role.DEVELOPER),
        )
        if given_ and not required
    ]
    if not wrong:
        check_consistent(policy)
        return
    with pytest.raises(ValidationFailed) as refused:
        check_consistent(policy)
    assert [violation.field for violation in refused.value.fields] == wrong
    assert refused.value.facts["count"] == str(len(wrong))


@pytest.mark.parametrize("environment_type", EnvironmentType)
def test_the_defaults_could_be_published(environment_type: EnvironmentType) -> None:
    check_consistent(default_policy(environment_type))


@given(policies, st.sampled_from(EnvironmentType))
def test_what_is_published_does_not_depend_on_a_default(
    policy: Policy, environment_type: EnvironmentType
) -> None:
    stored = json.loads(json.dumps(content_of(policy)))
    assert policy_of(environment_type, policy.version, stored, policy.since) == policy


def test_every_field_is_stored() -> None:
    names = {key.removesuffix("_seconds") for key in content_of(Policy())}
    assert names == {field.name for field in fields(Policy)} - {"version", "since"}


@given(policies)
def test_only_version_and_moment_do_not_make_another_policy(policy: Policy) -> None:
    assert policy.asks_the_same(replace(policy, version=8, since=None))
    more = replace(policy, stable_after=policy.stable_after + HOUR)
    assert not policy.asks_the_same(more)


def test_nobody_is_late_under_a_policy_that_is_new() -> None:
    """A deployment that waited longer than a new policy allows has still all of that time."""
    people = [person(1, Role.DEVELOPER)]
    policy = Policy(
        version=1, since=START + 5 * HOUR, required_approvals=1, decide_within=timedelta(hours=1)
    )
    facts = asked(EnvironmentType.DEV, people, policy=policy)
    assert approvals.decide_by(facts, START + 5 * HOUR) == START + 6 * HOUR
    assert approvals.status(facts, START + 5.5 * HOUR) is ApprovalStatus.PENDING
    assert approvals.status(facts, START + 6 * HOUR) is ApprovalStatus.EXPIRED


def test_an_older_policy_does_not_prolong_the_time_of_a_request() -> None:
    policy = replace(default_policy(EnvironmentType.STAGING), version=1, since=START - 100 * HOUR)
    facts = asked(EnvironmentType.STAGING, [person(1, Role.DEVELOPER)], policy=policy)
    assert approvals.decide_by(facts, START) == START + timedelta(days=7)


def test_a_new_policy_voids_what_was_given_before_it() -> None:
    giver = person(1, Role.DEVELOPER)
    policy = Policy(version=1, since=START + 2 * HOUR, required_approvals=1)
    facts = asked(EnvironmentType.STAGING, [giver], [approval(giver, 1)], policy=policy)
    assert approvals.counted(facts, START + 1.5 * HOUR)
    assert not approvals.counted(facts, START + 2 * HOUR)
