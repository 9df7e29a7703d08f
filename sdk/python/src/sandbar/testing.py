"""What a handler sees of its host in a unit test without Wasm."""

from __future__ import annotations

from . import platform, plugin
from .event import Event, Outgoing


def set_config(values: dict[str, str] | None = None, /, **more: str) -> None:
    """Replaces the whole configuration."""
    platform.host = platform.stand_in({**(values or {}), **more})


def handle(event: Event) -> list[Outgoing]:
    """What the plugin makes of the event, in the form in which the host gets it."""
    if plugin.defined is None:
        raise LookupError("no plugin: import the module with the `@handler` first")
    return plugin.run(plugin.defined, event)
