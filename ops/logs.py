"""Logs: one JSON object a line on standard output. Ours say what we let them; of the libraries' the wording alone."""

import json
import logging
import sys
from collections.abc import MutableMapping
from types import TracebackType
from typing import Any

import msgspec
import structlog

# First of each line, in this order: what people look for, and search by.
_FIRST = ("timestamp", "level", "event", "logger", "correlation_id", "message_id", "notification_id", "user_id")
# Of a long trace the end tells most.
_FRAMES = 40


def configure(level: str) -> None:
    """Set up our logging, that of the libraries, and the last words of a process, once per process.

    Below `warning` nothing of a library is written: what they chat about are the values that they handle.
    """
    lowest: int = getattr(logging, level.upper())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _error_by_type,
            _as_line,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(lowest),
        # Not by way of the standard library: that costs more than all the rest of a line.
        logger_factory=structlog.BytesLoggerFactory(),
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers = [_Foreign()]
    root.setLevel(max(logging.WARNING, lowest))
    sys.excepthook = _last_words


class _Foreign(logging.Handler):
    """Writes what a library logs: the wording that stands in its code, and never what it would put in there.

    What has no gaps to be filled was made up on the spot, and may hold anything: then only its place is told.
    """

    def emit(self, record: logging.LogRecord) -> None:
        said = {"event": record.msg} if record.args and isinstance(record.msg, str) else {"event": "said_by_a_library"}
        place = f"{record.module}:{record.lineno}"
        log = structlog.get_logger(record.name)
        log.log(record.levelno, **said, place=place, exc_info=record.exc_info or None)


def _last_words(kind: type[BaseException], error: BaseException, _trace: TracebackType | None) -> None:
    """Say what ends the process as everything else is said: a trace on standard error would repeat values."""
    if issubclass(kind, KeyboardInterrupt):
        return
    structlog.get_logger("ops.logs").critical("process_failed", exc_info=error)


def _error_by_type(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Show an exception by its type and the way to it, never by its text: texts of libraries repeat values."""
    info = event.pop("exc_info", None)
    if info is True:
        info = sys.exc_info()
    error = info[1] if isinstance(info, tuple) else info
    if isinstance(error, BaseException):
        event["error"] = type(error).__name__
        event["stack"] = _frames(error)
        if error.__cause__ is not None:
            event["caused_by"] = type(error.__cause__).__name__
    return event


def _frames(error: BaseException) -> list[str]:
    """Return where the error went through, the place that raised it last: modules and lines, no values."""
    frames, trace = [], error.__traceback__
    while trace is not None:
        frames.append(f"{trace.tb_frame.f_globals.get('__name__', '?')}:{trace.tb_lineno}")
        trace = trace.tb_next
    return frames[-_FRAMES:]


def _as_line(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> bytes:
    line = {name: event.pop(name) for name in _FIRST if name in event} | dict(event)
    try:
        return _ENCODE(line)
    except UnicodeEncodeError:
        # Half a surrogate pair: escaped, for a line must not be lost for it.
        return json.dumps(line, default=_by_type).encode()


def _by_type(value: Any) -> str:
    """Stand for a value that is none of JSON's: what it would say of itself is not known here."""
    return f"({type(value).__name__})"


_ENCODE = msgspec.json.Encoder(enc_hook=_by_type).encode
