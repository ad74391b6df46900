"""The reasons that no caller can do anything about but wait, and the tests that show them."""

from collections.abc import Mapping
from typing import Final

_WAITS: Final = "it passes by itself, and says to try again"
_OPERATORS: Final = "only operators can help, and the answer says so"
_RACE: Final = "the caller's own clock may end the call before the answer arrives"
_FINAL: Final = "what is asked for never happens"

# Reason: why no caller can unblock it by a call, and a test that shows the refusal.
ELSEWHERE: Final[Mapping[str, tuple[str, str]]] = {
    "CONCURRENT_CHANGE": (_WAITS, "tests/integration/deployment/test_storm.py"),
    "LOGIN_BUSY": (_WAITS, "tests/security/test_hash_workers.py"),
    "APPEND_QUEUE_FULL": (_WAITS, "tests/integration/audit/test_group_commit.py"),
    "EXPORT_SLOTS_TAKEN": (_WAITS, "tests/rpc/audit/test_slots.py"),
    "FOLLOW_SLOTS_TAKEN": (_WAITS, "tests/rpc/audit/test_follow.py"),
    "TOO_MANY_CONNECTIONS": (_WAITS, "tests/unit/test_violations.py"),
    "DATABASE_UNAVAILABLE": (_WAITS, "tests/unit/test_violations.py"),
    "AUDIT_UNAVAILABLE": (_WAITS, "tests/integration/outbox/test_relay.py"),
    "SERVER_STOPPING": (_WAITS, "tests/rpc/test_server.py"),
    "DEADLINE_TOO_SHORT": (_RACE, "tests/rpc/test_guards.py"),
    "DEADLINE_EXCEEDED": (_RACE, "tests/rpc/test_guards.py"),
    "DATABASE_FULL": (_OPERATORS, "tests/unit/test_violations.py"),
    "UNEXPECTED_ERROR": (_OPERATORS, "tests/rpc/test_chain.py"),
    "AUDIT_BACKLOG": (_OPERATORS, "tests/integration/outbox/test_backlog.py"),
    "SIGNING_STOPPED": (_OPERATORS, "tests/integration/audit/test_integrity.py"),
    "OUTPUT_FULL": ("64 MiB are there already", "tests/integration/deployment/test_output.py"),
    "EXPORT_CHANGED": ("an export is made anew", "tests/integration/audit/test_export_retired.py"),
    "ENTRY_RETIRED": ("retired is gone", "tests/integration/audit/test_retirement.py"),
    "NOT_RETIRABLE": ("months get older", "tests/integration/audit/test_retirement.py"),
    "NOT_REDACTABLE": (_FINAL, "tests/integration/audit/test_redaction.py"),
}
