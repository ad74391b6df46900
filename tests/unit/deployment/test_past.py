"""A past that is told from the end is the past as it was seen at the time."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.deployment.rules.board import Health, PairState, pair_state
from services.deployment.rules.history import Deployed, latest_touched, open_rollback, slot_holder
from services.deployment.rules.lifecycle import (
    FINAL,
    HOLDS_SLOT,
    TRANSITIONS,
    Action,
    DeploymentKind,
    DeploymentStatus,
    FailureClass,
    advance,
)
from services.deployment.rules.past import Recorded, as_it_was

START = datetime(2030, 1, 1, tzinfo=UTC)
S = DeploymentStatus
# Nobody decides about a rollback, and nothing takes its place.
NEVER_OF_ROLLBACKS = frozenset({Action.REJECT, Action.EXPIRE, Action.SUPERSEDE})


class Book:
    """A pair to which things happen a minute apart, kept as rows keep it: only the last state."""

    def __init__(self) -> None:
        self.rows: dict[UUID, Recorded] = {}
        self.moment = START
        self._completed = 0
        self._claimed: set[UUID] = set()
        self._undo: dict[UUID, UUID] = {}

    def act(self, name: str, number: int) -> None:
        """Do one thing to one of the deployments that it can be done to, if there is such."""
        self.moment += timedelta(minutes=1)
        happens: Mapping[str, Callable[[int], None]] = {
            "request": self._request,
            "start": self._start,
            "touch": self._touch,
            "roll back": self._roll_back,
        }
        known = happens.get(name)
        if known is not None:
            known(number)
        else:
            self._move(Action(name), number)

    def seen(self) -> PairState:
        """Return the board as it is seen now, but for what the past does not tell."""
        now = (row.now for row in self.rows.values())
        return pair_state([plain(entry) for entry in now])

    def _request(self, number: int) -> None:
        self._add(DeploymentKind.DEPLOY, number)

    def _add(self, kind: DeploymentKind, number: int, rollback_of: UUID | None = None) -> UUID:
        made = UUID(int=len(self.rows) + 1)
        rollback = rollback_of is not None
        deployed = Deployed(
            id=made,
            release_id=UUID(int=1000 + number % 3),
            version=f"v{number % 3}",
            kind=kind,
            status=S.PENDING,
            created_at=self.moment,
            touched_seq=self._now() if rollback else None,
            rollback_of=rollback_of,
        )
        self.rows[made] = Recorded(deployed, self.moment if rollback else None)
        return made

    def _now(self) -> int:
        return (self.moment - START) // timedelta(microseconds=1)

    def _start(self, number: int) -> None:
        if slot_holder([row.now for row in self.rows.values()]) is None:
            self._move(Action.START, number)
            for key, row in self.rows.items():
                if row.now.status is S.IN_PROGRESS and number % 2:
                    self._claimed.add(key)

    def _touch(self, _number: int) -> None:
        running = [
            row
            for row in self.rows.values()
            if row.now.status is S.IN_PROGRESS and row.touched_at is None
        ]
        for row in running:
            now = row.now._replace(touched_seq=self._now())
            self.rows[now.id] = replace(row, now=now, touched_at=self.moment)

    def _move(self, action: Action, number: int) -> None:
        can = [
            row.now.id
            for row in self.rows.values()
            if (row.now.status, action) in TRANSITIONS
            and (row.now.kind is not DeploymentKind.ROLLBACK or action not in NEVER_OF_ROLLBACKS)
        ]
        if can:
            chosen = can[number % len(can)]
            self._put(chosen, advance(self.rows[chosen].now.status, action))
            if action is Action.CONFIRM_CANCELLED and chosen in self._undo:
                self._put(chosen, S.ROLLED_BACK)

    def _put(self, key: UUID, status: DeploymentStatus) -> None:
        row = self.rows[key]
        now = row.now._replace(status=status)
        if status is S.IN_PROGRESS and now.started_at is None:
            now = now._replace(started_at=self.moment)
        if status in FINAL and row.now.status not in FINAL:
            now = now._replace(completed_at=self.moment)
        if status is S.FAILED:
            now = now._replace(failure_class=FailureClass.FAILED)
        if status is S.COMPLETED:
            self._completed += 1
            now = now._replace(completed_seq=self._completed)
            if row.touched_at is None:
                now = now._replace(touched_seq=self._now())
                row = replace(row, touched_at=self.moment)
        if status is S.ROLLED_BACK:
            carrier = self.rows[self._undo[key]].now
            row = replace(row, undone_at=carrier.created_at)
        self.rows[key] = replace(row, now=now)

    def _roll_back(self, number: int) -> None:
        history = [row.now for row in self.rows.values()]
        subject, holder = latest_touched(history), slot_holder(history)
        if subject is None or open_rollback(history) is not None:
            return
        if subject.status is S.ROLLED_BACK or (holder is not None and holder.id != subject.id):
            return
        undoes = subject.id
        if subject.kind is DeploymentKind.ROLLBACK and not subject.ever_completed:
            undoes = subject.rollback_of or subject.id
        self._undo[subject.id] = self._add(DeploymentKind.ROLLBACK, number, undoes)
        if holder is None or subject.id not in self._claimed:
            self._put(subject.id, S.ROLLED_BACK)
        elif holder.status is S.IN_PROGRESS:
            self._put(subject.id, S.CANCELLING)


NAMES = (
    *("request", "request", "start", "start", "touch", "touch", "roll back"),
    *(action.value for action in Action if action not in {Action.START, Action.ROLL_BACK}),
    *("complete", "complete"),
)


def plain(entry: Deployed) -> Deployed:
    """Return a deployment without whether it runs, is paused or is being stopped."""
    return entry._replace(status=S.IN_PROGRESS) if entry.status in HOLDS_SLOT else entry


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(NAMES), st.integers(0, 5)), max_size=40))
@example([(name, 0) for name in ("request", "start", "touch", "roll back", "reject", "roll back")])
def test_each_moment_is_told_later_as_it_was_seen(steps: list[tuple[str, int]]) -> None:
    book, seen = Book(), {}
    for name, number in steps:
        book.act(name, number)
        seen[book.moment] = book.seen()
    told = {moment: pair_state(as_it_was(book.rows.values(), moment)) for moment in seen}
    assert told == seen


def test_histories_at_random_come_to_everything() -> None:
    """What the property is about does happen: each health, and a deployment that had to stop."""
    book, seen = Book(), set()
    for name, number in (
        *(("request", 1), ("start", 0), ("complete", 0), ("request", 2), ("start", 1)),
        *(("touch", 0), ("roll back", 0), ("confirm_cancelled", 0), ("start", 0), ("fail", 0)),
        *(("roll back", 0), ("start", 0), ("complete", 0)),
    ):
        book.act(name, number)
        seen.add(book.seen().health)
    assert seen == set(Health)
    statuses = {row.now.status for row in book.rows.values()}
    assert statuses == {S.COMPLETED, S.ROLLED_BACK}


def test_nothing_has_happened_before_the_first_request() -> None:
    book = Book()
    book.act("request", 0)
    before = book.moment - timedelta(microseconds=1)
    assert as_it_was(book.rows.values(), before) == []
    assert [entry.status for entry in as_it_was(book.rows.values(), book.moment)] == [S.PENDING]
