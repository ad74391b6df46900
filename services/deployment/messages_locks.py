"""Between the messages of locks and the values of this service."""

from release_manager.deployment.v1 import restrictions_pb2 as pb

from services.deployment.messages_ids import id_text
from services.deployment.messages_times import moment, timestamp
from services.deployment.operations.locks import LocksQuery, NewLock
from services.deployment.store.lock_rows import LockRow
from shared.db.keyset import PageRequest


def new_lock(request: pb.CreateLockRequest) -> NewLock:
    """Return the lock that a request makes."""
    return NewLock(
        service=request.service,
        environment=request.environment,
        reason=request.reason,
        everything=request.everything,
        includes_rollbacks=request.includes_rollbacks,
        expires_at=moment(request, "expires_at"),
    )


def locks(request: pb.ListLocksRequest, page: PageRequest) -> LocksQuery:
    """Return which locks a request asks for."""
    return LocksQuery(page, request.service, request.environment, request.show_ended)


def lock(value: LockRow) -> pb.Lock:
    """Return a lock."""
    return pb.Lock(
        id=str(value.id),
        service_id=id_text(value.service_id),
        service=value.service or "",
        environment_id=id_text(value.environment_id),
        environment=value.environment or "",
        reason=value.reason,
        includes_rollbacks=value.includes_rollbacks,
        locked_by_id=str(value.locked_by),
        locked_by=value.locked_by_name,
        created_at=timestamp(value.created_at),
        expires_at=timestamp(value.expires_at),
        released_at=timestamp(value.released_at),
        released_by=value.released_by_name or "",
        released_because=value.released_because or "",
        active=value.active,
    )


def created(value: LockRow) -> pb.CreateLockResponse:
    """Answer CreateLock."""
    return pb.CreateLockResponse(lock=lock(value))


def released(value: LockRow) -> pb.ReleaseLockResponse:
    """Answer ReleaseLock."""
    return pb.ReleaseLockResponse(lock=lock(value))
