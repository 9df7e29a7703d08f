"""What the host calls. Only in a component; the build's own module imports it after the
author's."""

from __future__ import annotations

import math
from typing import Any

from componentize_py_types import Err, Ok
from wit_world.exports import plugin as wit
from wit_world.imports import context, store

try:
    from wit_world.imports import types
except ImportError:
    # where the types of HTTP are there too
    from wit_world.imports import sandbar_events_types as types

from . import _log, _reach, platform, plugin
from .config import ConfigError
from .event import Event, Header, Outgoing
from .failure import Defer, Failure, Reject, Retry, Skip

_LONGEST = 2**64 - 1

#: What the package says of itself.
facts: dict[str, Any] = {}


def start(sources: dict[str, str], *, clock: bool, uses: list[str], **said: Any) -> None:
    """At build time, before the component's memory is kept."""
    facts.update(said)
    _log.capture(clock)
    _log.keep_sources(sources)
    platform.host = platform.Host(
        config_get=lambda key: _asked(f"`{key}`", lambda: store.get(key)),
        config_all=lambda: _asked("", lambda: dict(store.get_all())),
        plugin_name=context.plugin_name,
        plugin_version=context.plugin_version,
        connection=context.connection,
        remaining_ms=context.remaining_ms,
        **_reach.parts(uses, _outgoing),
    )


class Plugin:
    def describe(self) -> wit.Metadata:
        it = _plugin()
        return wit.Metadata(
            name=it.name or facts["name"],
            version=it.version or facts["version"],
            description=it.description or facts["description"],
            subscriptions=[wit.Subscription(it.connection, it.topics, it.options)],
            publishes=it.publishes,
            config_schema=it.config_schema,
            annotations=facts["annotations"],
        )


class Lifecycle:
    def init(self) -> None:
        try:
            _log.begin()
            if plugin.initialise is not None:
                plugin.initialise()
        except Failure as failure:
            raise Err(str(failure)) from failure
        except BaseException as error:
            _log.panic(error)
            raise


class Handler:
    def handle(self, event: types.Event) -> list[types.Outgoing]:
        try:
            return [_outgoing(one) for one in plugin.run(_plugin(), _event(event))]
        except Failure as failure:
            raise Err(_failure(failure)) from None
        except BaseException as error:
            # it ends the instance, and the host takes the text from the log
            _log.panic(error)
            raise


class BatchHandler:
    def handle_batch(self, events: list[types.Event]) -> list[Any]:
        try:
            found = plugin.outcomes(_plugin().function([_event(event) for event in events]))
            return [
                Err(_failure(one)) if isinstance(one, Failure) else Ok([_outgoing(o) for o in one])
                for one in found
            ]
        except BaseException as error:
            _log.panic(error)
            raise


def _plugin() -> plugin.Plugin:
    assert plugin.defined is not None, "the build has looked"
    return plugin.defined


def _event(said: types.Event) -> Event:
    event = Event.__new__(Event)
    event.topic = said.topic
    event.partition = said.partition
    event.position = said.position
    event.key = said.key
    event.payload = said.payload
    event.headers = [Header(h.name, h.value) for h in said.headers]
    event.timestamp_ms = said.timestamp_ms
    event.attempt = said.attempt
    event.attributes = dict(said.attributes)
    return event


def _outgoing(event: Outgoing) -> types.Outgoing:
    return types.Outgoing(
        connection=event.connection,
        topic=event.topic,
        key=event.key,
        payload=event.payload,
        headers=[types.Header(h.name, h.value) for h in event.headers],
        attributes=list(event.attributes.items()),
    )


def _failure(failure: Failure) -> types.Failure:
    match failure:
        case Retry(reason=reason, after=after):
            delay = None if after is None else _milliseconds(after)
            return types.Failure_Retry(types.RetryHint(reason, delay))
        case Reject(code=code, message=message):
            return types.Failure_Reject(types.RejectReason(code, message))
        case Skip(reason=reason):
            return types.Failure_Skip(reason)
        case Defer(pause=pause):
            return types.Failure_Defer(_milliseconds(pause))
    raise TypeError("raise Retry, Reject, Skip or Defer, not Failure itself")


def _milliseconds(seconds: float) -> int:
    return _LONGEST if seconds >= _LONGEST / 1000 else math.ceil(seconds * 1000)


def _asked(what: str, call: Any) -> Any:
    try:
        return call()
    except Err as error:
        raise ConfigError(f"config {what}: {error.value.value}") from None
