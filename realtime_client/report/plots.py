"""Plots drawn as SVG, with the percentiles that runs use (nearest rank). Pure."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from realtime_client.batch.results.summary import percentile

from .markup import Markup, tag, together

WIDTH, HEIGHT = 640, 150
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 44, 10, 24
MOST_POINTS = 1_500
PERCENTILES = (50, 95, 99)


def ms(value: float) -> str:
    """Return a time for people: `0.41 ms`, `7.3 ms`, `684 ms`, `12.4 s`."""
    if value >= 10_000:
        return f"{value / 1000:,.1f} s"
    if value == 0:
        return "0 ms"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 1 else 2
    return f"{value:,.{digits}f} ms"


def per_second(value: float) -> str:
    """Return a rate for people: `0.41/s`, `7.3/s`, `684/s`."""
    return f"{value:,.{0 if value >= 100 or value == 0 else 1 if value >= 1 else 2}f}/s"


@dataclass(slots=True)
class Series:
    """Values of one measurement. name: what is measured. points: (seconds since the start, value). meaning: one line.

    show: how a value is shown, by default one in ms.
    """

    name: str
    meaning: str
    points: list[tuple[float, float]]
    show: Callable[[float], str] = ms

    @property
    def values(self) -> list[float]:
        """The values alone, sorted."""
        return sorted(value for _, value in self.points if math.isfinite(value))


def clock(seconds: float) -> str:
    """Return `1:02:03` or `2:03`."""
    whole = max(0, int(seconds))
    hours = f"{whole // 3600}:" if whole >= 3600 else ""
    return f"{hours}{whole // 60 % 60:0{2 if hours else 1}}:{whole % 60:02}"


def scatter(series: Series, seconds: float) -> Markup:
    """Draw values over the session's time, with a line at each percentile."""
    ordered = series.values
    top = _nice_top(ordered[-1])
    marks = [_grid(top, series.show)]
    marks += [_tick_x(second / max(seconds, 1e-9), clock(second)) for second in _steps(seconds)]
    for percent, y in _spread([(p, _y(percentile(ordered, p), top)) for p in PERCENTILES]):
        line_y = _y(percentile(ordered, percent), top)
        marks.append(_percentile_line(percent, line_y, y))
    for at_s, value in thinned(series.points):
        x = _LEFT + _inner_width() * min(1.0, max(0.0, at_s / max(seconds, 1e-9)))
        dot = tag(
            "circle", tag("title", f"{clock(at_s)}: {series.show(value)}"), cx=_r(x), cy=_r(_y(value, top)), r="3.2"
        )
        marks.append(dot)
    return _svg(marks, f"{series.name} over time: {described(series)}")


