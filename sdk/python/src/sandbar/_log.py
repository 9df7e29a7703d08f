"""Hands `logging`, `print` and uncaught exceptions to the host. Only in a component."""

from __future__ import annotations

import io
import logging
import re
import sys
import traceback
from types import FrameType, SimpleNamespace

from wit_world.imports import logging as host
from wit_world.imports.logging import Level

from . import config

#: The configuration key that sets the least severe level to be logged.
_LEVEL_KEY = "log-level"

_TRACE = 5
_OFF = logging.CRITICAL + 1
_LEVELS = {
    "off": _OFF,
    "error": logging.ERROR,
    "warn": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
    "trace": _TRACE,
}


class _Handler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        try:
            host.log(_level(record.levelno), record.name, self.format(record))
        except Exception as error:
            # the arguments do not fit the text: as `logging` itself, say so and go on
            host.log(Level.ERROR, record.name, f"cannot log {record.msg!r}: {_trace(error)}")


class _Formatter(logging.Formatter):
    def formatException(self, info: tuple) -> str:  # noqa: N802  (its name in `logging`)
        return _trace(info[1])


def _level(number: int) -> Level:
    if number >= logging.CRITICAL:
        return Level.CRITICAL
    if number >= logging.ERROR:
        return Level.ERROR
    if number >= logging.WARNING:
        return Level.WARN
    if number >= logging.INFO:
        return Level.INFO
    return Level.DEBUG if number >= logging.DEBUG else Level.TRACE


class _Lines(io.TextIOBase):
    """A standard stream: without WASI there is none, and writing to it would trap."""

    def __init__(self, level: Level, context: str) -> None:
        self._level, self._context, self._begun = level, context, ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            host.log(self._level, self._context, line)
        return len(text)


def capture(clock: bool) -> None:
    """At build time: what is logged from now on is for the host. Nothing is heard before `begin`,
    since the host cannot be called while the component is made."""
    logging.addLevelName(_TRACE, "TRACE")
    to_host = _Handler()
    to_host.setFormatter(_Formatter())
    root = logging.getLogger()
    root.handlers = [to_host]
    root.setLevel(_OFF)
    if not clock:
        # each record takes the time, which nobody reads: the host knows it
        logging.time = SimpleNamespace(time=lambda: 0.0, time_ns=lambda: 0)


def begin() -> None:
    """Called by the host's `init` on each new instance."""
    sys.stdout, sys.stderr = _Lines(Level.INFO, "stdout"), _Lines(Level.WARN, "stderr")
    level = (config.get(_LEVEL_KEY) or "info").lower()
    logging.getLogger().setLevel(_LEVELS.get(level, logging.INFO))
    if level not in _LEVELS:
        logging.getLogger("sandbar").warning(
            "config `%s` is %r: one of %s", _LEVEL_KEY, level, ", ".join(_LEVELS)
        )


def keep_sources(files: dict[str, str]) -> None:
    """For tracebacks: the component has no copy of the author's files on disk."""
    for name, source in files.items():
        _sources[name] = source.splitlines()


def panic(error: BaseException) -> None:
    """The host makes this the message of the dead letter, once the call has trapped."""
    ours = [(f, at) for f, at in traceback.walk_tb(error.__traceback__) if _file(f) in _sources]
    place = ""
    if ours:
        frame, at = ours[-1]
        place = f" ({_short(_file(frame))}:{at})"
    host.log(Level.CRITICAL, "panic", f"{_said(error)}{place}\n{_trace(error)}")


#: Lines of the author's files, by the names that they have in the component.
_sources: dict[str, list[str]] = {}

_SDK = __file__.rsplit("/", 1)[0]


def _trace(error: BaseException) -> str:
    """As Python shows it. Its own `traceback` looks for files, and there is not even a system to ask."""
    lines = []
    earlier = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if earlier is not None:
        how = "The above exception was the direct cause of" if error.__cause__ else "While handling it came"
        lines += [_trace(earlier), "", f"{how} the following exception:", ""]
    lines.append("Traceback (most recent call last):")
    for frame, at in traceback.walk_tb(error.__traceback__):
        file = _file(frame)
        if file.startswith(_SDK):
            continue
        lines.append(f'  File "{_short(file)}", line {at}, in {frame.f_code.co_name}')
        source = _sources.get(file, [])
        if 0 < at <= len(source):
            lines.append(f"    {source[at - 1].strip()}")
    return "\n".join([*lines, _said(error)])


def _said(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception:
        text = "its text cannot be made"
    return f"{type(error).__qualname__}: {text}" if text else type(error).__qualname__


def _file(frame: FrameType) -> str:
    return frame.f_code.co_filename


def _short(file: str) -> str:
    """Without the folder that the component was made in: `/0/handler.py`."""
    return re.sub(r"^/\d+/", "", file)
