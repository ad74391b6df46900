"""Lines of the log: one for each event, whatever is in it, and never a secret."""

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from shared.log import configure_logging, loggable
from tests.rpc.protos.echo_pb2 import EchoRequest

OURS = {"x", "y", "shared.x", "sqlalchemy.pool"}
NASTY = "one\r\ntwo\x1b[2Jthree\u202efour\u2028five\x9b"


class Written:
    """What has been written to stderr since the last look."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self._text = ""

    @property
    def text(self) -> str:
        self._text += self._capsys.readouterr().err
        return self._text

    @property
    def lines(self) -> list[dict[str, object]]:
        """The lines of these tests; whatever else runs in this process may log at any moment."""
        lines = [json.loads(line) for line in self.text.splitlines()]
        return [line for line in lines if line["logger"] in OURS]


@pytest.fixture
def written(capsys: pytest.CaptureFixture[str]) -> Iterator[Written]:
    """Give what is written, and put logging back as it was."""
    root = logging.getLogger()
    handlers, level, before = root.handlers, root.level, structlog.get_config()
    yield Written(capsys)
    root.handlers = handlers
    root.setLevel(level)
    structlog.configure(**before)
    structlog.contextvars.clear_contextvars()


def test_one_event_is_one_line_of_ascii(written: Written) -> None:
    configure_logging("info", "json")
    structlog.get_logger("shared.x").info("something", text=NASTY, number=3)
    [line] = written.lines
    assert written.text.isascii()
    assert (line["event"], line["text"], line["number"]) == ("something", NASTY, 3)
    assert line["level"] == "info"
    assert line["logger"] == "shared.x"
    assert str(line["timestamp"]).endswith("Z")


def test_console_lines_do_not_obey(written: Written) -> None:
    configure_logging("info", "console")
    structlog.get_logger("x").info("something", text=NASTY)
    [line] = [line for line in written.text.split("\n") if "[x]" in line]
    assert "one\\u000d\\u000atwo\\u001b[2Jthree\\u202efour\\u2028five\\u009b" in line
    assert not set(written.text) & set("\r\x1b\u202e\u2028\x9b")


def test_what_is_bound_is_in_every_line(written: Written) -> None:
    configure_logging("info", "json")
    structlog.contextvars.bind_contextvars(request_id="abc", actor="lead")
    structlog.get_logger("x").info("ours")
    logging.getLogger("sqlalchemy.pool").warning("theirs: %s", NASTY)
    assert len(written.lines) == 2
    for line in written.lines:
        assert (line["request_id"], line["actor"]) == ("abc", "lead")


def test_levels(written: Written) -> None:
    configure_logging("warning", "json")
    structlog.get_logger("x").info("no")
    logging.getLogger("y").info("no")
    structlog.get_logger("x").error("yes")
    assert [line["event"] for line in written.lines] == ["yes"]


@pytest.mark.parametrize(
    "secret",
    [
        "rmt_aGVsbG8gd29ybGQgaGVsbG8",
        "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
        "$2b$12$abcdefghijklmnopqrstuuJw0Yc5nB5c2d2Yq9i4o8y2i1Zk1m3bW",
    ],
)
def test_secrets_by_their_looks(written: Written, secret: str) -> None:
    configure_logging("info", "json")
    log = structlog.get_logger("x")
    log.info("a", text=f"Bearer {secret} and more", listed=[{"deep": secret}])
    logging.getLogger("y").warning("%s", secret)
    try:
        int(secret)
    except ValueError:
        log.exception("b")
        logging.getLogger("y").exception("c")
    assert len(written.lines) == 4
    assert "ValueError" in written.text
    assert secret not in written.text


def test_secrets_by_their_names(written: Written) -> None:
    configure_logging("info", "json")
    values = {"password": "p1", "refresh_token": "p2", "Authorization": "p3", "audit_token": "p4"}
    structlog.get_logger("x").info("a", **values, nested={"new_password": "p5"}, page_size=3)
    [line] = written.lines
    assert not any(f"p{n}" in written.text for n in range(1, 6))
    assert line["page_size"] == 3


def test_passwords_in_urls(written: Written) -> None:
    configure_logging("info", "json")
    structlog.get_logger("x").info("a", url="postgresql+asyncpg://user:hunter2@db:5432/releases")
    assert "hunter2" not in written.text
    assert "@db:5432/releases" in written.text


def test_long_values_are_cut(written: Written) -> None:
    configure_logging("info", "json")
    structlog.get_logger("x").info("a", text="x" * 1_048_576)
    [line] = written.lines
    assert len(str(line)) < 10_000
    assert "1048576 characters" in str(line["text"])


def test_messages_keep_their_secrets(written: Written) -> None:
    configure_logging("info", "json")
    request = EchoRequest(text="hello", password="hunter2", inner=EchoRequest(password="hunter3"))
    assert loggable(request) == {"text": "hello", "password": "***", "inner": {"password": "***"}}
    structlog.get_logger("x").info("a", request=request)
    assert "hunter" not in written.text
