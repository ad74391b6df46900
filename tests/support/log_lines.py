"""What the product would have printed as its log, as machines read it."""

import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog

from shared.log import configure_logging


class LogLines:
    """The lines so far, of JSON."""

    def __init__(self) -> None:
        self.stream = io.StringIO()

    @property
    def text(self) -> str:
        return self.stream.getvalue()

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Every line, which must be one object of JSON."""
        return [json.loads(line) for line in self.text.split("\n")[:-1]]


@contextmanager
def logging_kept(level: str = "debug") -> Iterator[LogLines]:
    """Log as in production, at any level, into memory; then as before."""
    root, kept = logging.getLogger(), LogLines()
    handlers, before_level, before = root.handlers, root.level, structlog.get_config()
    try:
        configure_logging(level, "json")
        [handler] = root.handlers
        assert isinstance(handler, logging.StreamHandler)
        handler.setStream(kept.stream)
        yield kept
    finally:
        root.handlers = handlers
        root.setLevel(before_level)
        structlog.configure(**before)
