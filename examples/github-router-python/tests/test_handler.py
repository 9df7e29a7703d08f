from pathlib import Path

import pytest
from sandbar import Event, Reject

from handler import route

WEBHOOKS = Path(__file__).parents[2] / "data" / "github-webhooks.ndjson"


def test_a_webhook_becomes_a_typed_event_of_its_repository():
    webhook = {
        "event": "pull_request",
        "payload": {
            "action": "opened",
            "pull_request": {"number": 2, "title": 'Say "hi"', "updated_at": "2019-05-15T15:20:33Z"},
            "repository": {"full_name": "o/r"},
            "sender": {"login": "ada"},
        },
    }
    output = route(Event("github.webhooks", json=webhook, position=7))
    assert output.key_text == "o/r"
    assert output.payload_text == (
        '{"type":"pull_request.opened","repository":"o/r","organization":null,"sender":"ada",'
        '"action":"opened","number":2,"title":"Say \\"hi\\"","at":"2019-05-15T15:20:33Z"}'
    )
    assert output.attributes["id"] == "github.webhooks/0/7"


@pytest.mark.parametrize(
    ("line", "code", "what"),
    [
        ("", "invalid-json", "line 1 column 1"),
        ('{"event":"push"}', "invalid-json", "'payload' is missing"),
        ('{"event":"push","payload":{"action":1}}', "invalid-json", "action is no text"),
        ('{"event":"","payload":{}}', "no-event-name", "`event` is empty"),
    ],
)
def test_malformed_lines_are_rejected_and_say_why(line, code, what):
    with pytest.raises(Reject) as raised:
        route(Event("github.webhooks", text=line))
    assert raised.value.code == code
    assert what in raised.value.message


def test_all_real_webhooks_are_routed():
    lines = WEBHOOKS.read_text().splitlines()
    keys = [route(Event("github.webhooks", text=line)).key_text for line in lines]
    assert len(keys) == 329
    assert keys.count("Codertocat/Hello-World") == 230
