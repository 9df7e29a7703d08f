import pytest
from sandbar import Outgoing, Retry, http, metrics, platform, publisher, secrets, state, testing


@pytest.fixture(autouse=True)
def fresh():
    testing.set_config()


def test_state_is_kept_compared_counted_and_listed():
    assert state.get("k") is None and state.get_json("k", 7) == 7
    state.set("k", "v")
    seen = state.entry("k")
    assert seen is not None and seen.value == b"v"
    state.compare_and_set("k", b"w", seen)
    with pytest.raises(state.StateError) as raised:
        state.compare_and_set("k", b"x", seen)
    assert raised.value.kind == "conflict" and isinstance(raised.value, Retry)
    with pytest.raises(state.StateError):
        state.compare_and_set("k", b"x", None)
    assert (state.increment("n"), state.increment("n", 4)) == (1, 5)
    state.set_json("a/1", {"x": 1})
    state.set("a/2", "")
    assert list(state.keys("a/")) == ["a/1", "a/2"] and state.get_json("a/1") == {"x": 1}
    state.delete("a/1")
    state.delete("a/1")
    assert list(state.keys("a/")) == ["a/2"]
    with pytest.raises(ValueError, match="more than 0"):
        state.set("k", "v", ttl=0)
    testing.set_config()
    assert state.get("k") is None


def test_what_is_published_and_counted_is_seen_in_a_test():
    publisher.publish(Outgoing("t", text="x"), Outgoing("u"))
    assert [event.topic for event in testing.published()] == ["t", "u"]
    testing.fail_publish(publisher.PublishError("timeout", "late"))
    with pytest.raises(publisher.PublishError, match="late"):
        publisher.publish(Outgoing("t"))
    publisher.publish(Outgoing("v"))
    assert len(testing.published()) == 3
    metrics.count("seen", country="de")
    metrics.count("seen", 2, country="de")
    metrics.observe("size", 1)
    assert testing.counted("seen", country="de") == 3 and testing.counted("seen") == 0
    assert testing.observed("size") == [1.0]


def test_a_secret_is_there_or_named():
    testing.set_secrets(token="x", raw=b"\xff")
    assert secrets.get("token") == b"x" and secrets.require("token") == "x"
    with pytest.raises(secrets.SecretError, match="`other` is not granted"):
        secrets.require("other")
    with pytest.raises(secrets.SecretError, match="`raw` is no text"):
        secrets.require("raw")


def test_requests_are_answered_by_the_test_and_denied_without():
    with pytest.raises(http.HttpError) as raised:
        http.get("https://api.example.com/x")
    assert raised.value.kind == "denied" and 'add "api.example.com"' in str(raised.value)

    def answer(request):
        assert (request.method, request.body) == ("POST", b'{"a": 1}')
        assert ("content-type", "application/json") in request.headers
        return http.Response(503, [("x-a", "1")], b"busy")

    testing.on_request(answer)
    response = http.post("https://api.example.com/x", json={"a": 1})
    assert (response.ok, response.header("X-A"), response.text()) == (False, "1", "busy")
    with pytest.raises(http.HttpError, match="status 503: busy"):
        response.raise_for_status()


def test_what_is_not_part_of_a_component_says_how_it_becomes_one():
    platform.host.state = platform.host.secret = None
    with pytest.raises(RuntimeError, match=r'sandbar.state is not part .* uses = \["state"\]'):
        state.get("k")
    with pytest.raises(RuntimeError, match="sandbar.secrets is not part"):
        secrets.get("k")
