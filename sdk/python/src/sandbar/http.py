"""HTTP requests to the hosts that the operator allows: `http.allow` of `NAME.toml`.

    from sandbar import http

    answer = http.get("https://api.example.com/rates", timeout=2)
    rate = answer.raise_for_status().json()["rate"]

A request waits for the whole response. Redirects are answers like any other: they are not
followed. Credentials that the operator injects (`http.inject`) are added by the runtime; the plugin
neither sends nor sees them. In a unit test `sandbar.testing.on_request` answers.
"""

from __future__ import annotations

import json as _json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from . import platform
from .failure import Retry

Headers = Mapping[str, str] | Iterable[tuple[str, str]]


class HttpError(Retry):
    """No response, or none that can be used; `kind` is `denied`, `prohibited`, `timeout`, `too-large`,
    `invalid`, `unreachable` or `status`. Not caught, it means another attempt."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind

    @classmethod
    def denied(cls, url: str) -> HttpError:
        host = _entry(url)
        return cls("denied", f'{host} is not allowed: add "{host}" to `http.allow` of this plugin')

    @classmethod
    def prohibited(cls, url: str) -> HttpError:
        host = _entry(url)
        return cls(
            "prohibited",
            f"{host} is at an address that is not public: `http.allow` of this plugin must name the "
            f'address, {{ host = "{host}", addresses = ["..."] }}',
        )


@dataclass
class Request:
    """What is sent."""

    method: str
    url: str
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    timeout: float | None = None


@dataclass
class Response:
    """What came back. Names of headers are in lower case."""

    status: int
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""

    @property
    def ok(self) -> bool:
        """Whether the status is 200 to 299."""
        return 200 <= self.status <= 299

    def header(self, name: str) -> str | None:
        """The first header of that name."""
        return next((value for n, value in self.headers if n == name.lower()), None)

    def text(self) -> str:
        """The body as text; bytes that are none become U+FFFD."""
        return self.body.decode(errors="replace")

    def json(self) -> Any:
        """The body, decoded."""
        return _json.loads(self.body)

    def raise_for_status(self) -> Response:
        """Itself; `HttpError` of kind `status` where it is not `ok`."""
        if not self.ok:
            raise HttpError("status", f"the response has status {self.status}: {self.text()[:300]}")
        return self


def request(
    method: str,
    url: str,
    *,
    headers: Headers = (),
    body: bytes | str = b"",
    json: Any = None,
    timeout: float | None = None,
) -> Response:
    """Sends a request and waits for the whole response, whatever its status. `timeout` is how many
    seconds it may take to begin."""
    pairs = list(headers.items() if isinstance(headers, Mapping) else headers)
    if json is not None:
        body = _json.dumps(json)
        pairs.append(("content-type", "application/json"))
    data = body.encode() if isinstance(body, str) else bytes(body)
    return platform.host.part("http").send(Request(method.upper(), url, pairs, data, timeout))


def get(url: str, **options: Any) -> Response:
    """`request("GET", ...)`."""
    return request("GET", url, **options)


def post(url: str, **options: Any) -> Response:
    """`request("POST", ...)`."""
    return request("POST", url, **options)


def put(url: str, **options: Any) -> Response:
    """`request("PUT", ...)`."""
    return request("PUT", url, **options)


def delete(url: str, **options: Any) -> Response:
    """`request("DELETE", ...)`."""
    return request("DELETE", url, **options)


def _entry(url: str) -> str:
    """As `http.allow` has it."""
    parts = urlsplit(url)
    return parts.netloc if parts.scheme == "https" else f"http://{parts.netloc}"
