"""The policy of an environment as it is stored: JSON with the fields of `Policy`.

Durations are seconds under the field's name with `_seconds`, roles and switches are words. What is
not there is as in the default policy of the environment's type, which is version 0. What is
published has every field, so that no later default changes it.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from services.deployment.rules.policy import (
    EnvironmentType,
    OnFailure,
    Policy,
    QueueMode,
    default_policy,
)
from shared.identity.actor import Role


def _seconds(value: float | None) -> timedelta | None:
    return None if value is None else timedelta(seconds=value)


_READERS: Final[Mapping[str, tuple[str, Callable[[Any], object]]]] = {
    "required_approvals": ("required_approvals", int),
    "minimum_role": ("minimum_role", Role.from_stored),
    "lead_required": ("lead_required", bool),
    "requester_may_approve": ("requester_may_approve", bool),
    "author_may_approve": ("author_may_approve", bool),
    "decide_within_seconds": ("decide_within", _seconds),
    "valid_for_seconds": ("valid_for", _seconds),
    "on_failure": ("on_failure", OnFailure),
    "soak_seconds": ("soak", _seconds),
    "stable_after_seconds": ("stable_after", _seconds),
    "strict_stages": ("strict_stages", frozenset),
    "explicit_target_role": ("explicit_target_role", Role.from_stored),
    "in_progress_limit_seconds": ("in_progress_limit", _seconds),
    "paused_limit_seconds": ("paused_limit", _seconds),
    "cancel_timeout_seconds": ("cancel_timeout", _seconds),
    "stage_limit_seconds": ("stage_limit", _seconds),
    "queue": ("queue", QueueMode),
}


def policy_of(
    environment_type: str, version: int, stored: Mapping[str, Any] | None, since: datetime | None
) -> Policy:
    """Return the policy of an environment; `stored` is None for the default of its type."""
    default = default_policy(EnvironmentType(environment_type))
    given = {
        name: read(stored[key])
        for key, (name, read) in _READERS.items()
        if stored is not None and key in stored
    }
    return replace(default, version=version, since=since, **given)  # type: ignore[arg-type]


def content_of(policy: Policy) -> dict[str, Any]:
    """Return every field of a policy as it is stored, and as audit entries tell it."""
    return {key: _stored(getattr(policy, name)) for key, (name, _) in _READERS.items()}


def _stored(value: object) -> object:
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
        return int(seconds) if seconds.is_integer() else seconds
    if isinstance(value, Role):
        return value.stored
    return sorted(value) if isinstance(value, frozenset) else value
