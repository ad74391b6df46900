"""Between the messages of working with runbooks and the values of this service."""

from release_manager.catalog.v1 import catalog_pb2 as pb

from services.catalog.messages.runbooks import runbook
from services.catalog.messages.times import moment, timestamp
from services.catalog.operations.runbook_executions import (
    ExecutionChoice,
    NewExecution,
    Occasion,
)
from services.catalog.rules.resources import RunbookExecution, RunbookOutcome
from services.catalog.rules.suggestions import Suggestion

OUTCOME = "RUNBOOK_OUTCOME_"


def new_execution(request: pb.RecordRunbookExecutionRequest) -> NewExecution:
    """Return the execution that a request tells of; its outcome is validated to be there."""
    name = pb.RunbookOutcome.Name(request.outcome).removeprefix(OUTCOME).lower()
    return NewExecution(
        runbook=request.runbook,
        outcome=RunbookOutcome(name),
        notes=request.notes,
        environment=request.environment,
        deployment_id=request.deployment_id,
        started_at=moment(request.started_at) if request.HasField("started_at") else None,
        finished_at=moment(request.finished_at) if request.HasField("finished_at") else None,
    )


def execution_choice(request: pb.ListRunbookExecutionsRequest) -> ExecutionChoice:
    """Return which executions a request asks for."""
    return ExecutionChoice(request.runbook, request.service, request.deployment_id)


def occasion(request: pb.SuggestRunbooksRequest) -> Occasion:
    """Return what a request says has happened."""
    return Occasion(request.deployment_id, request.service, request.environment, request.stage)


def execution(value: RunbookExecution) -> pb.RunbookExecution:
    """Return an execution as a message."""
    return pb.RunbookExecution(
        id=str(value.id),
        runbook_id=str(value.runbook_id),
        version=value.version,
        environment_id=str(value.environment_id or ""),
        deployment_id=str(value.deployment_id or ""),
        outcome=pb.RunbookOutcome.Value(OUTCOME + value.outcome.upper()),
        notes=value.notes,
        executed_by_id=str(value.executed_by),
        executed_by=value.executor,
        started_at=timestamp(value.started_at),
        finished_at=timestamp(value.finished_at),
        created_at=timestamp(value.created_at),
    )


def execution_recorded(value: RunbookExecution) -> pb.RecordRunbookExecutionResponse:
    """Return the answer to a new execution."""
    return pb.RecordRunbookExecutionResponse(execution=execution(value))


def suggestion(value: Suggestion) -> pb.RunbookSuggestion:
    """Return a suggestion as a message."""
    return pb.RunbookSuggestion(
        runbook=runbook(value.runbook),
        because=value.because,
        recent_successes=value.successes,
        recent_executions=value.executions,
    )
