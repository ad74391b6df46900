"""The RPCs of locks: convert, call, convert."""

from uuid import UUID

from release_manager.deployment.v1 import restrictions_pb2 as pb

from services.deployment import messages_locks as messages
from services.deployment.operations import locks
from shared.outbox.rpcs import Context, Rpcs


class LockRpcs(Rpcs):
    """Locks and unlocks."""

    async def CreateLock(self, request: pb.CreateLockRequest, _: Context) -> pb.CreateLockResponse:
        """Lock a service, an environment, both together, or everything."""
        return await self._changes.answer(
            request,
            pb.CreateLockResponse,
            lambda change: locks.create(change, messages.new_lock(request)),
            messages.created,
        )

    async def ReleaseLock(
        self, request: pb.ReleaseLockRequest, _: Context
    ) -> pb.ReleaseLockResponse:
        """Release a lock."""
        return await self._changes.answer(
            request,
            pb.ReleaseLockResponse,
            lambda change: locks.release(change, UUID(request.lock), request.reason),
            messages.released,
        )

    async def GetLock(self, request: pb.GetLockRequest, _: Context) -> pb.GetLockResponse:
        """Return a lock."""
        return pb.GetLockResponse(lock=messages.lock(await locks.get(self._db, UUID(request.lock))))

    async def ListLocks(self, request: pb.ListLocksRequest, _: Context) -> pb.ListLocksResponse:
        """Return a page of locks."""
        page = await locks.page(self._db, messages.locks(request, self._paging.wanted(request)))
        return pb.ListLocksResponse(
            locks=map(messages.lock, page.entries),
            next_page_token=self._paging.next_token(request, page),
        )
