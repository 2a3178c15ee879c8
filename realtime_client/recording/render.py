"""Transcript lines as Markdown, SubRip and WebVTT. Pure.

The text comes from a model or a server, so nothing in it may act: no control characters, no markup, no cue arrow.
"""

from __future__ import annotations

from typing import Any

from realtime_client.escape import printable

Line = dict[str, Any]
_SHORTEST_CUE_S = 1.0
_WHO = {"user": "You", "assistant": "Assistant", "system": "System", "tool": "Tool", "note": "Note"}
VTT_HEAD = "WEBVTT\n\n"
MD_HEAD = "# Conversation\n\n"


def markdown(line: Line) -> str:
    """Return one paragraph: who, when, what; what was not heard is struck out."""
    who = _WHO.get(str(line["who"]), "?")
    heard, text = str(line["heard"]), str(line["text"])
    said = _md(heard)
    if line["interrupted"]:
        rest = text[len(heard) :].strip()
        said = " ".join(part for part in (said, f"~~{_md(rest)}~~" if rest else "", "*(interrupted)*") if part)
    return f"**{who}** ({_clock(line['start_s'])}): {said or '*(nothing understood)*'}\n\n"


def srt(line: Line, number: int) -> str:
    """Return one SubRip cue of what was heard, or '' for a line that is not shown (tools, nothing said)."""
    shown = _shown(line)
    return f"{number}\n{_times(line, ',')}\n{shown}\n\n" if shown else ""


def vtt(line: Line) -> str:
    """Return one WebVTT cue of what was heard, or '' for a line that is not shown (tools, nothing said)."""
    shown = _shown(line)
    return f"{_times(line, '.')}\n<v {_WHO[str(line['who'])]}>{shown}\n\n" if shown else ""


def _shown(line: Line) -> str:
    """Cue text: blank lines would end the cue, `-->` would begin another, `<` and `&` are markup (WebVTT 4.2)."""
    if line["who"] not in {"user", "assistant"} or line.get("out_of_band"):
        return ""
    lines = (part.strip() for part in printable(str(line["heard"])).split("\n"))
    text = "\n".join(part for part in lines if part)
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _md(text: str) -> str:
    """Text that Markdown shows as it is (CommonMark: a backslash before ASCII punctuation), on one line."""
    out = []
    for char in " ".join(printable(text).split()):
        if char == "<":
            out.append("&lt;")
        elif char == ">":
            out.append("&gt;")
        elif char == "&":
            out.append("&amp;")
        else:
            out.append("\\" + char if char in "\\`*_[]~#|" else char)
    return "".join(out)


def _times(line: Line, point: str) -> str:
    start = float(line["start_s"])
    end = max(float(line["end_s"]), start + _SHORTEST_CUE_S)
    return f"{_stamp(start, point)} --> {_stamp(end, point)}"


def _stamp(seconds: float, point: str) -> str:
    ms = round(seconds * 1000)
    return f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02}{point}{ms % 1000:03}"


def _clock(seconds: Any) -> str:
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
