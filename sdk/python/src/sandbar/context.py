"""Facts about the plugin and the call in progress."""

from . import platform


def plugin_name() -> str:
    """The name under which the plugin runs: the file name without `.wasm`."""
    return platform.host.plugin_name()


def plugin_version() -> str:
    """The version that the plugin states of itself."""
    return platform.host.plugin_version()


def connection() -> str:
    """Name of the configured connection that the events come from."""
    return platform.host.connection()


def remaining() -> float:
    """Seconds until the host interrupts this call."""
    return platform.host.remaining_ms() / 1000
