"""Counters, gauges and histograms, and their text form: the Prometheus exposition format 0.0.4. Pure.

The format: prometheus.io/docs/instrumenting/exposition_formats. Values may be changed from any thread.
"""

from __future__ import annotations

import math
import threading
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import TypeVar

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
MOST_SERIES = 1_000  # label values may come from outside: no more than this many of them
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

Labels = tuple[str, ...]
M = TypeVar("M", bound="Metric")


class Metric:
    """What all kinds have in common. labels: names of the dimensions; each method takes their values in that order.

    Series beyond `MOST_SERIES` are counted together, with `other` as the value of every label.
    """

    kind = "untyped"

    def __init__(self, name: str, text: str, labels: Sequence[str] = ()) -> None:
        self.name = name
        self.text = text
        self.labels = tuple(labels)
        self._lock = threading.Lock()
        self._values: dict[Labels, float] = {} if self.labels else {(): 0.0}

    def _key(self, labels: Labels) -> Labels:
        if len(labels) != len(self.labels):
            raise ValueError(f"{self.name} has the labels {self.labels}")
        return labels if labels in self._values or len(self._values) < MOST_SERIES else ("other",) * len(labels)

    def lines(self) -> Iterator[str]:
        """Return the metric in the text format, a line each."""
        yield f"# HELP {self.name} {_escaped_help(self.text)}"
        yield f"# TYPE {self.name} {self.kind}"
        with self._lock:
            values = list(self._values.items())
        for labels, value in values:
            yield f"{self.name}{_braces(self.labels, labels)} {_number(value)}"


class Counter(Metric):
    """What only grows."""

    kind = "counter"

    def add(self, amount: float = 1.0, *labels: str) -> None:
        """Count. amount: not negative."""
        with self._lock:
            key = self._key(labels)
            self._values[key] = self._values.get(key, 0.0) + max(0.0, amount)


class Gauge(Metric):
    """What goes up and down."""

    kind = "gauge"

    def set(self, value: float, *labels: str) -> None:
        """Give it a value."""
        with self._lock:
            self._values[self._key(labels)] = value

    def add(self, amount: float, *labels: str) -> None:
        """Change it."""
        with self._lock:
            key = self._key(labels)
            self._values[key] = self._values.get(key, 0.0) + amount


class Histogram(Metric):
    """The distribution of values. bounds: upper bounds of the buckets, ascending, without the last one (+Inf)."""

    kind = "histogram"

    def __init__(self, name: str, text: str, labels: Sequence[str] = (), bounds: Sequence[float] = SECONDS) -> None:
        super().__init__(name, text, labels)
        self.bounds = tuple(bounds)
        self._buckets: dict[Labels, list[int]] = {key: self._empty() for key in self._values}

    def _empty(self) -> list[int]:
        return [0] * (len(self.bounds) + 1)

    def observe(self, value: float, *labels: str) -> None:
        """Take a value in."""
        with self._lock:
            key = self._key(labels)
            self._buckets.setdefault(key, self._empty())[bisect_left(self.bounds, value)] += 1
            self._values[key] = self._values.get(key, 0.0) + value

    def lines(self) -> Iterator[str]:
        """Return the buckets (each with all below it), the sum and the count of every series."""
        yield f"# HELP {self.name} {_escaped_help(self.text)}"
        yield f"# TYPE {self.name} {self.kind}"
        with self._lock:
            rows = [(labels, list(self._buckets[labels]), total) for labels, total in self._values.items()]
        for labels, buckets, total in rows:
            count = 0
            for bound, size in zip((*self.bounds, math.inf), buckets, strict=True):
                count += size
                yield f"{self.name}_bucket{_braces((*self.labels, 'le'), (*labels, _number(bound)))} {count}"
            yield f"{self.name}_sum{_braces(self.labels, labels)} {_number(total)}"
            yield f"{self.name}_count{_braces(self.labels, labels)} {count}"


class Registry:
    """Metrics that are shown together."""

    def __init__(self) -> None:
        self._metrics: list[Metric] = []

    def counter(self, name: str, text: str, labels: Sequence[str] = ()) -> Counter:
        """Make a counter; its name ends in `_total`."""
        return self._added(Counter(name, text, labels))

    def gauge(self, name: str, text: str, labels: Sequence[str] = ()) -> Gauge:
        """Make a gauge."""
        return self._added(Gauge(name, text, labels))

    def histogram(
        self, name: str, text: str, labels: Sequence[str] = (), bounds: Sequence[float] = SECONDS
    ) -> Histogram:
        """Make a histogram."""
        return self._added(Histogram(name, text, labels, bounds))

    def _added(self, metric: M) -> M:
        self._metrics.append(metric)
        return metric

    def render(self) -> str:
        """Return everything in the text format."""
        return "".join(f"{line}\n" for metric in self._metrics for line in metric.lines())


def _braces(names: Labels, values: Labels) -> str:
    pairs = [f'{name}="{_escaped(value)}"' for name, value in zip(names, values, strict=True)]
    return "{" + ",".join(pairs) + "}" if pairs else ""


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _escaped_help(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _number(value: float) -> str:
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if math.isnan(value):
        return "NaN"
    return str(int(value)) if value == int(value) and abs(value) < 2**53 else repr(value)
