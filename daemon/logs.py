"""The log: one line per event on stderr, as text or as JSON, in which no secret can hide.

What is logged is made safe here, whatever the caller gives: an exception becomes its type and
its place, an object becomes its type, and no line can stop or block the daemon.
"""

import errno
import json
import logging
import math
import os
import re
import select
import stat
import sys
from collections.abc import Mapping
from itertools import islice
from pathlib import PurePath
from typing import Any, Final, Literal, cast

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from maxd.workers.faults import Fault

Format = Literal["auto", "text", "json"]
Level = Literal["debug", "info", "warning", "error"]

# A pipe that select() calls writable takes PIPE_BUF bytes without blocking: 4096 on Linux, 512 by
# POSIX and on macOS, where a longer line may wait for the reader.
MOST_BYTES: Final = 4096
_LONGEST_VALUE: Final = 500
_MOST_ITEMS: Final = 20
_DEEPEST: Final = 4

_COLOURS = {"debug": "2", "info": "32", "warning": "33", "error": "31", "critical": "31;1"}
_PLAIN = re.compile(r"[\w.:/@+,\[\]%-]+", re.ASCII)


def configure(
    format: Format = "auto",  # noqa: A002 - the setting's own name
    level: Level = "info",
    *,
    fd: int = 2,
    environ: Mapping[str, str] | None = None,
) -> None:
    """Send the log, and that of the libraries (`logging`, from warnings up), to `fd`.

    `auto` is text on a terminal and JSON elsewhere. Text is coloured on a terminal unless
    `NO_COLOR` is set in `environ`. Lines below `level` cost nothing. May be called again.
    """
    terminal = _is_terminal(fd)
    text = format == "text" or (format == "auto" and terminal)
    colours = terminal and not (environ or {}).get("NO_COLOR")
    renderer: Processor = _Text(colours=colours) if text else _as_json
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _safe,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=_Factory(Sink(fd)),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(handlers=[_FromLibraries()], level=max(number, logging.WARNING), force=True)
    # A library's log record that cannot be rendered must not print its traceback and arguments.
    logging.raiseExceptions = False


def get_logger(component: str) -> FilteringBoundLogger:
    """The logger of a part of maxd; it follows a later `configure`."""
    return cast("FilteringBoundLogger", structlog.get_logger(component=component))


