"""Durable key-value state private to the plugin; the operator grants `state`.

    from sandbar import state

    seen = state.increment(f"seen/{event.key_text}")
    state.set("last", event.payload, ttl=3600)

A call sees its own writes at once. They become visible to others, and durable, when the event is
acknowledged, and vanish when the attempt fails. In a unit test it is a dictionary, which
`sandbar.testing.set_config` empties.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from . import platform
from .failure import Retry

#: Keys asked for at once.
_PAGE = 1000


class StateError(Retry):
    """The store cannot do it now, or not at all; `kind` is `conflict`, `quota-exceeded`, `unavailable`
    or `other`. Not caught, it means another attempt, from clean state."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(f"state: {reason}")
        self.kind = kind


@dataclass(frozen=True)
class Entry:
    """A value, and its version for `compare_and_set`."""

    value: bytes
    version: int


def get(key: str) -> bytes | None:
    """The value of `key`, if there is one."""
    found = entry(key)
    return None if found is None else found.value


def entry(key: str) -> Entry | None:
    """The value of `key` and its version, if there is one."""
    found = _host().get(key)
    return None if found is None else Entry(*found)


def set(key: str, value: bytes | str, *, ttl: float | None = None) -> None:
    """Sets `key`, for `ttl` seconds or for good."""
    _host().set(key, _bytes(value), _milliseconds(ttl))


def get_json(key: str, default: Any = None) -> Any:
    """The value of `key`, decoded; `default` where there is none."""
    value = get(key)
    return default if value is None else json.loads(value)


def set_json(key: str, value: Any, *, ttl: float | None = None) -> None:
    """Sets `key` to `value`, encoded."""
    set(key, json.dumps(value), ttl=ttl)


def compare_and_set(
    key: str, value: bytes | str, expected: Entry | None, *, ttl: float | None = None
) -> None:
    """Sets `key` if it still is as `expected` says, or if there still is none for `None`;
    else raises a `StateError` of kind `conflict`."""
    version = None if expected is None else expected.version
    if not _host().compare_and_set(key, _bytes(value), version, _milliseconds(ttl)):
        raise StateError("conflict", f"`{key}` has changed meanwhile")


def increment(key: str, by: int = 1) -> int:
    """Adds to a counter, 0 where there is none, and returns the sum as this call sees it."""
    return _host().increment(key, by)


def delete(key: str) -> None:
    """Removes `key`; nothing happens where there is none."""
    _host().delete(key)


def keys(prefix: str = "") -> Iterator[str]:
    """All keys with the prefix, in byte order."""
    cursor = None
    while page := _host().list_keys(prefix, cursor, _PAGE):
        yield from page
        cursor = page[-1]


def _host() -> Any:
    return platform.host.part("state")


def _bytes(value: bytes | str) -> bytes:
    return value.encode() if isinstance(value, str) else bytes(value)


def _milliseconds(ttl: float | None) -> int | None:
    if ttl is not None and not ttl > 0:
        raise ValueError(f"ttl is {ttl}: it must be seconds, more than 0")
    return None if ttl is None else math.ceil(ttl * 1000)
