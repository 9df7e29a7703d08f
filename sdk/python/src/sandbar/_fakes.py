"""Stand-ins for what a host offers, in memory: what `sandbar.testing` shows and sets."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


class FakeState:
    """Keys, values and versions."""

    def __init__(self) -> None:
        self.entries: dict[str, tuple[bytes, int, float | None]] = {}
        self.versions = 0

    def get(self, key: str) -> tuple[bytes, int] | None:
        entry = self.entries.get(key)
        if entry is None or (entry[2] is not None and entry[2] <= time.monotonic()):
            return None
        return entry[:2]

    def set(self, key: str, value: bytes, ttl_ms: int | None) -> None:
        self.versions += 1
        until = None if ttl_ms is None else time.monotonic() + ttl_ms / 1000
        self.entries[key] = (value, self.versions, until)

    def compare_and_set(self, key: str, value: bytes, expected: int | None, ttl_ms: int | None) -> bool:
        found = self.get(key)
        if (found[1] if found else None) != expected:
            return False
        self.set(key, value, ttl_ms)
        return True

    def increment(self, key: str, delta: int) -> int:
        found = self.get(key)
        total = int(found[0] if found else 0) + delta
        self.set(key, str(total).encode(), None)
        return total

    def delete(self, key: str) -> None:
        self.entries.pop(key, None)

    def list_keys(self, prefix: str, cursor: str | None, limit: int) -> list[str]:
        keys = sorted(self.entries, key=str.encode)
        after = cursor.encode() if cursor is not None else None
        fit = (k for k in keys if k.startswith(prefix) and self.get(k) is not None)
        return [k for k in fit if after is None or k.encode() > after][:limit]


class FakePublisher:
    """What was published, in order."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        #: The error of the next call, if there is to be one.
        self.error: Exception | None = None

    def publish(self, events: list[Any]) -> None:
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        self.events += events


class FakeMetrics:
    """Sums and observations by name and labels."""

    def __init__(self) -> None:
        self.counters: dict[tuple[str, frozenset[tuple[str, str]]], int] = {}
        self.histograms: dict[tuple[str, frozenset[tuple[str, str]]], list[float]] = {}

    def count(self, name: str, delta: int, labels: list[tuple[str, str]]) -> None:
        key = (name, frozenset(labels))
        self.counters[key] = self.counters.get(key, 0) + delta

    def observe(self, name: str, value: float, labels: list[tuple[str, str]]) -> None:
        self.histograms.setdefault((name, frozenset(labels)), []).append(value)


class FakeHttp:
    """Answers as it is told, else as a host that allows nothing."""

    def __init__(self) -> None:
        self.answer: Callable[..., Any] | None = None

    def send(self, request: Any) -> Any:
        if self.answer is None:
            from .http import HttpError

            raise HttpError.denied(request.url)
        return self.answer(request)
