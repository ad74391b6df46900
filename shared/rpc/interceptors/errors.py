"""The one place where an exception becomes a status; nothing else of it reaches the caller."""

import asyncio
from typing import Any

import grpc
import structlog

from shared.db.violations import translate
from shared.domain_error import DomainError, Kind
from shared.errors import UnexpectedError
from shared.identity.actor import current_call
from shared.rpc.call import REQUEST_ID_HEADER
from shared.rpc.interceptors.around import Around, Behaviour, Context, Rpc
from shared.rpc.status import DETAILS_KEY, code_of, to_status

_log = structlog.get_logger(__name__)


class Errors(Around):
    """Ends a call that raised: domain errors as themselves, all others as UNEXPECTED_ERROR."""

    async def around(self, rpc: Rpc, request: Any, context: Context, proceed: Behaviour) -> Any:  # noqa: ANN401
        """Proceed, and abort with the status of what was raised.

        gRPC's own exceptions pass: the call has been aborted already, or nobody is listening any
        more. A cancellation passes when somebody cancelled this call; when none did, it comes out
        of a task that the handler waited for, and the caller would wait for ever.
        """
        try:
            return await proceed(request, context)
        except grpc.aio.BaseError as error:
            if not isinstance(error, grpc.aio.UsageError):
                raise
            raised: BaseException = error
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raised = error
        except Exception as error:  # noqa: BLE001  (this is the one place)
            raised = error
        return await _abort(context, _domain_error(rpc, raised))


async def _abort(context: Context, error: DomainError) -> None:
    structlog.contextvars.bind_contextvars(reason=error.reason)
    status = to_status(error)
    trailers = (
        (REQUEST_ID_HEADER, current_call.get().request_id),
        (DETAILS_KEY, status.SerializeToString()),
    )
    await context.abort(code_of(error), status.message, trailers)


def _domain_error(rpc: Rpc, raised: BaseException) -> DomainError:
    """Return the error to show; the log has the whole of what is not meant to be shown."""
    while isinstance(raised, BaseExceptionGroup) and len(raised.exceptions) == 1:
        raised = raised.exceptions[0]
    if isinstance(raised, DomainError):
        error: DomainError | None = raised
    else:
        error = translate(raised)
        if error is not None and error.kind is not Kind.INTERNAL:
            _log.warning("database_error", method=rpc.method, reason=error.reason, exc_info=raised)
    if error is not None and error.kind is not Kind.INTERNAL:
        return error
    _log.error("unexpected_error", method=rpc.method, exc_info=raised)
    return UnexpectedError(request_id=current_call.get().request_id)