def histogram(series: Series, bins: int = 40) -> Markup:
    """Draw how often values were, with a line at each percentile."""
    ordered = series.values
    top_x = _nice_top(ordered[-1])
    counts = [0] * bins
    for value in ordered:
        counts[min(bins - 1, max(0, int(value / top_x * bins)))] += 1
    top = max(counts) + max(counts) % 2
    marks = [_grid(top, "{:g}".format)]
    marks += [_tick_x(share, series.show(top_x * share)) for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
    for index, count in enumerate(counts):
        if count:
            x, width = _LEFT + _inner_width() * index / bins, _inner_width() / bins - 1
            label = f"{series.show(top_x * index / bins)} to {series.show(top_x * (index + 1) / bins)}: {count}"
            y = _y(count, top)
            bar = tag("title", label)
            marks.append(tag("rect", bar, x=_r(x), y=_r(y), width=_r(width), height=_r(HEIGHT - _BOTTOM - y)))
    for percent in PERCENTILES:
        x = _LEFT + _inner_width() * min(1.0, max(0.0, percentile(ordered, percent) / top_x))
        marks.append(tag("line", x1=_r(x), x2=_r(x), y1=_TOP, y2=HEIGHT - _BOTTOM, class_=f"p p{percent}"))
        beside: dict[str, str | float] = {"x": _r(x + 4)}
        if percent == 95 or x > _LEFT + 0.85 * _inner_width():  # on the other side, where p99 or the edge is near
            beside = {"x": _r(x - 4), "text_anchor": "end"}
        label_y = _TOP + 8 + 11 * PERCENTILES.index(percent)
        marks.append(tag("text", f"p{percent} {series.show(percentile(ordered, percent))}", y=label_y, **beside))
    return _svg(marks, f"{series.name}, how often: {described(series)}")


def only_value(series: Series) -> str:
    """Return the sentence that replaces a plot of a single value; '' where there are more."""
    first, *others = series.values
    if others:
        return ""
    at_s = next(at_s for at_s, value in series.points if value == first)
    return f"Measured once: {series.show(first)}{f', at {clock(at_s)}' if at_s else ''}."


def described(series: Series) -> str:
    """Return the figures of a series in words."""
    ordered = series.values
    figures = ", ".join(f"p{percent} {series.show(percentile(ordered, percent))}" for percent in PERCENTILES)
    return f"{len(ordered)} values, {figures}, largest {series.show(ordered[-1])}"


def thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return at most `MOST_POINTS` points: the largest and the smallest of equal groups."""
    if len(points) <= MOST_POINTS:
        return points
    ordered, kept = sorted(points), []
    size = math.ceil(2 * len(points) / MOST_POINTS)
    for at in range(0, len(ordered), size):
        group = ordered[at : at + size]
        kept += sorted({min(group, key=lambda point: point[1]), max(group, key=lambda point: point[1])})
    return kept


def _svg(marks: list[Markup], label: str) -> Markup:
    return tag("svg", *marks, viewBox=f"0 0 {WIDTH} {HEIGHT}", class_="plot", role="img", aria_label=label)


def _grid(top: float, show: Callable[[float], str]) -> Markup:
    lines = []
    for share in (0.0, 0.5, 1.0):
        y = _y(top * share, top)
        lines.append(tag("line", x1=_LEFT, x2=WIDTH - _RIGHT, y1=_r(y), y2=_r(y), class_="grid"))
        lines.append(tag("text", show(top * share), x=_LEFT - 6, y=_r(y + 3.5), text_anchor="end"))
    return together(*lines)


def _tick_x(share: float, label: str) -> Markup:
    x = _LEFT + _inner_width() * share
    return tag("text", label, x=_r(x), y=HEIGHT - 7, text_anchor="middle")


def _percentile_line(percent: int, y: float, label_y: float) -> Markup:
    right = WIDTH - _RIGHT
    return together(
        tag("line", x1=_LEFT, x2=right, y1=_r(y), y2=_r(y), class_=f"p p{percent}"),
        tag("text", f"p{percent}", x=right + 5, y=_r(label_y + 3.5), class_="plabel"),
    )


def _spread(labels: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """Move labels apart that would overlap (they come from the lowest line up)."""
    placed: list[tuple[int, float]] = []
    for percent, y in labels:
        limit = placed[-1][1] - 11 if placed else math.inf
        placed.append((percent, min(y, limit)))
    lift = min(0.0, placed[-1][1] - 4) if placed else 0.0
    return [(percent, y - lift) for percent, y in placed]


def time_axis(seconds: float) -> list[tuple[float, str]]:
    """Return moments for a time axis, in seconds, with what to call them."""
    return [(at_s, clock(at_s)) for at_s in _steps(seconds)]


def _steps(seconds: float) -> list[float]:
    """Return moments for the time axis: four to eight whole ones."""
    for step in (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400):
        if seconds / step <= 8:
            return [float(at) for at in range(0, int(seconds) + 1, step)]
    return [0.0, seconds / 2, seconds]


def _nice_top(largest: float) -> float:
    """Return a short number, not below the largest value."""
    if largest <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(largest))
    return next(
        factor * power for factor in (1, 1.2, 1.6, 2, 2.4, 3, 4, 5, 6, 8, 10) if factor * power >= largest * 0.999
    )


def _inner_width() -> float:
    return WIDTH - _LEFT - _RIGHT


def _y(value: float, top: float) -> float:
    inner = HEIGHT - _TOP - _BOTTOM
    return HEIGHT - _BOTTOM - inner * min(1.0, max(0.0, value / top))


def _r(number: float) -> str:
    """Return a coordinate, short and the same everywhere."""
    return f"{number:.1f}"
