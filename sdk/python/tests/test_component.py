"""The built plugin in a test. Against a stand-in for the `sandbar` program: what it is asked, and
how its answers are read. The program itself is tested with plugins in `tests/languages`."""

import json
import stat
import sys

import pytest
from sandbar import Event
from sandbar.testing import Component, ComponentError, LogLine


@pytest.fixture
def program(tmp_path):
    def write(script):
        path = tmp_path / "sandbar"
        path.write_text(f"#!{sys.executable}\nimport json, sys\n{script}")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return path

    return write


ECHO = """
for line in sys.stdin:
    event = json.loads(line)
    output = {"topic": "out", "key": event["key"], "payload": event["payload"],
              "headers": [["args", json.dumps(sys.argv[1:])]] + event["headers"], "attributes": event["attributes"]}
    log = [{"level": "info", "context": "c", "message": line.strip()}]
    print(json.dumps({"verdict": "ok", "outputs": [output], "log": log}), flush=True)
"""


def test_an_event_gets_there_and_back(program):
    settings = {"config": {"a": "b=c"}, "grants": ["clocks"]}
    with Component("p.wasm", **settings, sandbar=program(ECHO)) as plugin:
        event = Event(
            "in",
            payload=b"\xff\x00",
            key="ü",
            headers=[("h", b"\xfe"), ("h", "2")],
            attributes={"id": "7"},
            timestamp_ms=5,
            attempt=2,
        )
        result = plugin.handle(event)
        assert (result.verdict, result.code, result.after) == ("ok", None, None)
        [output] = result.outputs
        assert (output.topic, output.payload, output.key_text) == ("out", b"\xff\x00", "ü")
        assert [h.value for h in output.headers[1:]] == [b"\xfe", b"2"]
        assert output.attributes == {"id": "7"}
        arguments = json.loads(output.headers[0].value)
        assert arguments == [
            *["plugin", "call", "p.wasm", "--output", "json"],
            *["--config-value", "a=b=c", "--grant", "clocks"],
        ]
        [line] = result.log
        assert isinstance(line, LogLine) and line.level == "info"
        sent = json.loads(line.message)
        assert (sent["timestamp"], sent["attempt"]) == (5, 2)
        assert plugin.handle(Event("in")).outputs[0].payload is None, "a tombstone"
        assert plugin.handle(Event("in", text="")).outputs[0].payload == b""


def test_a_failure_is_read(program):
    script = """
for _ in sys.stdin:
    print('{"verdict":"defer","code":"handler","message":"m","after_ms":1500,"outputs":[],"log":[]}', flush=True)
"""
    with Component(sandbar=program(script)) as plugin:
        result = plugin.handle(Event("in", text=""))
    assert (result.verdict, result.message, result.after) == ("defer", "m", 1.5)


def test_a_plugin_that_does_not_start_says_why(program):
    script = 'print("error: init failed", file=sys.stderr); sys.exit(1)'
    with Component(sandbar=program(script)) as plugin:
        with pytest.raises(ComponentError, match="init failed"):
            plugin.handle(Event("in", text=""))
    with pytest.raises(ComponentError, match="set SANDBAR"):
        Component(sandbar="/nowhere/sandbar")
