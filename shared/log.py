"""Logs: one event is one line, JSON for machines or columns for people, never a secret.

Whatever is bound by `structlog.contextvars` (the request id and the actor of the current call)
is in every line. Lines of other libraries take the same way.
"""

import logging
import os
import re
import sys
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Literal

import structlog
from google.protobuf.message import Message
from release_manager.common.v1 import access_pb2

LONGEST_VALUE = 8_192
HIDDEN = "***"

_SECRET_NAMES = re.compile(
    r"(?i)password|passwd|secret|token$|authorization|credential|private_key|api_key|cookie"
)
_SECRETS = re.compile(
    r"\brmt_[A-Za-z0-9_-]{8,}"  # API tokens
    r"|\beyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*)?"  # JWTs
    r"|(?<=://)[^\s/@:]*:[^\s/@]*(?=@)"  # user:password in a URL
    r"|(?i:(?<=bearer ))\S+"
    r"|\$2[aby]\$\d\d\$[./A-Za-z0-9]{53}"  # bcrypt
)
# Everything that moves a terminal's cursor, starts a new line or turns the direction of text.
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")

EventDict = structlog.typing.EventDict


def configure_logging(
    level: str = "info", form: Literal["console", "json", "auto"] = "auto"
) -> None:
    """Set up logging of this process; `auto` is console in a terminal and JSON elsewhere.

    gRPC's C core writes notices of its own to stderr, past all of this, unless told not to before
    it is loaded; importing this module early does that.
    """
    console = form == "console" or (form == "auto" and sys.stderr.isatty())
    renderer: Any = structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(),
        pad_event_to=0,
        # The other formatters print local variables, and those may hold secrets.
        exception_formatter=structlog.dev.plain_traceback,
    )
    last: list[Any] = [_escape_controls, renderer] if console else [_json_renderer()]
    before: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        hide_secrets,
    ]
    structlog.configure(
        processors=[*before[:1], structlog.stdlib.filter_by_level, *before[1:], _to_stdlib],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=before,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    logging.getLogger("asyncio").setLevel("WARNING")


_to_stdlib = structlog.stdlib.ProcessorFormatter.wrap_for_formatter
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")


def _json_renderer() -> Any:  # noqa: ANN401  (a processor)
    # ASCII only: escapes control and bidirectional characters with everything else.
    return structlog.processors.JSONRenderer(ensure_ascii=True, default=str)


def hide_secrets(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Mask what is secret by its name or its looks, and shorten what is too long for a line."""
    for name, value in event.items():
        if not name.startswith("_"):
            event[name] = _masked(name, value)
    return event


@lru_cache(1_024)  # the names of logged values are few
def _names_a_secret(name: str) -> bool:
    return _SECRET_NAMES.search(name) is not None


def _masked(name: str, value: Any) -> Any:  # noqa: ANN401  (any logged value)
    if _names_a_secret(name):
        return HIDDEN
    if isinstance(value, Mapping):
        return {key: _masked(str(key), inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_masked(name, inner) for inner in value]
    if isinstance(value, Message):
        return _masked(name, loggable(value))
    if value is None or isinstance(value, bool | int | float):
        return value
    text = _SECRETS.sub(HIDDEN, str(value))
    if len(text) > LONGEST_VALUE:
        text = f"{text[:LONGEST_VALUE]}… ({len(text)} characters)"
    return text


def _escape_controls(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Escape what a terminal would obey; the lines of a traceback stay lines."""
    for name, value in event.items():
        if isinstance(value, str):
            lines = value.split("\n") if name == "exception" else [value]
            event[name] = "\n".join(_CONTROLS.sub(_escaped, line) for line in lines)
    return event


def _escaped(match: re.Match[str]) -> str:
    return f"\\u{ord(match.group()):04x}"


def loggable(message: Message) -> dict[str, object]:
    """Return the set fields of `message` by name, those marked `sensitive` in the protos masked."""
    shown: dict[str, object] = {}
    for field, value in message.ListFields():
        if field.GetOptions().Extensions[access_pb2.sensitive]:
            shown[field.name] = HIDDEN
        elif isinstance(value, Message):
            shown[field.name] = loggable(value)
        elif field.is_repeated and not isinstance(value, Mapping):
            shown[field.name] = [
                loggable(item) if isinstance(item, Message) else item for item in value
            ]
        else:
            shown[field.name] = str(value) if isinstance(value, bytes) else value
    return shown
