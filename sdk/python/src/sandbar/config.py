"""The plugin's configuration: the `config` table of `NAME.toml` or `[plugin.NAME]`.

    threshold = config.parse("threshold", int, 60)

In a unit test the values are those of `sandbar.testing.set_config`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, overload

from . import platform
from .failure import Retry

T = TypeVar("T")
D = TypeVar("D")


class ConfigError(Retry):
    """A value that cannot be used. Worth a retry: the operator may mend it meanwhile."""


def get(key: str) -> str | None:
    """The value of `key`, where it is set."""
    return platform.host.config_get(key)


def require(key: str) -> str:
    """The value of `key`; `ConfigError` where it is not set."""
    value = get(key)
    if value is None:
        raise ConfigError(f"config `{key}` is not set: add it under `config` of this plugin")
    return value


@overload
def parse(key: str, read: Callable[[str], T]) -> T | None: ...
@overload
def parse(key: str, read: Callable[[str], T], default: D) -> T | D: ...
def parse(key: str, read: Callable[[str], T], default: object = None) -> object:
    """What `read` (`int`, `float`, ...) makes of the value of `key`; `default` where it is not
    set, `ConfigError` where `read` refuses it with a `ValueError`."""
    value = get(key)
    if value is None:
        return default
    try:
        return read(value)
    except ValueError as error:
        raise ConfigError(f"config `{key}` is {value!r}: {error}") from error


def all() -> dict[str, str]:
    """All keys and values."""
    return platform.host.config_all()
