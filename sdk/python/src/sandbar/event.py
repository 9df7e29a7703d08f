"""What comes in and what goes out."""

from __future__ import annotations

import json as _json
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar, overload

from .failure import Reject

T = TypeVar("T")

#: Names with values: a mapping, or pairs where a name repeats.
Pairs = Mapping[str, Any] | Iterable[tuple[str, Any]]

_NOT_GIVEN: Any = object()


class Header(NamedTuple):
    """A broker header. Names may repeat; the value is raw bytes."""

    name: str
    value: bytes

    @property
    def text(self) -> str | None:
        """The value as text, where it is UTF-8."""
        return _text(self.value)


class Event:
    """One event as it was delivered. In a test make one with `Event(topic, json=...)`."""

    __slots__ = (
        "topic",
        "partition",
        "position",
        "key",
        "payload",
        "headers",
        "timestamp_ms",
        "attempt",
        "attributes",
    )

    def __init__(
        self,
        topic: str,
        *,
        payload: bytes | None = None,
        text: str | None = None,
        json: Any = _NOT_GIVEN,
        key: str | bytes | None = None,
        headers: Pairs = (),
        attributes: Pairs = (),
        partition: int = 0,
        position: int = 0,
        timestamp_ms: int = 0,
        attempt: int = 1,
    ) -> None:
        #: Topic, subject, queue or stream.
        self.topic = topic
        #: Partition or shard; 0 where the broker has none.
        self.partition = partition
        #: Offset or stream sequence within the partition; 0 where the broker has none.
        self.position = position
        #: Partitioning or routing key.
        self.key = _bytes(key)
        #: `None` is a tombstone (a delete marker); an empty payload is `b""`.
        self.payload = _payload(payload, text, json)
        #: Headers in the broker's order.
        self.headers = _headers(headers)
        #: Broker timestamp, milliseconds since the Unix epoch.
        self.timestamp_ms = timestamp_ms
        #: 1 on first delivery, +1 on each retry of this event to this plugin.
        self.attempt = attempt
        #: CloudEvents context attributes by bare name (`id`, `type`, `source`, ...) and host
        #: extras under `sandbar-*`.
        self.attributes: dict[str, str] = dict(attributes)

    @property
    def id(self) -> str:
        """Identity that is stable across redeliveries and replays, fit for an idempotency key:
        the CloudEvents `source#id` or `id` where the producer gave them,
        `topic/partition/position` otherwise."""
        source, id = self.attributes.get("source"), self.attributes.get("id")
        if id is None:
            return f"{self.topic}/{self.partition}/{self.position}"
        return id if source is None else f"{source}#{id}"

    @property
    def key_text(self) -> str | None:
        """The key as text, where there is one and it is UTF-8."""
        return _text(self.key)

    @property
    def timestamp(self) -> datetime:
        """The broker's timestamp, in UTC."""
        return datetime.fromtimestamp(self.timestamp_ms / 1000, UTC)

    @property
    def content_type(self) -> str | None:
        """Media type of the payload: the CloudEvents attribute `datacontenttype`, else the
        header `content-type` in any letter case."""
        given = self.attributes.get("datacontenttype")
        if given is not None:
            return given
        return next((h.text for h in self.headers if h.name.lower() == "content-type"), None)

    def bytes(self) -> bytes:
        """The payload's bytes. Rejects a tombstone with code `no-payload`."""
        if self.payload is None:
            raise Reject("no-payload", "the event is a tombstone")
        return self.payload

    def text(self) -> str:
        """The payload as text. Rejects a tombstone with code `no-payload` and bytes that are no
        UTF-8 with code `invalid-utf8`."""
        try:
            return self.bytes().decode()
        except UnicodeDecodeError as error:
            raise Reject("invalid-utf8", str(error)) from error

    @overload
    def json(self) -> Any: ...
    @overload
    def json(self, read: Callable[[Any], T]) -> T: ...
    def json(self, read: Callable[[Any], Any] | None = None) -> Any:
        """The payload read as JSON, and what `read` makes of it: `event.json(Order.of)`.

        Rejects a tombstone with code `no-payload`, and with code `invalid-json` what is no JSON
        or what `read` refuses with a `KeyError`, `TypeError` or `ValueError`.
        """
        payload = self.bytes()
        try:
            value = _json.loads(payload)
            return value if read is None else read(value)
        except KeyError as error:
            raise Reject("invalid-json", f"{error} is missing") from error
        except (TypeError, ValueError) as error:
            raise Reject("invalid-json", str(error)) from error

    def header(self, name: str) -> bytes | None:  # noqa: F821  (the built-in, not the method)
        """Value of the first header called `name`; letter case counts."""
        return next((h.value for h in self.headers if h.name == name), None)

    def header_text(self, name: str) -> str | None:
        """As `header`, as text; `None` also where it is no UTF-8."""
        return _text(self.header(name))

    def attribute(self, name: str) -> str | None:
        """The CloudEvents attribute or host extra called `name`."""
        return self.attributes.get(name)

    def __repr__(self) -> str:
        return f"Event({self.id!r}, payload={self.payload!r}, attempt={self.attempt})"


class Outgoing:
    """An event to be published. Without `payload`, `text` or `json` it is a tombstone."""

    __slots__ = ("topic", "connection", "key", "payload", "headers", "attributes")

    def __init__(
        self,
        topic: str,
        *,
        payload: bytes | None = None,
        text: str | None = None,
        json: Any = _NOT_GIVEN,
        key: str | bytes | None = None,
        headers: Pairs = (),
        attributes: Pairs = (),
        connection: str | None = None,
    ) -> None:
        #: Destination topic; must be one that the plugin may publish to.
        self.topic = topic
        #: Name of a configured connection; `None` is the plugin's default output.
        self.connection = connection
        #: Partitioning or routing key.
        self.key = _bytes(key)
        #: `None` is a tombstone (a delete marker).
        self.payload = _payload(payload, text, json)
        #: Headers, written as given.
        self.headers = _headers(headers)
        #: CloudEvents attributes by bare name; the host writes them as the broker spells them.
        self.attributes: dict[str, str] = dict(attributes)

    @property
    def key_text(self) -> str | None:
        """The key as text, where there is one and it is UTF-8: for tests."""
        return _text(self.key)

    @property
    def payload_text(self) -> str | None:
        """The payload as text, where there is one and it is UTF-8: for tests."""
        return _text(self.payload)

    def __repr__(self) -> str:
        return f"Outgoing({self.topic!r}, key={self.key!r}, payload={self.payload!r})"


def _bytes(value: str | bytes | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value


def _payload(payload: bytes | None, text: str | None, json: Any) -> bytes | None:
    if json is not _NOT_GIVEN:
        return _json.dumps(json, ensure_ascii=False, separators=(",", ":")).encode()
    return payload if text is None else text.encode()


def _headers(pairs: Pairs) -> list[Header]:
    pairs = pairs.items() if isinstance(pairs, Mapping) else pairs
    return [Header(name, _bytes(value) or b"") for name, value in pairs]


def _text(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None
