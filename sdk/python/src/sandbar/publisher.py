"""Publish now, whatever the outcome of the call; the operator grants `publisher`.

    from sandbar import publisher

    publisher.publish(Outgoing("audit", json={"seen": event.id}))

Prefer returning events: those are published only if the attempt succeeds. A retried attempt
publishes here again. In a unit test the events are in `sandbar.testing.published()`.
"""

from __future__ import annotations

from . import platform
from .event import Outgoing
from .failure import Retry


class PublishError(Retry):
    """Some of the events may not be published; `kind` is `denied`, `too-large`, `timeout`, `unavailable`
    or `other`. Not caught, it means another attempt."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(f"publish: {reason}")
        self.kind = kind


def publish(*events: Outgoing) -> None:
    """Returns once the broker has confirmed every event; else raises `PublishError`."""
    platform.host.part("publisher").publish(list(events))
