import json

import pytest
import sandbar
from sandbar import DefinitionError, Event, Header, Outgoing, Reject, Retry, config, plugin, testing


@pytest.fixture(autouse=True)
def fresh():
    plugin.defined = plugin.initialise = None
    testing.set_config()


def define(function=lambda event: None, **settings):
    return sandbar.handler(**{"topics": ["a"], **settings})(function)


def test_identity_is_source_and_id_or_the_position():
    event = Event("t", partition=2, position=7)
    assert event.id == "t/2/7"
    assert Event("t", attributes={"source": "/s"}).id == "t/0/0"
    assert Event("t", attributes={"id": "1"}).id == "1"
    assert Event("t", attributes={"id": "1", "source": "/s"}).id == "/s#1"


def test_content_type_prefers_the_attribute_and_ignores_the_header_s_case():
    headers = {"Content-Type": "text/plain"}
    assert Event("t", headers=headers).content_type == "text/plain"
    given = Event("t", headers=headers, attributes={"datacontenttype": "application/json"})
    assert given.content_type == "application/json"
    assert Event("t", headers=[("content-type", b"\xff")]).content_type is None


def test_tombstone_empty_and_binary_are_told_apart():
    with pytest.raises(Reject) as raised:
        Event("t").text()
    assert raised.value.code == "no-payload"
    assert Event("t", text="").text() == ""
    with pytest.raises(Reject) as raised:
        Event("t", payload=b"\xff").text()
    assert raised.value.code == "invalid-utf8"


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b"{", "line 1 column 2"),
        (b"\xff", "utf-8"),
        (b"{}", "'total' is missing"),
        (b"[]", "list indices"),
        (b'{"total": "x"}', "could not convert string to float"),
    ],
)
def test_what_is_not_the_json_that_was_wanted_is_rejected(payload, message):
    with pytest.raises(Reject) as raised:
        Event("t", payload=payload).json(lambda order: float(order["total"]))
    assert raised.value.code == "invalid-json"
    assert message in raised.value.message


def test_outputs_are_written_as_compact_json_in_utf_8():
    output = Outgoing("t", json={"a": ["ü", "\x1f"], "b": None}, key="k", headers={"h": "v"})
    assert output.payload == '{"a":["ü","\\u001f"],"b":null}'.encode()
    assert (output.key, output.headers) == (b"k", [Header("h", b"v")])
    assert Outgoing("t").payload is None
    assert Outgoing("t", json=None).payload == b"null"


def test_a_handler_returns_one_some_or_nothing():
    one = Outgoing("x")
    for returned, expected in [(None, []), (one, [one]), ([one, one], [one, one]), ((o for o in [one]), [one])]:
        plugin.defined = None
        define(lambda event, returned=returned: returned)
        assert testing.handle(Event("a")) == expected
    for wrong in ["text", 5, [1], {"a": one}]:
        with pytest.raises(TypeError, match="returns an Outgoing"):
            plugin.outputs(wrong)


def test_options_are_named_as_in_the_configuration():
    define(
        ordering="partition",
        max_in_flight=10,
        retry={"max_attempts": 5, "initial_delay": "200ms", "jitter": 0.1},
        dead_letter={"on_dead_letter": "halt-key"},
        dedup={"window": "1d"},
    )
    assert plugin.defined.options == [
        ("ordering", "partition"),
        ("max-in-flight", "10"),
        ("retry.max-attempts", "5"),
        ("retry.initial-delay", "200ms"),
        ("retry.jitter", "0.1"),
        ("dead-letter.on-dead-letter", "halt-key"),
        ("dedup.window", "1d"),
    ]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"topics": []}, "`topics` is empty"),
        ({"topics": "a"}, r"must be a list, \['a'\]"),
        ({"topics": [" "]}, r"`topics\[0\]` is ' '"),
        ({"ordering": "keys"}, "one of 'key', 'partition', 'none'"),
        ({"concurrency": 0}, "a whole number, at least 1"),
        ({"concurrency": True}, "a whole number, at least 1"),
        ({"retry": {"max_atempts": 5}}, "did you mean `max_attempts`"),
        ({"retry": {"initial_delay": "5 apples"}}, "'200ms'"),
        ({"retry": {"jitter": 1.5}}, "between 0 and 1"),
        ({"breaker": 5}, "must be a dict of failures"),
    ],
)
def test_a_mistake_says_what_to_write(settings, message):
    with pytest.raises(DefinitionError, match=message):
        define(**settings)


def test_a_plugin_has_one_handler():
    define()
    with pytest.raises(DefinitionError, match="one handler"):
        define()


def test_configuration_errors_name_key_and_value_and_are_worth_a_retry():
    testing.set_config(n="many")
    assert config.get("n") == "many"
    assert config.all() == {"n": "many"}
    assert config.parse("m", int, 3) == 3
    with pytest.raises(Retry, match="config `n` is 'many': invalid literal"):
        config.parse("n", int)
    with pytest.raises(Retry, match="config `m` is not set"):
        config.require("m")


def test_a_delay_is_no_less_than_nothing():
    assert Retry("r", after=0).after == 0
    with pytest.raises(ValueError, match="after is -1"):
        Retry("r", after=-1)
    with pytest.raises(ValueError, match="pause is nan"):
        sandbar.Defer(json.loads("NaN"))
