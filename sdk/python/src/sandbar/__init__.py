"""Write Sandbar plugins in Python: one decorator on one function.

    import logging
    from sandbar import Event, Outgoing, handler

    log = logging.getLogger("greeter")

    @handler(topics=["arrivals"], publishes=["greetings"])
    def greet(event: Event):
        name = event.json()["name"]
        log.info("greeting %s", name)
        return Outgoing("greetings", key=name, text=f"Hello, {name}!")
"""

from . import config, context
from .event import Event, Header, Outgoing
from .failure import Defer, Failure, Reject, Retry, Skip
from .plugin import DefinitionError, handler, init

__all__ = [
    "Defer",
    "DefinitionError",
    "Event",
    "Failure",
    "Header",
    "Outgoing",
    "Reject",
    "Retry",
    "Skip",
    "config",
    "context",
    "handler",
    "init",
]
