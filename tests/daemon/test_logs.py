"""The log: its two forms, what never gets into it, and that it cannot hurt the daemon."""

import json
import logging
import os
import pty
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from msgspec import Struct

from maxd.daemon.ledger import Ledger, StateError
from maxd.daemon.logs import MOST_BYTES, Format, Level, Sink, configure, get_logger
from maxd.workers.faults import WorkerDied

SECRET = "sk-ant-canary"


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, raising = root.handlers[:], root.level, logging.raiseExceptions
    yield
    structlog.reset_defaults()
    root.handlers[:], logging.raiseExceptions = handlers, raising
    root.setLevel(level)


class Log:
    """The log in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.fd = os.open(path, os.O_WRONLY | os.O_CREAT)

    def to(self, form: Format, level: Level = "info") -> None:
        configure(form, level, fd=self.fd)

    @property
    def text(self) -> str:
        return self._path.read_text()

    @property
    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.text.splitlines()]


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    made = Log(tmp_path / "log")
    yield made
    os.close(made.fd)


def test_json_has_one_object_per_line(log: Log) -> None:
    log.to("json")
    get_logger("pool").info("spare ready", pid=12, model="sonnet", path=Path("/x"), rate=0.5)
    get_logger("pool").debug("not shown")
    (line,) = log.lines
    stamp = line.pop("timestamp")
    assert isinstance(stamp, str)
    assert stamp.endswith("Z")
    assert line == {
        "component": "pool",
        "event": "spare ready",
        "level": "info",
        "pid": 12,
        "model": "sonnet",
        "path": "/x",
        "rate": 0.5,
    }


def test_text_is_one_plain_line_off_a_terminal(log: Log) -> None:
    log.to("text", "debug")
    get_logger("pool").debug("spare ready", model="sonnet", why="a b", ok=True, none=None, n=[1])
    (line,) = log.text.splitlines()
    assert line.partition("Z ")[2] == (
        "debug   spare ready  component=pool model=sonnet why='a b' ok=true none=null n=[1]"
    )


def test_auto_is_coloured_text_on_a_terminal_and_json_elsewhere(log: Log) -> None:
    log.to("auto")
    get_logger("x").info("event")
    assert log.lines
    ours, theirs = pty.openpty()
    try:
        configure("auto", fd=theirs)
        get_logger("x").info("event")
        assert b"\x1b[32minfo" in os.read(ours, 1000)
        configure("auto", fd=theirs, environ={"NO_COLOR": "1"})
        get_logger("x").info("event")
        assert b"\x1b" not in os.read(ours, 1000)
    finally:
        os.close(ours)
        os.close(theirs)


@pytest.mark.parametrize("hostile", ["a\nb", "\x1b[2Jx", "a\r", "x pid=1", "\u202e", "\ud800", ""])
def test_a_value_cannot_forge_a_line_or_a_field(log: Log, hostile: str) -> None:
    log.to("text")
    get_logger("x").info("event", value=hostile, **{"key\n": 1})
    get_logger("x").info(hostile)
    text = log.text
    assert len(text.splitlines()) == 2
    assert all(char.isprintable() or char == "\n" for char in text)
    assert f"value={hostile!r}" in text


def test_a_foreign_exception_is_its_type_and_our_place_only(log: Log, tmp_path: Path) -> None:
    log.to("json")
    (tmp_path / "file").write_text("")
    try:
        Ledger(tmp_path / "file")
    except StateError:
        get_logger("x").exception("failed")
    try:
        raise ValueError(SECRET)
    except ValueError as error:
        get_logger("x").error("failed", error=error, exc_info=True)
    assert SECRET not in log.text
    first, second = log.lines
    exception = first["exception"]
    assert isinstance(exception, dict)
    assert exception["type"] == "StateError"
    assert exception["at"].startswith("daemon/ledger.py:")
    assert exception["cause"] == "FileExistsError"
    assert "message" not in exception
    assert second["exception"] == second["error"]
    assert isinstance(second["error"], dict)
    assert second["error"]["type"] == "ValueError"


def test_a_fault_keeps_its_message_and_a_group_its_parts(log: Log) -> None:
    log.to("json")
    group = BaseExceptionGroup(SECRET, [WorkerDied("it died"), OSError(28, SECRET)])
    get_logger("x").error("failed", exc_info=group)
    (line,) = log.lines
    assert line["exception"] == {
        "type": "ExceptionGroup",
        "at": "unknown",
        "of": [
            {"type": "WorkerDied", "at": "unknown", "message": "it died"},
            {"type": "OSError", "at": "unknown", "errno": "ENOSPC"},
        ],
    }
    assert SECRET not in log.text


class Held(Struct):
    key: str


@pytest.mark.parametrize("form", ["text", "json"])
def test_objects_are_named_not_shown(log: Log, form: Format) -> None:
    log.to(form)
    held = Held(SECRET)
    get_logger("x").info("event", a=held, b=[held], c={held.key[:2]: held}, d=b"sk-ant", e={1: 2})
    get_logger("x").info("no exception", exc_info=True, stack_info=True, f=float("nan"))
    assert SECRET not in log.text
    assert "<Held>" in log.text
    assert "<bytes>" in log.text


def test_what_is_nested_in_itself_or_long_is_cut(log: Log) -> None:
    loop: list[object] = []
    loop.append(loop)
    for form in ("text", "json"):
        log.to(form)
        get_logger("x").info("event", loop=loop, long="x" * 10_000)
        get_logger("x").info("\u2028" * 10_000, **{f"k{n}": "é" * 1000 for n in range(100)})
    lines = log.text.splitlines()
    assert len(lines) == 4
    assert all(len(line.encode()) < MOST_BYTES for line in lines)


def test_the_libraries_log_goes_the_same_way(log: Log) -> None:
    log.to("json")
    library = logging.getLogger("hypercorn.error")
    library.info("not shown")
    try:
        raise ValueError(SECRET)
    except ValueError:
        library.exception("Error in %s", "ASGI")
    library.warning("wrong %d", "arguments")
    library.log(35, "a level of its own")
    first, second, third = log.lines
    assert third["level"] == "warning"
    assert (first["event"], first["component"], first["level"]) == (
        "Error in ASGI",
        "hypercorn.error",
        "error",
    )
    assert isinstance(first["exception"], dict)
    assert first["exception"]["type"] == "ValueError"
    assert second["event"] == "a log message that could not be rendered"
    assert SECRET not in log.text


def test_a_reader_that_is_gone_or_a_closed_stderr_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    for fd in (writer, -1, 10**6):
        configure("json", fd=fd)
        get_logger("x").info("event")
        sink = Sink(fd)
        sink.write("line")
        assert sink.lost == 1
    os.close(writer)
    configure("auto", fd=writer)
    get_logger("x").info("event")


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's")
def test_a_full_disk_is_no_error() -> None:
    fd = os.open("/dev/full", os.O_WRONLY)
    try:
        sink = Sink(fd)
        sink.write("line")
        assert sink.lost == 1
    finally:
        os.close(fd)


def test_a_reader_that_does_not_read_does_not_block_the_daemon() -> None:
    reader, writer = os.pipe()
    try:
        sink = Sink(writer)
        line = "x" * (MOST_BYTES - 2)
        while not sink.lost:  # a blocking write would never return
            sink.write(line)
        os.read(reader, 2**20)
        sink.write("again")
        assert sink.lost == 1
        assert os.read(reader, 2**20) == b"again\n"
    finally:
        os.close(reader)
        os.close(writer)
