"""What a handler sees of its host in a unit test without Wasm, and the built plugin in a test
(`Component`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from . import platform, plugin
from ._call import Component, ComponentError, LogLine, Result
from .event import Event, Outgoing

if TYPE_CHECKING:
    from .http import Request, Response

__all__ = [
    "Component",
    "ComponentError",
    "LogLine",
    "Result",
    "counted",
    "fail_publish",
    "handle",
    "observed",
    "on_request",
    "published",
    "set_config",
    "set_secrets",
]


def set_config(values: dict[str, str] | None = None, /, **more: str) -> None:
    """A new host with this configuration: no state, no secrets, nothing published or counted."""
    platform.host = platform.stand_in({**(values or {}), **more})


def set_secrets(values: dict[str, str | bytes] | None = None, /, **more: str | bytes) -> None:
    """Replaces all secrets."""
    secrets = {**(values or {}), **more}
    platform.host.secret = {
        name: value.encode() if isinstance(value, str) else value for name, value in secrets.items()
    }.get


def published() -> list[Outgoing]:
    """What `sandbar.publisher` has published, in order."""
    return platform.host.publisher.events


def fail_publish(error: Exception) -> None:
    """Has the next `publish` raise `error`."""
    platform.host.publisher.error = error


def counted(name: str, /, **labels: str) -> int:
    """What was added to a counter."""
    return platform.host.metrics.counters.get((name, frozenset(labels.items())), 0)


def observed(name: str, /, **labels: str) -> list[float]:
    """What was added to a histogram, in order."""
    return platform.host.metrics.histograms.get((name, frozenset(labels.items())), [])


def on_request(answer: Callable[[Request], Response]) -> None:
    """Answers HTTP requests from now on."""
    platform.host.http.answer = answer


def handle(event: Event) -> list[Outgoing]:
    """What the plugin makes of the event, in the form in which the host gets it."""
    if plugin.defined is None:
        raise LookupError("no plugin: import the module with the `@handler` first")
    return plugin.run(plugin.defined, event)
