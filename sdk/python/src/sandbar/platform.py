"""The host's imports: stand-ins in unit tests, real ones in a component, which replaces these."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ._fakes import FakeHttp, FakeMetrics, FakePublisher, FakeState


@dataclass
class Host:
    """What a plugin sees of its host. What is `None` is not part of the component."""

    config_get: Callable[[str], str | None]
    config_all: Callable[[], dict[str, str]]
    plugin_name: Callable[[], str] = lambda: "test"
    plugin_version: Callable[[], str] = lambda: "0.0.0"
    connection: Callable[[], str] = lambda: "test"
    remaining_ms: Callable[[], int] = lambda: 10_000
    secret: Callable[[str], bytes | None] | None = None
    state: Any = None
    publisher: Any = None
    metrics: Any = None
    http: Any = None

    def part(self, name: str) -> Any:
        """What a module of the SDK needs of its host."""
        part = getattr(self, name)
        if part is None:
            module = "secrets" if name == "secret" else name
            raise RuntimeError(
                f"sandbar.{module} is not part of this component: import it at the top of a module, "
                f'or say in pyproject.toml `[tool.sandbar] uses = ["{module}"]`'
            )
        return part


def stand_in(values: dict[str, str]) -> Host:
    """A host for unit tests with this configuration."""
    return Host(
        config_get=values.get,
        config_all=lambda: dict(values),
        secret={}.get,
        state=FakeState(),
        publisher=FakePublisher(),
        metrics=FakeMetrics(),
        http=FakeHttp(),
    )


host = stand_in({})
