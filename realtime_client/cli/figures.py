"""The figures of a session as lines for people. Pure."""

from __future__ import annotations

from typing import Any

from realtime_client.escape import one_line
from realtime_client.session.stats import Stats


def describe_stats(stats: Stats) -> str:
    """Turn the figures into lines: those of the last turn, of text models, then the others, then the session's."""
    told = stats.to_dict()
    turns, text = told.pop("turns"), told.pop("text", {})
    assert isinstance(turns, list)
    assert isinstance(text, dict)
    groups = {"last turn": turns[-1] if turns else {}} | _of_text(text)
    groups |= {name.replace("_", " "): value for name, value in told.items() if isinstance(value, dict)}
    groups["session"] = {name: value for name, value in told.items() if not isinstance(value, dict)}
    lines = [f"{name + ':':19}{shown}" for name, value in groups.items() if (shown := _figures(value))]
    return "\n".join(lines)


def _of_text(text: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The figures of text models: of the last stream, of all, and which are left alone."""
    if not text:
        return {}
    last = dict(text["streams"][-1]) if text["streams"] else {}
    last.pop("stream", None)
    rates = last.pop("rates", [])
    if rates:
        last["pieces_each_second"] = " ".join(map(str, rates))
    breakers = {name: f"{b['state']} ({b['reason']})" if "reason" in b else b["state"]
                for name, b in text["breakers"].items()}  # fmt: skip
    totals = {name: text[name] for name in ("requests", "retries", "fallbacks")}
    return {"last stream": last, "text models": totals, "breakers": breakers}


def _figures(values: dict[str, Any]) -> str:
    shown = ((key, value) for key, value in values.items() if value not in (None, "", 0, [], {}) and key != "asked_s")
    return ", ".join(f"{key} {_figure(key, value)}" for key, value in shown)


def _figure(key: str, value: Any) -> str:
    if not isinstance(value, float):
        return one_line(str(value))
    return f"{value:.3f}" if key.endswith("_s") and not key.endswith("per_s") else f"{value:.1f}"
