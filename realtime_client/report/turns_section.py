"""The part of a session's page with the turns: who said what, what of it was heard, and what stands beside it."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from .markup import Markup, code, json_code, speech, tag, together
from .page import section
from .plots import clock, ms
from .sentences import Sentence, place
from .session_data import SessionData, ShownTurn
from .sound import PageSound

_WHO = {"user": "You", "assistant": "Assistant", "system": "System", "tool": "Tool", "note": "Note"}
_KEYS = "Click a sentence to hear it. Space plays and stops, ← → go 5 s, ↑ ↓ from turn to turn, Enter plays one."
_USUAL = {"", "completed", "in_progress"}


def conversation_section(session: SessionData) -> Markup:
    """Return the section with all turns."""
    if not session.turns:
        return section("conversation", "Conversation", tag("p", "Nothing was said.", class_="empty"))
    chosen = [(who, name) for who, name in _WHO.items() if any(turn.who == who for turn in session.turns)]
    options = [tag("option", "everybody", value="")] + [tag("option", name, value=who) for who, name in chosen]
    filters = tag(
        "div",
        tag("label", "Who ", tag("select", *options, id="who")),
        tag("label", "Text ", tag("input", id="words", type="search", autocomplete="off")),
        tag("output", id="turns-shown"),
        class_="filters",
    )
    return section(
        "conversation",
        "Conversation",
        tag("p", _KEYS, class_="keys") if session.sound is not None else None,
        filters,
        tag(
            "ol",
            *(_turn(turn, session.sound, session.events.models.thoughts) for turn in session.turns),
            class_="turns",
            id="turns",
        ),
    )


def _turn(turn: ShownTurn, sound: PageSound | None, thoughts: dict[str, str]) -> Markup:
    who = _WHO[turn.who]
    playable = turn.audible and sound is not None
    label = f"Play turn {turn.n}: {who}, {clock(turn.start_s)} to {clock(turn.end_s)}"
    times = {"data_start": f"{turn.start_s:.3f}", "data_end": f"{turn.end_s:.3f}"} if playable else {}
    lead = (
        tag("button", "▶", class_="hear", type="button", aria_label=label) if playable else tag("span", class_="hear")
    )
    head = tag("div", tag("span", who, class_="who"), tag("time", clock(turn.start_s)), *_marks(turn), class_="head")
    body = _tool(turn) if turn.who == "tool" else _said(turn, sound if playable else None)
    thought = thoughts.get(turn.item_id) if turn.who == "assistant" else None
    thinking = _folded("Thinking", tag("p", speech(thought), class_="said", dir="auto")) if thought else None
    return tag(
        "li",
        lead,
        tag("div", head, thinking, body, _others(turn)),
        class_=f"turn {turn.who}",
        id=f"turn-{turn.n}",
        **times,
    )


def _marks(turn: ShownTurn) -> Iterator[Markup]:
    if turn.cut_ms is not None:
        yield tag("span", f"cut after {turn.cut_ms / 1000:.2f} s", class_="mark cut")
    elif turn.interrupted:
        yield tag("span", "interrupted", class_="mark cut")
    if turn.out_of_band:
        yield tag("span", "out of band", class_="mark")
    if turn.status not in _USUAL and not turn.interrupted:
        yield tag("span", speech(turn.status.replace("_", " "), 60), class_="mark bad")
    if turn.outcome not in ("", "completed"):
        yield tag("span", speech(turn.outcome.replace("_", " "), 60), class_="mark bad")
    if turn.status == "in_progress":
        yield tag("span", "unfinished", class_="mark bad")


def _said(turn: ShownTurn, sound: PageSound | None) -> Markup:
    if not turn.text.strip():
        return tag("p", "nothing understood" if turn.who == "user" else "nothing said", class_="said empty")
    rest = turn.text[len(turn.heard) :]
    pieces: list[Markup | str] = list(_by_source(turn.heard, turn.sources))
    if sound is not None and turn.heard.strip():
        channel = sound.peaks[0 if turn.who == "user" else 1]
        placed = place(turn.heard, turn.start_s, turn.end_s, channel, sound.peak_frames / sound.rate_hz)
        pieces = [piece for sentence in placed for piece in _sentence(sentence)]
    if rest.strip():
        pieces += [
            tag("span", title="cut here", class_="scissors"),
            tag("del", speech(rest.strip()), title="never heard"),
        ]
    return tag("p", *pieces, class_="said", dir="auto")


def _by_source(said: str, sources: list[tuple[int, str, str]]) -> Iterator[Markup | str]:
    """Yield a text with a mark where another model, or another request, goes on."""
    at = 0
    for offset, source, why in sources:
        if offset > len(said) or not (offset or why):
            continue
        yield speech(said[at:offset])
        yield tag("span", speech(source, 80), title=speech(why, 300), class_="mark source")
        at = offset
    yield speech(said[at:])


def _others(turn: ShownTurn) -> Markup | None:
    if len(turn.others) < 2:
        return None
    answers = [
        tag("li", tag("p", speech(text), class_="said", dir="auto"), aria_current="true" if n == turn.chosen else None)
        for n, text in enumerate(turn.others)
    ]
    return _folded(f"Answer {turn.chosen + 1} of {len(turn.others)}", tag("ol", *answers))


def _folded(name: str, inside: Markup) -> Markup:
    return tag("details", tag("summary", name, class_="small"), inside, class_="aside")


def _sentence(sentence: Sentence) -> Iterator[Markup | str]:
    said = sentence.text.rstrip()
    times = {"data_start": f"{sentence.start_s:.3f}", "data_end": f"{sentence.end_s:.3f}"}
    yield tag("span", speech(said), class_="s", role="button", tabindex=-1, **times)
    yield speech(sentence.text[len(said) :])


def _tool(turn: ShownTurn) -> Markup:
    if not turn.calls:
        who = together(tag("code", code(turn.tool, 200)), " ") if turn.tool else ""
        took = "" if turn.tool_ms is None else f" after {ms(turn.tool_ms)}"
        return together(tag("p", who, f"returned{took}", class_="small"), tag("pre", code(turn.text), dir="ltr"))
    return together(
        tag("p", "called ", tag("code", code(turn.tool, 200)), class_="small"),
        tag("pre", _arguments(turn.text), dir="ltr"),
    )


def _arguments(raw: str) -> str:
    try:
        return json_code(msgspec.json.decode(raw))
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return code(raw)
