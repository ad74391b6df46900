"""Events as CDEvents 0.4.1 has them, in JSON.

What that vocabulary knows is told in it: deployments are runs of pipelines, stages runs of tasks,
and what runs in an environment is a service. Everything else is of a type of our own, in the form
that CDEvents has for such (`dev.cdeventsx.<tool>-<subject>.<predicate>.<version>`). What the ledger
says beyond that is in `customData`, the same for all types.
"""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote

from services.audit.rules.happenings import EventType, Happening

VERSION: Final = "0.4.1"
TOOL: Final = "releasemanager"
_STANDARD: Final[Mapping[EventType, tuple[str, str]]] = {
    EventType.DEPLOYMENT_REQUESTED: ("pipelineRun", "pipelinerun.queued.0.2.0"),
    EventType.DEPLOYMENT_STARTED: ("pipelineRun", "pipelinerun.started.0.2.0"),
    EventType.DEPLOYMENT_COMPLETED: ("pipelineRun", "pipelinerun.finished.0.2.0"),
    EventType.DEPLOYMENT_FAILED: ("pipelineRun", "pipelinerun.finished.0.2.0"),
    EventType.STAGE_STARTED: ("taskRun", "taskrun.started.0.2.0"),
    EventType.STAGE_FINISHED: ("taskRun", "taskrun.finished.0.2.0"),
    EventType.SERVICE_DEPLOYED: ("service", "service.deployed.0.2.0"),
    EventType.SERVICE_ROLLED_BACK: ("service", "service.rolledback.0.2.0"),
}
_OWN_VERSION: Final = "0.1.0"
TEST_TYPE: Final = f"dev.cdeventsx.{TOOL}-webhook.tested.{_OWN_VERSION}"
_OUTCOMES: Final = {"completed": "success", "failed": "failure"}


def cdevents_type(kind: EventType) -> str:
    """Return the `context.type` of events of a kind."""
    if kind in _STANDARD:
        return f"dev.cdevents.{_STANDARD[kind][1]}"
    subject, predicate = _own(kind)
    return f"dev.cdeventsx.{TOOL}-{subject}.{predicate}.{_OWN_VERSION}"


def message(event: Happening, source: str) -> dict[str, Any]:
    """Return an event as a JSON object; `source` names this installation, as a URI reference."""
    entry = event.entry
    if event.type in _STANDARD:
        subject_type = _STANDARD[event.type][0]
    else:
        subject_type = f"{TOOL}-{_own(event.type)[0]}"
    custom = {
        "leafIndex": entry.leaf_index,
        "eventId": entry.event_id,
        "eventType": event.type.name,
        "occurredAt": _time(entry.occurred_at),
        "userId": entry.user_id,
        "producer": entry.producer,
        "action": entry.action,
        "resourceType": entry.resource_type,
        "resourceId": entry.resource_id,
        "details": entry.details,
    }
    return {
        "context": _context(event.id, cdevents_type(event.type), entry.occurred_at, source),
        "subject": {
            "id": _subject_id(event),
            "source": source,
            "type": subject_type,
            "content": _content(event, source),
        },
        "customData": custom,
        "customDataContentType": "application/json",
    }


def test_message(event_id: str, webhook: str, now: datetime, source: str) -> dict[str, Any]:
    """Return the event by which a webhook is tried out."""
    return {
        "context": _context(event_id, TEST_TYPE, now, source),
        "subject": {
            "id": webhook,
            "source": source,
            "type": f"{TOOL}-webhook",
            "content": {},
        },
    }


def encoded(message: Mapping[str, Any]) -> bytes:
    """Return the bytes of a message: what is signed, and what is sent."""
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()


def _own(kind: EventType) -> tuple[str, str]:
    """Return subject and predicate of a type of our own: letters alone are allowed."""
    subject, *rest = kind.value.split("-")
    return subject, rest[0] + "".join(word.capitalize() for word in rest[1:])


def _context(event_id: str, kind: str, moment: datetime, source: str) -> dict[str, str]:
    return {
        "version": VERSION,
        "id": event_id,
        "source": source,
        "type": kind,
        "timestamp": _time(moment),
    }


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _subject_id(event: Happening) -> str:
    match event.type:
        case EventType.STAGE_STARTED | EventType.STAGE_FINISHED | EventType.STAGE_SKIPPED:
            return f"{event.entry.resource_id}/{event.entry.of('stage')}"
        case EventType.SERVICE_DEPLOYED | EventType.SERVICE_ROLLED_BACK:
            return event.service
        case _:
            return event.entry.resource_id or event.entry.event_id


def _content(event: Happening, source: str) -> dict[str, Any]:
    make = _CONTENTS.get(event.type, _names)
    return make(event) | ({"url": _url(event, source)} if event.type in _WITH_URL else {})


def _run(event: Happening) -> dict[str, Any]:
    content = {"pipelineName": f"{event.service} in {event.environment}"}
    if event.type is EventType.DEPLOYMENT_COMPLETED:
        content["outcome"] = "success"
    if event.type is EventType.DEPLOYMENT_FAILED:
        content["outcome"] = _failure(event)
        if why := event.entry.of("reason") or event.entry.of("stage"):
            content["errors"] = why
    return content


def _service(event: Happening) -> dict[str, Any]:
    name, _, version = event.release.rpartition("@")
    artifact = f"pkg:generic/{quote(name, safe='')}@{quote(version, safe='')}"
    return {"environment": {"id": event.environment}, "artifactId": artifact}


def _names(event: Happening) -> dict[str, Any]:
    named = {
        "release": event.release,
        "service": event.service,
        "environment": event.environment,
    }
    return {name: value for name, value in named.items() if value}


def _url(event: Happening, source: str) -> str:
    return f"{source}/deployments/{event.entry.resource_id}"


def _task(event: Happening) -> dict[str, Any]:
    content: dict[str, Any] = {
        "taskName": event.entry.of("stage"),
        "pipelineRun": {"id": event.entry.resource_id},
    }
    if event.type is EventType.STAGE_FINISHED:
        content["outcome"] = _OUTCOMES[event.entry.of("stage_after")]
    return content


def _failure(event: Happening) -> str:
    """Return `error` when the machinery failed, not the release."""
    told = event.entry.of("failure_class") or event.entry.of("after", "failure_class")
    return "error" if told.lower() == "errored" else "failure"


# What stands in the content of a type; of all others, the names of what they are about.
_CONTENTS: Final[Mapping[EventType, Callable[[Happening], dict[str, Any]]]] = {
    EventType.DEPLOYMENT_REQUESTED: _run,
    EventType.DEPLOYMENT_STARTED: _run,
    EventType.DEPLOYMENT_COMPLETED: _run,
    EventType.DEPLOYMENT_FAILED: _run,
    EventType.STAGE_STARTED: _task,
    EventType.STAGE_FINISHED: _task,
    EventType.SERVICE_DEPLOYED: _service,
    EventType.SERVICE_ROLLED_BACK: _service,
}
# The vocabulary asks for one there.
_WITH_URL: Final = frozenset({EventType.DEPLOYMENT_STARTED})
