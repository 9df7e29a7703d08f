"""Counters and histograms of the plugin's own; the operator grants `metrics`.

    from sandbar import metrics

    metrics.count("orders", country="de")
    metrics.observe("order_total_euro", 99.5)

The runtime exports them as `sandbar_plugin_user_NAME`, with the plugin's name as a label. What is
counted is counted at once, also in an attempt that fails later. Labels are for few values, not for
ids: what goes beyond the runtime's bounds is dropped, counted, and told in the plugin's log.
"""

from __future__ import annotations

from . import platform


def count(name: str, delta: int = 1, /, **labels: str) -> None:
    """Adds to a counter."""
    platform.host.part("metrics").count(name, delta, _pairs(labels))


def observe(name: str, value: float, /, **labels: str) -> None:
    """Adds an observation to a histogram."""
    platform.host.part("metrics").observe(name, float(value), _pairs(labels))


def _pairs(labels: dict[str, str]) -> list[tuple[str, str]]:
    return [(name, str(value)) for name, value in labels.items()]
