"""The host's imports: stand-ins in unit tests, real ones in a component, which replaces these."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class Host:
    """What a plugin sees of its host."""

    config_get: Callable[[str], str | None]
    config_all: Callable[[], dict[str, str]]
    plugin_name: Callable[[], str] = lambda: "test"
    plugin_version: Callable[[], str] = lambda: "0.0.0"
    connection: Callable[[], str] = lambda: "test"
    remaining_ms: Callable[[], int] = lambda: 10_000


def stand_in(values: dict[str, str]) -> Host:
    """A host for unit tests with this configuration."""
    return Host(config_get=values.get, config_all=lambda: dict(values))


host = stand_in({})
