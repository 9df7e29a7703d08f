"""Turns GitHub webhooks into small typed events, in order per repository."""

from sandbar import Event, Outgoing, Reject, handler


@handler(
    topics=["github.webhooks"],
    publishes=["github.events"],
    ordering="key",
    retry={"max_attempts": 5, "initial_delay": "200ms"},
)
def route(event: Event) -> Outgoing:
    name, body = event.json(webhook)
    if not name:
        raise Reject("no-event-name", "`event` is empty")

    action = body["action"]
    kind = name if action is None else f"{name}.{action}"
    # events of one repository, or else of one organisation, stay in order
    key = next((body[k] for k in ("repository", "organization") if body[k] is not None), "none")
    return Outgoing(
        "github.events",
        key=key,
        # the same webhook always gives the same bytes
        json={"type": kind, **body},
        # an id that a redelivery repeats lets consumers find duplicates
        attributes={"id": event.id, "source": "/github-router", "type": kind},
    )


def webhook(value: object) -> tuple[str, dict]:
    """A webhook as a relay writes it: GitHub's event name and the body it posted."""
    said = mapping(value, "the webhook")
    name, body = said["event"], mapping(said["payload"], "payload")
    if not isinstance(name, str):
        raise TypeError("event is no text")
    parts = (body.get(part) for part in ("pull_request", "issue", "discussion"))
    subject = mapping(next((part for part in parts if part is not None), {}), "the subject")
    return name, {
        "repository": text(part(body, "repository"), "full_name"),
        "organization": text(part(body, "organization"), "login"),
        "sender": text(part(body, "sender"), "login"),
        "action": text(body, "action"),
        "number": whole(subject, "number"),
        "title": text(subject, "title"),
        "at": text(subject, "updated_at"),
    }


def part(body: dict, name: str) -> dict:
    return {} if body.get(name) is None else mapping(body[name], f"payload.{name}")


def mapping(value: object, what: str) -> dict:
    if not isinstance(value, dict):
        raise TypeError(f"{what} is no object")
    return value


def text(body: dict, name: str) -> str | None:
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{name} is no text")
    return value


def whole(body: dict, name: str) -> int | None:
    value = body.get(name)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
        raise TypeError(f"{name} is no whole number")
    return value
