"""The host's capabilities as the SDK's modules want them. Only in a component, and each only where
the plugin uses it: an import is there or not, once and for all."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from componentize_py_types import Err

#: Most bytes read at once.
_CHUNK = 64 << 10
_NANOSECONDS = 1_000_000_000


def parts(uses: list[str], outgoing: Callable[[Any], Any]) -> dict[str, Any]:
    """By the names they have in `platform.Host`."""
    made = {"secrets": _secrets, "state": _State, "metrics": _metrics, "http": _Http}
    found = {_name(use): made[use]() for use in uses if use in made}
    if "publisher" in uses:
        found["publisher"] = _Publisher(outgoing)
    return found


def _name(use: str) -> str:
    return "secret" if use == "secrets" else use


def _secrets() -> Any:
    from wit_world.imports import secrets

    return secrets.get


def _metrics() -> Any:
    from wit_world.imports import metrics

    return metrics


def _kind(case: Any) -> str:
    """`StateError_QuotaExceeded` is `quota-exceeded`."""
    name = type(case).__name__.partition("_")[2]
    return "".join(f"-{c.lower()}" if c.isupper() else c for c in name).lstrip("-")


class _State:
    def __init__(self) -> None:
        from wit_world.imports import state

        self.host = state

    def _call(self, function: Callable[..., Any], *args: Any) -> Any:
        from .state import StateError

        try:
            return function(*args)
        except Err as error:
            kind = _kind(error.value)
            raise StateError(kind, str(getattr(error.value, "value", kind))) from None

    def get(self, key: str) -> tuple[bytes, int] | None:
        found = self._call(self.host.get, key)
        return None if found is None else (found.value, found.version)

    def set(self, key: str, value: bytes, ttl_ms: int | None) -> None:
        self._call(self.host.set, key, value, ttl_ms)

    def compare_and_set(self, key: str, value: bytes, expected: int | None, ttl_ms: int | None) -> bool:
        from .state import StateError

        try:
            self._call(self.host.compare_and_set, key, value, expected, ttl_ms)
        except StateError as error:
            if error.kind == "conflict":
                return False
            raise
        return True

    def increment(self, key: str, delta: int) -> int:
        return self._call(self.host.increment, key, delta)

    def delete(self, key: str) -> None:
        self._call(self.host.delete, key)

    def list_keys(self, prefix: str, cursor: str | None, limit: int) -> list[str]:
        return self._call(self.host.list_keys, prefix, cursor, limit)


class _Publisher:
    def __init__(self, outgoing: Callable[[Any], Any]) -> None:
        from wit_world.imports import publisher

        self.host = publisher
        self.outgoing = outgoing

    def publish(self, events: list[Any]) -> None:
        from .publisher import PublishError

        try:
            self.host.publish([self.outgoing(event) for event in events])
        except Err as error:
            kind = _kind(error.value)
            said = getattr(error.value, "value", None)
            reasons = {
                "denied": f"{said} is not among the topics that this plugin may publish to",
                "too-large": f"an event has more than {said} bytes",
                "timeout": "the broker did not confirm in time",
            }
            raise PublishError(kind, reasons.get(kind, str(said))) from None


class _Http:
    def __init__(self) -> None:
        from wit_world.imports import outgoing_handler, streams

        try:
            from wit_world.imports import wasi_http_types as types
        except ImportError:
            # the build has another name for what it must not stub
            from wit_world.imports import xwas_http_types as types

        self.handler, self.types, self.streams = outgoing_handler, types, streams

    def send(self, request: Any) -> Any:
        from .http import HttpError

        parts = urlsplit(request.url)
        schemes = {"https": self.types.Scheme_Https, "http": self.types.Scheme_Http}
        if parts.scheme not in schemes or not parts.netloc:
            raise HttpError("invalid", f"{request.url} is no URL that a request can be sent to")
        try:
            return self._send(request, parts, schemes[parts.scheme]())
        except Err as error:
            raise self._error(error.value, request.url) from None

    def _send(self, request: Any, url: Any, scheme: Any) -> Any:
        from .http import HttpError, Response

        types = self.types
        fields = [(name, value.encode()) for name, value in request.headers]
        if request.body:
            fields.append(("content-length", str(len(request.body)).encode()))
        outgoing = types.OutgoingRequest(types.Fields.from_list(fields))
        outgoing.set_method(types.Method_Other(request.method))
        outgoing.set_scheme(scheme)
        outgoing.set_authority(url.netloc)
        outgoing.set_path_with_query((url.path or "/") + (f"?{url.query}" if url.query else ""))
        options = None
        if request.timeout is not None:
            options = types.RequestOptions()
            options.set_connect_timeout(math.ceil(request.timeout * _NANOSECONDS))
            options.set_first_byte_timeout(math.ceil(request.timeout * _NANOSECONDS))

        body = outgoing.body()
        waiting = self.handler.handle(outgoing, options)
        self._write(body, request.body)
        waiting.subscribe().block()
        answer = waiting.get()
        if answer is None or isinstance(answer, Err) or isinstance(answer.value, Err):
            code = getattr(getattr(answer, "value", None), "value", None)
            raise self._error(code, request.url)
        response = answer.value.value
        headers = [(n, v.decode("latin-1")) for n, v in response.headers().entries()]
        whole = Response(response.status(), headers)
        chunks = []
        with response.consume() as incoming, incoming.stream() as stream:
            while True:
                try:
                    chunks.append(stream.blocking_read(_CHUNK))
                except Err as error:
                    if isinstance(error.value, self.streams.StreamError_Closed):
                        break
                    code = types.http_error_code(error.value.value)
                    if code is None:
                        # not every host gives the codes of what goes wrong within a body
                        raise self._unnamed(error.value.value.to_debug_string()) from None
                    raise self._error(code, request.url) from None
        whole.body = b"".join(chunks)
        return whole

    def _write(self, body: Any, data: bytes) -> None:
        with body.write() as stream:
            while data:
                room = stream.check_write()
                if room == 0:
                    stream.subscribe().block()
                    continue
                stream.write(data[:room])
                data = data[room:]
        self.types.OutgoingBody.finish(body, None)

    def _unnamed(self, said: str) -> Any:
        from .http import HttpError

        if "response body size" in said:
            return HttpError(
                "too-large", "the response is larger than `http.max-response` of this plugin"
            )
        if "timeout" in said.lower():
            return HttpError("timeout", "no response in time")
        return HttpError("unreachable", f"no response: {said}")

    def _error(self, code: Any, url: str) -> Any:
        from .http import HttpError

        name = type(code).__name__.removeprefix("ErrorCode_")
        if name == "HttpRequestDenied":
            return HttpError.denied(url)
        if name == "DestinationIpProhibited":
            return HttpError.prohibited(url)
        if name == "HttpResponseBodySize":
            return HttpError(
                "too-large", "the response is larger than `http.max-response` of this plugin"
            )
        if name.endswith("Timeout"):
            return HttpError("timeout", "no response in time")
        kind = "invalid" if name.startswith("HttpRequest") else "unreachable"
        return HttpError(kind, f"no response: {name}")
