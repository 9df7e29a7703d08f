"""`sandbar.testing.Component` on a plugin that was built, by the `sandbar` program itself."""

import os

import pytest
from sandbar import Event
from sandbar.testing import Component, ComponentError


@pytest.fixture(scope="module")
def greeter():
    with Component(os.environ["GREETER"]) as plugin:
        yield plugin


def test_an_arrival_is_greeted_by_name(greeter):
    result = greeter.handle(Event("arrivals", json={"name": "Ada"}))
    assert result.verdict == "ok"
    [greeting] = result.outputs
    assert (greeting.topic, greeting.key_text, greeting.payload_text) == ("greetings", "Ada", "Hello, Ada!")
    assert [line.message for line in result.log] == ["greeting Ada"]


def test_a_failure_is_no_exception(greeter):
    result = greeter.handle(Event("arrivals", json={"name": ""}))
    assert (result.verdict, result.code, result.outputs) == ("reject", "no-name", [])
    assert greeter.handle(Event("arrivals")).code == "no-payload"
    assert greeter.handle(Event("arrivals", payload=b"\xff")).verdict == "reject"


def test_what_is_no_plugin_says_so():
    with Component(__file__ + ".wasm") as plugin:
        with pytest.raises(ComponentError, match="cannot read"):
            plugin.handle(Event("arrivals"))
