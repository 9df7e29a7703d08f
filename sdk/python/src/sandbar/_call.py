"""A built plugin in a test: `sandbar plugin call` runs it on the production engine."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from .event import Event, Outgoing


class ComponentError(Exception):
    """The plugin does not build or does not start; says what the `sandbar` program said."""


class LogLine(NamedTuple):
    """A line that a plugin logged."""

    level: str
    context: str
    message: str


@dataclass(frozen=True)
class Result:
    """What a plugin made of one event."""

    #: `ok`, `retry`, `reject`, `skip`, `defer`, `trap`, `limit`, `denied`, `decode` or `host`.
    verdict: str
    #: Code and message of a failure.
    code: str | None = None
    message: str | None = None
    #: Seconds after which the handler wants the event again, where it says so.
    after: float | None = None
    #: What it published; nothing where it failed.
    outputs: list[Outgoing] = field(default_factory=list)
    #: What it logged.
    log: list[LogLine] = field(default_factory=list)


class Component:
    """A plugin that was built, for a test of the very thing that will run: what the production
    engine makes of an event, without a broker. One process serves all events; its clock stands
    at the time of the latest one, and random numbers repeat.

    `plugin` is a folder, which is built first, or a `.wasm` file.
    """

    def __init__(
        self,
        plugin: str | os.PathLike[str] = ".",
        *,
        config: Mapping[str, str] | None = None,
        grants: Iterable[str] = (),
        sandbar: str | os.PathLike[str] | None = None,
    ) -> None:
        program = os.fspath(sandbar or os.environ.get("SANDBAR") or "sandbar")
        command = [program, "plugin", "call", os.fspath(Path(plugin)), "--output", "json"]
        for key, value in (config or {}).items():
            command += ["--config-value", f"{key}={value}"]
        for grant in grants:
            command += ["--grant", grant]
        self._said = tempfile.TemporaryFile(mode="w+")
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._said,
                text=True,
                encoding="utf-8",
            )
        except FileNotFoundError as error:
            raise ComponentError(
                f"{program} was not found: put it on the PATH, or set SANDBAR to its path"
            ) from error

    def handle(self, event: Event) -> Result:
        """Gives the plugin one event. Raises `ComponentError` where it does not start."""
        process = self._process
        assert process.stdin and process.stdout
        try:
            process.stdin.write(json.dumps(_line(event)) + "\n")
            process.stdin.flush()
        except BrokenPipeError:
            pass  # it says why on standard error
        answer = process.stdout.readline()
        if not answer:
            process.wait()
            self._said.seek(0)
            raise ComponentError(self._said.read().strip() or "the sandbar program has ended")
        return _result(json.loads(answer))

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin and self._process.stdout
        try:
            self._process.stdin.close()
        except BrokenPipeError:
            pass
        self._process.wait()
        self._process.stdout.close()
        self._said.close()

    def __enter__(self) -> Component:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _line(event: Event) -> dict[str, Any]:
    line: dict[str, Any] = {
        "topic": event.topic,
        "partition": event.partition,
        "position": event.position,
        "attempt": event.attempt,
        "key": _bytes(event.key),
        "payload": _bytes(event.payload),
        "headers": [[name, _bytes(value)] for name, value in event.headers],
        "attributes": event.attributes,
    }
    if event.timestamp_ms:
        line["timestamp"] = event.timestamp_ms
    return line


def _result(answer: dict[str, Any]) -> Result:
    after = answer.get("after_ms")
    return Result(
        verdict=answer["verdict"],
        code=answer.get("code"),
        message=answer.get("message"),
        after=None if after is None else after / 1000,
        outputs=[_outgoing(output) for output in answer["outputs"]],
        log=[LogLine(**line) for line in answer["log"]],
    )


def _outgoing(output: dict[str, Any]) -> Outgoing:
    return Outgoing(
        output["topic"],
        connection=output.get("connection"),
        key=_read(output["key"]),
        payload=_read(output["payload"]),
        headers=[(name, _read(value) or b"") for name, value in output["headers"]],
        attributes=output.get("attributes", {}),
    )


def _bytes(value: bytes | None) -> Any:
    """Text where the bytes are UTF-8, else base64: as the `sandbar` program has it."""
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()} if value is not None else None


def _read(value: Any) -> bytes | None:
    match value:
        case None:
            return None
        case str():
            return value.encode()
        case _:
            return base64.b64decode(value["base64"])
