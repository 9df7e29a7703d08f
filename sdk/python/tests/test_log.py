"""What tracebacks look like: the module for components, with stand-ins for the generated bindings."""

import enum
import importlib
import logging
import sys
import types

import pytest


@pytest.fixture
def log(monkeypatch):
    said = []
    levels = enum.Enum("Level", "TRACE DEBUG INFO WARN ERROR CRITICAL")
    bindings = types.SimpleNamespace(Level=levels, log=lambda *line: said.append(line))
    for name, module in {
        "wit_world": types.ModuleType("wit_world"),
        "wit_world.imports": types.SimpleNamespace(logging=bindings),
        "wit_world.imports.logging": bindings,
    }.items():
        monkeypatch.setitem(sys.modules, name, module)
    sys.modules.pop("sandbar._log", None)
    yield importlib.import_module("sandbar._log"), said
    sys.modules.pop("sandbar._log", None)


def fail(text):
    try:
        raise KeyError("first")
    except KeyError as error:
        raise ValueError(text) from error


def test_a_panic_has_message_place_and_traceback_with_its_cause(log):
    log, said = log
    log.keep_sources({__file__: open(__file__).read()})
    with pytest.raises(ValueError) as raised:
        fail("on purpose")
    log.panic(raised.value)
    [(level, context, message)] = said
    assert (level.name, context) == ("CRITICAL", "panic")
    first, *rest = message.splitlines()
    assert first.startswith("ValueError: on purpose (") and "test_log.py:" in first
    assert rest[0] == "Traceback (most recent call last):"
    assert "KeyError: 'first'" in rest
    assert "The above exception was the direct cause of the following exception:" in rest
    assert rest[-2].strip() == "raise ValueError(text) from error"
    assert rest[-1] == "ValueError: on purpose"


def test_an_error_without_a_text_still_has_a_name(log):
    log, said = log

    class Mute(Exception):
        def __str__(self):
            raise RuntimeError

    log.panic(Mute())
    assert said[0][2].splitlines()[-1].endswith("Mute: its text cannot be made")


def test_what_cannot_be_logged_is_said(log):
    log, said = log
    handler = log._Handler()
    handler.handle(logging.LogRecord("n", logging.INFO, "f", 1, "%d", ("x",), None))
    level, context, message = said[0]
    assert (level.name, context) == ("ERROR", "n")
    assert message.startswith("cannot log '%d'") and message.rstrip().splitlines()[-1].startswith("TypeError")