class Sink:
    """Writes lines to a file descriptor, and never blocks on it or fails because of it.

    A line is lost when the reader is gone (EPIPE), the disk is full (ENOSPC), or nobody takes
    what was written before: a stopped terminal must not stop the daemon. `lost` counts them.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.lost = 0

    def write(self, line: str) -> None:
        data = line.encode("utf-8", "backslashreplace") + b"\n"
        try:
            if not select.select([], [self._fd], [], 0)[1]:
                raise BlockingIOError(errno.EAGAIN, "nobody reads")
            while data:
                data = data[os.write(self._fd, data) :]
        except (OSError, ValueError):  # ValueError: select refuses a closed descriptor's -1
            self.lost += 1


class _Factory:
    def __init__(self, sink: Sink) -> None:
        self._logger = _SinkLogger(sink)

    def __call__(self, *args: Any) -> "_SinkLogger":
        return self._logger


class _SinkLogger:
    """What structlog calls with the finished line, by the name of its level."""

    def __init__(self, sink: Sink) -> None:
        self._write = sink.write

    def msg(self, line: str) -> None:
        self._write(line)

    debug = info = warning = error = critical = msg


class _FromLibraries(logging.Handler):
    """Passes the records of `logging` on, so that they are made safe like all others."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
        except Exception:
            # The arguments are a library's; whatever their rendering raises, the log goes on.
            message = "a log message that could not be rendered"
        # Asked for here, not kept: `configure` may have been called since.
        logger = get_logger(record.name)
        # structlog knows the five standard levels only, libraries make further ones.
        level = max(logging.DEBUG, min(logging.CRITICAL, record.levelno // 10 * 10))
        logger.log(level, message, exc_info=record.exc_info or None)


def describe(error: BaseException) -> dict[str, object]:
    """An exception without what it says: its type, its place in our code, and its cause's type.

    A message may hold a prompt or a key (a decoder quotes its input), so only a `Fault`'s, which
    is made to be shown, is given.
    """
    described: dict[str, object] = {"type": type(error).__name__, "at": place_of(error)}
    if isinstance(error, Fault):
        described["message"] = error.message
    if isinstance(error, OSError) and error.errno is not None:
        described["errno"] = errno.errorcode.get(error.errno, error.errno)
    if isinstance(error, BaseExceptionGroup):
        described["of"] = [describe(part) for part in error.exceptions[:5]]
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None:
        described["cause"] = type(cause).__name__
    return described


def place_of(error: BaseException) -> str:
    """Where it was raised, `daemon/pool.py:12`: in the innermost frame that is ours, or else the
    innermost of all."""
    trace = error.__traceback__
    ours = innermost = None
    while trace is not None:
        innermost = trace
        spec = trace.tb_frame.f_globals.get("__spec__")
        name = str(getattr(spec, "name", None) or trace.tb_frame.f_globals.get("__name__", ""))
        if name.startswith("maxd."):
            ours = trace
        trace = trace.tb_next
    frame = ours or innermost
    if frame is None:
        return "unknown"
    path = PurePath(frame.tb_frame.f_code.co_filename)
    return f"{'/'.join(path.parts[-2:])}:{frame.tb_lineno}"


def _safe(logger: WrappedLogger, method: str, event_dict: EventDict) -> EventDict:
    """Replace what must not or cannot be written: exceptions, objects, and long values."""
    exc_info = event_dict.pop("exc_info", None)
    if exc_info is True:
        exc_info = sys.exc_info()
    if isinstance(exc_info, tuple):
        exc_info = exc_info[1]
    # A stack shows source lines; the place of an exception is enough.
    event_dict.pop("stack_info", None)
    safe: EventDict = {str(key): _value(value) for key, value in event_dict.items()}
    if isinstance(exc_info, BaseException):
        safe["exception"] = _value(exc_info)
    return safe


def _value(value: object, depth: int = 0) -> object:
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, str | PurePath):
        text = str(value)
        return text if len(text) <= _LONGEST_VALUE else text[:_LONGEST_VALUE] + "…"
    if isinstance(value, BaseException):
        value = describe(value)
    if depth < _DEEPEST:
        if isinstance(value, Mapping):
            items = islice(value.items(), _MOST_ITEMS)
            return {_key(key): _value(item, depth + 1) for key, item in items}
        if isinstance(value, list | tuple | set | frozenset):
            return [_value(item, depth + 1) for item in islice(value, _MOST_ITEMS)]
    # The repr of an object (a Turn, say) may hold anything.
    return f"<{type(value).__name__}>"


def _key(key: object) -> str:
    return str(_value(key))


def _as_json(logger: WrappedLogger, method: str, event_dict: EventDict) -> str:
    # ASCII only: what ends a line in some viewers (U+2028) or is no UTF-8 stays escaped.
    line = json.dumps(event_dict)
    if len(line) < MOST_BYTES:
        return line
    kept = {key: event_dict[key] for key in ("timestamp", "level", "event") if key in event_dict}
    # At most 500 characters, each 12 bytes as a pair of escapes at worst, would still be too long.
    kept["event"] = str(kept.get("event"))[:200]
    return json.dumps({**kept, "cut": True})


class _Text:
    """A line for people: `2026-01-01T00:00:00Z info  spare ready  model=sonnet pid=12`.

    Everything unprintable is escaped and a value with blanks is quoted: no value can look like
    a line, a field or a terminal's command.
    """

    def __init__(self, *, colours: bool) -> None:
        self._colours = colours

    def __call__(self, logger: WrappedLogger, method: str, event_dict: EventDict) -> str:
        fields = dict(event_dict)
        stamp = str(fields.pop("timestamp", ""))
        level = str(fields.pop("level", ""))
        event = fields.pop("event", "")
        words = event if isinstance(event, str) and event.isprintable() else repr(event)
        shown = " ".join(f"{_quoted(key)}={_quoted(value)}" for key, value in fields.items())
        coloured = self._paint(_COLOURS.get(level, "0"), f"{level:<7}")
        line = f"{stamp} {coloured} {words}  {self._paint('2', shown) if shown else ''}".rstrip()
        if len(line.encode("utf-8", "backslashreplace")) < MOST_BYTES:
            return line
        return f"{stamp} {coloured} {words[:_LONGEST_VALUE]}  cut=true"

    def _paint(self, colour: str, text: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._colours else text


def _quoted(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    text = str(value) if isinstance(value, str | int | float) else None
    if text is not None and _PLAIN.fullmatch(text):
        return text
    return repr(value)


def _is_terminal(fd: int) -> bool:
    try:
        return stat.S_ISCHR(os.fstat(fd).st_mode) and os.isatty(fd)
    except OSError:  # closed
        return False
