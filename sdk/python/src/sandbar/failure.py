"""Why an event was not processed: what a handler raises.

Any other exception ends the attempt and the instance; its traceback is in the log and, when
the attempts are used up, in the dead letter.
"""


class Failure(Exception):
    """Base of the four; raise one of them."""


class Retry(Failure):
    """A transient failure: deliver again. Uses up one attempt, then goes to the dead-letter queue.

    `after` (seconds) overrides the retry policy's next delay; the host clamps it to the policy's
    longest one.
    """

    def __init__(self, reason: str, *, after: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.after = None if after is None else _seconds("after", after)


class Reject(Failure):
    """A permanent failure: straight to the dead-letter queue.

    `code` is for machines and stays the same; dead letters are grouped by it.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class Skip(Failure):
    """Not for this plugin: acknowledge, count as skipped."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Defer(Failure):
    """A dependency is down: pause the plugin for `pause` seconds, then deliver again without
    using up an attempt."""

    def __init__(self, pause: float) -> None:
        self.pause = _seconds("pause", pause)
        super().__init__(f"deferred for {pause} s")


def _seconds(name: str, value: float) -> float:
    if not value >= 0:
        raise ValueError(f"{name} is {value}: it must be seconds, 0 or more")
    return value
