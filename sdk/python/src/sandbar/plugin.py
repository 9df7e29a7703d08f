"""From a decorated function to a plugin."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Literal, TypedDict, TypeVar

from .event import Event, Outgoing
from .failure import Failure

Function = TypeVar("Function", bound=Callable[..., Any])


class DefinitionError(TypeError):
    """A mistake in what was given to the decorator: found by the build, never by an event."""


class RetryPolicy(TypedDict, total=False):
    """Suggested retry policy; durations as texts such as `"200ms"` or `"1h 30m"`."""

    max_attempts: int
    initial_delay: str
    max_delay: str
    multiplier: float
    jitter: float
    max_age: str
    through: Literal["memory", "topics"]


class DeadLetter(TypedDict, total=False):
    """Suggested handling of events that are given up."""

    topic: str
    dialect: Literal["none", "spring", "connect", "streams"]
    on_exhausted: Literal["dead-letter", "halt", "drop"]
    on_dead_letter: Literal["continue", "halt-key"]


class Dedup(TypedDict, total=False):
    """How long handled events are recognised and passed over."""

    window: str


class Breaker(TypedDict, total=False):
    """When to pause because nothing works."""

    failures: int
    pause: str
    max_pause: str


@dataclass
class Plugin:
    """What a module defines."""

    function: Callable[..., Any]
    topics: list[str]
    publishes: list[str] = field(default_factory=list)
    connection: str | None = None
    #: By the names that they have in `NAME.toml`, in the order given.
    options: list[tuple[str, str]] = field(default_factory=list)
    batch: bool = False
    config_schema: str | None = None
    name: str | None = None
    version: str | None = None
    description: str | None = None


#: A component has one plugin, and one function that prepares it.
defined: Plugin | None = None
initialise: Callable[[], None] | None = None


def handler(
    *,
    topics: Iterable[str],
    publishes: Iterable[str] = (),
    connection: str | None = None,
    ordering: Literal["key", "partition", "none"] | None = None,
    delivery: Literal["at-least-once", "exactly-once"] | None = None,
    concurrency: int | None = None,
    max_in_flight: int | None = None,
    start: Literal["earliest", "latest"] | None = None,
    retry: RetryPolicy | None = None,
    dead_letter: DeadLetter | None = None,
    dedup: Dedup | None = None,
    breaker: Breaker | None = None,
    batch: bool = False,
    config_schema: str | None = None,
    name: str | None = None,
    version: str | None = None,
    description: str | None = None,
) -> Callable[[Function], Function]:
    """Makes the function the plugin's handler; the function itself stays as it is, for tests.

    It takes an `Event` and returns an `Outgoing`, any number of them (or yields them), or
    nothing. With `batch=True` it takes a list of events and returns one such outcome, or a
    `Failure`, per event. All settings are suggestions: the operator's configuration wins.
    """
    settings = {
        "ordering": ordering,
        "delivery": delivery,
        "concurrency": concurrency,
        "max_in_flight": max_in_flight,
        "start": start,
        "retry": retry,
        "dead_letter": dead_letter,
        "dedup": dedup,
        "breaker": breaker,
    }

    def define(function: Function) -> Function:
        global defined
        if defined is not None:
            raise DefinitionError(
                f"a plugin has one handler: {defined.function.__qualname__} is it already, "
                f"so {function.__qualname__} needs a plugin of its own"
            )
        defined = Plugin(
            function=function,
            topics=_topics("topics", topics),
            publishes=_topics("publishes", publishes),
            connection=connection,
            options=_options(settings),
            batch=batch,
            config_schema=config_schema,
            name=name,
            version=version,
            description=description,
        )
        if not defined.topics:
            raise DefinitionError('`topics` is empty: say what the handler subscribes to, ["orders"]')
        return function

    return define


def init(function: Function) -> Function:
    """Has the function called on each new instance, before its first event. What it raises
    keeps the previous version of the plugin running."""
    global initialise
    initialise = function
    return function


def outputs(returned: Any) -> list[Outgoing]:
    """What a handler may return, as a list."""
    if returned is None:
        return []
    if isinstance(returned, Outgoing):
        return [returned]
    if isinstance(returned, Iterable) and not isinstance(returned, (str, bytes, Mapping)):
        found = list(returned)
        if all(isinstance(one, Outgoing) for one in found):
            return found
    raise TypeError(f"a handler returns an Outgoing, several of them, or None, not {returned!r}")


def outcomes(returned: Iterable[Any]) -> list[list[Outgoing] | Failure]:
    """What a batch handler returns: per event a failure, or what a handler may return."""
    return [one if isinstance(one, Failure) else outputs(one) for one in returned]


def run(plugin: Plugin, event: Event) -> list[Outgoing]:
    """Handles one event."""
    return outputs(plugin.function(event))


_DURATION = re.compile(r"(\d+ ?(ms|s|m|h|d|w) ?)+")


def _one_of(*names: str) -> Callable[[Any], str | None]:
    return lambda value: None if value in names else f"one of {', '.join(map(repr, names))}"


def _count(value: Any) -> str | None:
    fits = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    return None if fits else "a whole number, at least 1"


def _text(value: Any) -> str | None:
    return None if isinstance(value, str) and value.strip() else "a text that is not empty"


def _duration(value: Any) -> str | None:
    fits = isinstance(value, str) and _DURATION.fullmatch(value)
    return None if fits else "a duration such as '200ms' or '1h 30m'"


def _number(least: float, most: float, words: str) -> Callable[[Any], str | None]:
    def check(value: Any) -> str | None:
        return None if isinstance(value, (int, float)) and least <= value <= most else words

    return check


_SHARE = _number(0, 1, "a number between 0 and 1")
_FACTOR = _number(1, float("inf"), "a number, at least 1")

#: What each setting must be; a mapping is a group. Each check says what was wanted instead.
_SETTINGS: dict[str, Any] = {
    "ordering": _one_of("key", "partition", "none"),
    "delivery": _one_of("at-least-once", "exactly-once"),
    "concurrency": _count,
    "max_in_flight": _count,
    "start": _one_of("earliest", "latest"),
    "retry": {
        "max_attempts": _count,
        "initial_delay": _duration,
        "max_delay": _duration,
        "multiplier": _FACTOR,
        "jitter": _SHARE,
        "max_age": _duration,
        "through": _one_of("memory", "topics"),
    },
    "dead_letter": {
        "topic": _text,
        "dialect": _one_of("none", "spring", "connect", "streams"),
        "on_exhausted": _one_of("dead-letter", "halt", "drop"),
        "on_dead_letter": _one_of("continue", "halt-key"),
    },
    "dedup": {"window": _duration},
    "breaker": {"failures": _count, "pause": _duration, "max_pause": _duration},
}


def _options(given: Mapping[str, Any]) -> list[tuple[str, str]]:
    found = []
    for name, value in given.items():
        if value is None:
            continue
        known = _SETTINGS[name]
        if not isinstance(known, dict):
            found.append((_setting(name), _checked(name, value, known)))
            continue
        if not isinstance(value, Mapping):
            raise DefinitionError(f"`{name}` is {value!r}: it must be a dict of {', '.join(known)}")
        for part, inner in value.items():
            if part not in known:
                near = get_close_matches(part, known, 1)
                hint = f", did you mean `{near[0]}`?" if near else ""
                raise DefinitionError(f"unknown key `{name}.{part}`{hint} (known: {', '.join(known)})")
            text = _checked(f"{name}.{part}", inner, known[part])
            found.append((f"{_setting(name)}.{_setting(part)}", text))
    return found


def _setting(name: str) -> str:
    """Python spells `max_in_flight` what the configuration spells `max-in-flight`."""
    return name.replace("_", "-")


def _checked(name: str, value: Any, check: Callable[[Any], str | None]) -> str:
    wanted = check(value)
    if wanted is not None:
        raise DefinitionError(f"`{name}` is {value!r}: it must be {wanted}")
    return str(value)


def _topics(name: str, topics: Iterable[str]) -> list[str]:
    if isinstance(topics, str):
        raise DefinitionError(f"`{name}` is {topics!r}: it must be a list, [{topics!r}]")
    return [_checked(f"{name}[{at}]", topic, _text) for at, topic in enumerate(topics)]
