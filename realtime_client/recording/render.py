"""Transcript lines as Markdown; for subtitles see there. Pure.

The text comes from a model or a server, so nothing in it may act: no control characters, no markup.
"""

from __future__ import annotations

from typing import Any

from realtime_client.escape import printable

Line = dict[str, Any]
_WHO = {"user": "You", "assistant": "Assistant", "system": "System", "tool": "Tool", "note": "Note"}
VTT_HEAD = "WEBVTT\n\n"
MD_HEAD = "# Conversation\n\n"
_WHY = {
    "lost": "cut off: the connection was lost",
    "connection_lost": "cut off: the connection was lost",
    "ended": "cut off: the session ended",
    "network": "failed: the server was not there, or was lost",
    "protocol": "failed: the server sent what makes no sense",
    "application": "failed: the server refused or had an error",
    "screen": "failed: a filter or another hook failed",
}
"""Our own words for why an answer is not complete; the server's are shown as they are."""


def markdown(line: Line) -> str:
    """Return one paragraph: who, when, what; what was not heard is struck out, and why it ends is told."""
    who = _WHO.get(str(line["who"]), "?")
    heard, text = str(line["heard"]), str(line["text"])
    said = _md(_marked(heard, line.get("sources") or []))
    if line["interrupted"]:
        rest = text[len(heard) :].strip()
        said = " ".join(part for part in (said, f"~~{_md(rest)}~~" if rest else "", "*(interrupted)*") if part)
    elif line.get("reason"):
        said = f"{said} *({_WHY.get(str(line['reason'])) or _md(str(line['reason']))})*".lstrip()
    if line.get("outcome"):
        said = f"{said} *({_outcome(line)})*"
    if others := line.get("alternatives"):
        said = f"{said} *(answer {line['chosen'] + 1} of {len(others)})*".lstrip()
    return f"**{who}** ({_clock(line['start_s'])}): {said or '*(nothing understood)*'}\n\n"


def _outcome(line: Line) -> str:
    """How a tool's work ended, and how long it took."""
    words = _md(str(line["outcome"]).replace("_", " "))
    took = line.get("tool_ms")
    return words if took is None else f"{words} after {took / 1000:.1f} s"


def _marked(text: str, sources: list[Line]) -> str:
    """Put the name of who goes on where that changes, in brackets that mean nothing to Markdown."""
    for source in reversed(sources):
        at = source["offset"]
        if at <= len(text) and (at or source.get("reason")):
            text = f"{text[:at]}\u27e8{source['source']}\u27e9{text[at:]}"
    return text


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


def _clock(seconds: Any) -> str:
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
