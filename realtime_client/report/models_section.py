"""The part of a session's page about who answered: a time line, what went wrong on the way, how fast the text came."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from .markup import Markup, code, speech, tag, together
from .models import Mark, Models, Stretch
from .page import section
from .page import table as figures
from .plots import Series, clock, time_axis

_LEFT, _RIGHT, _ROW, _TOP, _BOTTOM, _WIDTH = 130, 14, 26, 8, 22, 640
_MOST_ROWS = 8
_MOST_LISTED = 200
_NAME = 22
_SIGNS = {"retry": "M0 -4L4 4H-4Z", "restart": "M0 -4L4 4H-4Z", "fallback": "M-4 0L0 -4L4 0L0 4Z"}
_SQUARE = "M-3.5 -3.5H3.5V3.5H-3.5Z"


def models_section(models: Models, seconds: float, plotted: Callable[[Series], Markup]) -> Markup | None:
    """Return the section, None where there is nothing to say. plotted: draws a series over the session's time."""
    if not models.known:
        return None
    rates = models.rates()
    return section(
        "models",
        "Models",
        _time_line(models, max(seconds, 1e-3)) if models.stretches else tag("p", "Nobody answered.", class_="empty"),
        _listed(models.marks),
        plotted(rates) if rates is not None else None,
    )


def _time_line(models: Models, seconds: float) -> Markup:
    """Draw when which model made an answer, and what went wrong, a row for each model."""
    names = list(dict.fromkeys([each.source for each in models.stretches] + [each.source for each in models.marks]))[
        :_MOST_ROWS
    ]
    height = _TOP + _ROW * len(names) + _BOTTOM

    def x(at_s: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * min(1.0, max(0.0, at_s / seconds))

    shapes: list[Markup] = []
    for row, name in enumerate(names):
        y = _TOP + _ROW * row
        shapes.append(tag("text", speech(name, _NAME), x=0, y=y + 15))
        shapes.append(tag("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=y + 11, y2=y + 11, class_="grid"))
        for stretch in models.stretches:
            if stretch.source == name:
                shapes += _bar(stretch, x, y)
        shapes += [_sign(mark, x(mark.at_s), y) for mark in models.marks if mark.source == name]
    for at_s, label in time_axis(seconds):
        shapes.append(tag("text", label, x=f"{x(at_s):.1f}", y=height - 6, text_anchor="middle"))
    label = f"When {', '.join(speech(name, 60) for name in names)} answered; {len(models.marks)} events on the way"
    whole = tag("svg", *shapes, viewBox=f"0 0 {_WIDTH} {height}", class_="plot", role="img", aria_label=label)
    words = "Answers over the session's time: light until the first word, then full. "
    legend = "Triangles: asked again; diamonds: another model goes on; squares: no answer, or a circuit breaker."
    return tag("figure", tag("figcaption", words, legend), whole)


def _bar(stretch: Stretch, x: Callable[[float], float], y: float) -> Iterator[Markup]:
    first_s = stretch.end_s if stretch.first_s is None else min(stretch.first_s, stretch.end_s)
    title = f"{clock(stretch.start_s)}, {stretch.end_s - stretch.start_s:.2f} s"
    for begin_s, end_s, kind in ((stretch.start_s, first_s, "waits"), (first_s, stretch.end_s, None)):
        width = max(1.0, x(end_s) - x(begin_s))
        if end_s > begin_s or (kind is None and stretch.first_s is not None):
            yield tag(
                "rect",
                tag("title", title),
                x=f"{x(begin_s):.1f}",
                y=y + 4,
                width=f"{width:.1f}",
                height=14,
                class_=kind,
            )


def _sign(mark: Mark, x: float, y: float) -> Markup:
    title = tag("title", f"{clock(mark.at_s)}: {speech(mark.what, 100)}: {speech(mark.why, 300)}")
    path = _SIGNS.get(mark.kind, _SQUARE)
    return tag("path", title, d=path, transform=f"translate({x:.1f} {y + 11})", class_=f"sign {_kind(mark)}")


def _kind(mark: Mark) -> str:
    return mark.kind if mark.kind in {*_SIGNS, "failure", "breaker"} else "failure"


def _listed(marks: list[Mark]) -> Markup:
    if not marks:
        return tag("p", "Nothing went wrong on the way.", class_="empty")
    rows = [
        (clock(mark.at_s), speech(mark.what, 100), tag("code", code(mark.source, 200)), speech(mark.why, 300))
        for mark in marks[:_MOST_LISTED]
    ]
    more = len(marks) - len(rows)
    return together(
        figures(("At", "What", "Model", "Why"), rows, caption="What went wrong on the way"),
        tag("p", f"And {more:,} more; the events have all of them.", class_="small") if more else None,
    )
