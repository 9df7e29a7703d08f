"""Secrets that the operator granted to this plugin: the table `secrets` of `NAME.toml`.

    from sandbar import secrets

    key = secrets.require("signing-key")

A plugin that only sends a secret along with HTTP requests needs none of this: `http.inject` adds it
where the plugin cannot see it. In a unit test they are those of `sandbar.testing.set_secrets`.
"""

from __future__ import annotations

from . import platform
from .failure import Retry


class SecretError(Retry):
    """A secret that cannot be used. Worth a retry: the operator may grant it meanwhile."""


def get(name: str) -> bytes | None:
    """The secret of that name, where it was granted."""
    return platform.host.part("secret")(name)


def require(name: str) -> str:
    """The secret of that name, as text; `SecretError` where it was not granted."""
    secret = get(name)
    if secret is None:
        raise SecretError(f"secret `{name}` is not granted: add it under `secrets` of this plugin")
    try:
        return secret.decode()
    except UnicodeDecodeError:
        raise SecretError(f"secret `{name}` is no text") from None
