"""The report of one session."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import pybase64

from realtime_client.batch.result import BUILT_IN
from realtime_client.batch.results.summary import percentile
from realtime_client.recording import losses
from realtime_client.updates import Usage
from realtime_client.version import __version__

from .cases import CaseOf, kind, stamp, verdict
from .cost import dollars, is_local, session_cost
from .fields import listed, number, table, text
from .markup import NOTHING, Markup, code, data_block, json_code, speech, tag, together
from .models_section import models_section
from .page import facts, masthead, notices, page, section
from .page import table as figures
from .plots import PERCENTILES, Series, clock, described, ms, only_value, scatter
from .session_data import SessionData
from .sound import PageSound
from .turns_section import conversation_section

SCRIPTS = ("theme.js", "adpcm.js", "player.js", "waveform.js", "conversation.js", "events.js", "session.js")
_OVERVIEW = 1_200


def session_page(session: SessionData, case: CaseOf | None = None) -> Iterator[str]:
    """Yield the page piece by piece. case: the case of a run that it was."""
    local = is_local(session.info) or (case is not None and case.local)
    models = session.events.models
    latencies = session.events.latencies.series(written=models.writes)
    answered = models_section(models, session.seconds, lambda s: plotted(s, lambda s: scatter(s, session.seconds)))
    gaps = None if models.writes and not listed(session.info, "gaps") else _gaps(session.info)
    parts = [("conversation", "Conversation"), ("models", "Models"), ("latency", "Latency"), ("events", "Events")]
    parts += [("usage", "Usage and cost"), ("gaps", "Gaps"), ("session", "Session")]
    absent = {name for name, part in (("models", answered), ("gaps", gaps)) if part is None}
    parts = [part for part in parts if part[0] not in absent]
    body = together(
        masthead(
            kind(case), code(case.name, 300) if case else _title(session), _under(session, case, local=local), parts
        ),
        tag(
            "main",
            verdict(case) if case is not None else None,
            notices(session.problems),
            facts(_facts(session, latencies, local=local)),
            _player(session),
            conversation_section(session),
            answered,
            _latency(latencies, session.seconds),
            _events(session),
            _usage(session.info, local=local, spoken=not models.writes),
            gaps,
            _settings(session.info),
            id="main",
        ),
        tag("footer", f"Made by realtime_client {__version__} from the recording {session.name}."),
    )
    title = f"{case.name} · {session.name}" if case else session.name
    made = stamp(case)
    yield from page(title, body, scripts=SCRIPTS, data=_data(session), late=_clips(session.sound), stamp=made)


def _title(session: SessionData) -> str:
    """Return when it was, for people; the folder's name when that is not known."""
    try:
        began = datetime.fromisoformat(text(session.info, "started"))
    except ValueError:
        return session.name
    return f"{began.day} {began:%B %Y, %H:%M:%S} {began:%Z}".strip()


def _under(session: SessionData, case: CaseOf | None, *, local: bool) -> str:
    """Return with whom and when. The built-in server goes by its own name: it accepts any model's."""
    ended = text(session.info, "how_it_ended")
    with_whom = BUILT_IN if local else text(session.info, "model")
    before = text(session.info, "continues")
    words = (
        *(_title(session) if case else "", with_whom, session.name),
        *(before and f"continues {before}", ended and f"ended: {ended}"),
    )
    return " · ".join(speech(word, 100) for word in words if word)


def _facts(session: SessionData, latencies: Sequence[Series], *, local: bool) -> Iterator[tuple[str, Markup | str]]:
    yield "Length", clock(session.seconds)
    for who, name in (("user", "Your turns"), ("assistant", "Answers")):
        yield name, str(sum(turn.who == who for turn in session.turns))
    yield "Interruptions", str(sum(turn.interrupted for turn in session.turns))
    calls = sum(turn.calls for turn in session.turns)
    amiss = sum(turn.outcome not in ("", "completed") for turn in session.turns)
    yield "Tool calls", f"{calls} ({amiss} not completed)" if amiss else str(calls)
    for series in latencies[:1]:
        yield f"{series.name}, median", ms(percentile(series.values, 50))
    if (rates := session.events.models.rates()) is not None:
        yield f"{rates.name}, median", f"{percentile(rates.values, 50):,.0f}"
    for key, name in (("retries", "Asked again"), ("fallbacks", "Fallbacks")):
        counts = table(session.info, key)
        if total := sum(number(counts, source) or 0 for source in counts):
            yield name, f"{total:,.0f}"
    tokens = number(table(session.info, "usage"), "total_tokens")
    if tokens is not None:
        yield "Tokens", f"{tokens:,.0f}"
    cost, _ = session_cost(session.info, local=local)
    if cost is not None:
        yield "Cost", dollars(cost)
    for key, name in (("reconnects", "Reconnects"), ("rollovers", "Rollovers")):
        if times := number(table(session.info, "totals"), key):
            yield name, f"{times:,.0f}"
    if errors := number(session.info, "errors"):
        yield "Errors", f"{errors:,.0f}"


# --- sound ------------------------------------------------------------------------------------------------------------


def _player(session: SessionData) -> Markup | None:
    sound = session.sound
    if sound is None and session.events.models.writes:
        return None
    if sound is None:
        return tag("p", "There is no sound in this recording.", class_="empty", id="player")
    slider: dict[str, str | float] = {
        "role": "slider",
        "tabindex": 0,
        "aria_label": "Position in the conversation",
        "aria_valuemin": 0,
        "aria_valuemax": round(sound.seconds, 2),
        "aria_valuenow": 0,
        "aria_valuetext": f"0:00 of {clock(sound.seconds)}",
    }
    sides = [
        tag("button", name, tag("small", f" {side}"), id=side, class_=f"side {who}", type="button", aria_pressed="true")
        for side, who, name in (("left", "user", "You"), ("right", "assistant", "Assistant"))
    ]
    stretch = [
        tag("button", sign, id=name, class_="quiet", type="button", aria_label=f"Show a {what} stretch")
        for sign, name, what in (("\N{MINUS SIGN}", "narrower", "longer"), ("+", "wider", "shorter"))
    ]
    controls = tag(
        "div",
        tag("button", "Play", id="play", type="button", aria_keyshortcuts="Space"),
        tag("span", f"0:00 / {clock(sound.seconds)}", id="time"),
        tag("span", class_="space"),
        *sides,
        *stretch,
        class_="controls",
    )
    return tag(
        "section",
        controls,
        tag("canvas", id="wave", **slider),
        _overview(sound, session),
        id="player",
        aria_label="Sound",
    )


def _overview(sound: PageSound, session: SessionData) -> Markup:
    """Draw the whole session; it is there without scripts and on paper, too."""
    shapes = []
    for channel, who in enumerate(("user", "assistant")):
        columns = np.array_split(sound.peaks[channel], min(_OVERVIEW, sound.peaks.shape[1]))
        heights = [int(column.max()) * 14 / 255 for column in columns]
        middle, step = 16 + 32 * channel, 1_000 / len(heights)
        path = "".join(f"M{i * step:.1f} {middle - h:.1f}V{middle + h:.1f}" for i, h in enumerate(heights) if h >= 0.1)
        shapes.append(tag("path", d=path, class_=who))
    for start_s, end_s, why in _gap_spans(session.info, sound.seconds):
        x, width = start_s / sound.seconds * 1000, max(1.0, (end_s - start_s) / sound.seconds * 1000)
        shapes.append(tag("rect", tag("title", why), x=f"{x:.1f}", width=f"{width:.1f}", y=0, height=64, class_="gap"))
    shapes.append(tag("rect", id="view", x=0, width=0, y=0, height=64))
    shapes.append(tag("line", id="head", x1=0, x2=0, y1=0, y2=64))
    return tag(
        "svg",
        *shapes,
        id="overview",
        viewBox="0 0 1000 64",
        preserveAspectRatio="none",
        role="img",
        aria_label=f"Waveform of {clock(sound.seconds)}: above you, below the assistant",
    )


def _data(session: SessionData) -> Iterator[Markup]:
    sound = session.sound
    turns = [
        [turn.n, turn.who == "assistant", round(turn.start_s, 3), round(turn.end_s, 3), turn.interrupted]
        for turn in session.turns
        if turn.audible
    ]
    about: dict[str, Any] = {"seconds": session.seconds, "turns": turns, "gaps": []}
    if sound is not None:
        about |= {
            "seconds": sound.seconds,
            "rate": sound.rate_hz,
            "blockBytes": sound.block_bytes,
            "peakS": sound.peak_frames / sound.rate_hz,
            "clips": [[clip.channel, clip.start, clip.frames] for clip in sound.clips],
            "gaps": [span[:2] for span in _gap_spans(session.info, sound.seconds)],
        }
        yield _binary("peaks", sound.peaks.tobytes())
    yield data_block("about", about)
    yield data_block("event-data", session.events.rows())


def _clips(sound: PageSound | None) -> Iterator[Markup]:
    for index, clip in enumerate(sound.clips if sound else []):
        yield _binary(f"clip-{index}", clip.adpcm)


def _binary(name: str, data: bytes) -> Markup:
    """Return bytes in a block that is never run (no character of base64 means anything in HTML)."""
    return Markup(f'<script type="text/plain" id="{name}">{pybase64.b64encode(data).decode()}</script>\n')


# --- figures ----------------------------------------------------------------------------------------------------------


def _latency(latencies: Sequence[Series], seconds: float) -> Markup:
    if not latencies:
        return section("latency", "Latency", tag("p", "No answer was asked for, so nothing was timed.", class_="empty"))
    return section(
        "latency", "Latency", latency_table(latencies), *(plotted(s, lambda s: scatter(s, seconds)) for s in latencies)
    )


def latency_table(latencies: Sequence[Series]) -> Markup:
    """Return the percentiles of all series."""
    head = ("", *(f"p{percent}" for percent in PERCENTILES), "largest", "values")
    rows = []
    for series in latencies:
        ordered = series.values
        cells = [ms(percentile(ordered, percent)) for percent in PERCENTILES]
        rows.append((series.name, *cells, ms(ordered[-1]), f"{len(ordered):,}"))
    return figures(head, rows, caption="Percentiles of each latency", class_="figures")


def plotted(series: Series, draw: Callable[[Series], Markup]) -> Markup:
    """Return a plot under the words that explain it; for a single value, only the words."""
    name, once = tag("b", series.name), only_value(series)
    if once:
        return tag("p", name, f" {series.meaning}. {once}", class_="small once")
    words = tag("figcaption", name, f" {series.meaning}. ", tag("span", described(series), class_="unseen"))
    return tag("figure", words, draw(series))


def _events(session: SessionData) -> Markup:
    events = session.events
    if not events.messages:
        return section("events", "Events", tag("p", "There is no journal.", class_="empty"))
    told = f"{events.messages:,} messages in {len(events.rows()):,} rows; deltas are counted, not listed one by one."
    if events.dropped:
        told += f" {events.dropped:,} rows in the middle are left out; journal.jsonl has them."
    directions = (("", "both ways"), ("in", "from the server"), ("out", "from the client"), ("note", "noted here"))
    ways = [tag("option", name, value=value) for value, name in directions]
    filters = tag(
        "div",
        tag("label", "Direction ", tag("select", *ways, id="direction")),
        tag("label", "Type ", tag("select", tag("option", "all", value=""), id="type")),
        tag("label", "Text ", tag("input", id="search", type="search", autocomplete="off")),
        tag("output", id="events-shown"),
        class_="filters",
    )
    head = tag("tr", *(tag("th", name, scope="col") for name in ("Time", "Way", "Type", "What")))
    whole = tag("table", tag("thead", head), tag("tbody", id="event-rows"), class_="events")
    more = tag("button", "Show more", id="more", type="button", hidden=True)
    return section("events", "Events", tag("p", told, class_="small"), filters, tag("div", whole, class_="wide"), more)


def _usage(info: dict[str, Any], *, local: bool, spoken: bool) -> Markup:
    """Return the tokens and what they cost. spoken: there may have been sound."""
    usage = table(info, "usage")
    names = [name for name in Usage.__struct_fields__ if spoken or not name.endswith("audio") or number(usage, name)]
    rows = [(name.replace("_", " "), f"{number(usage, name) or 0:,.0f}") for name in names]
    heard = table(info, "transcription_usage")
    rows += [(f"transcription: {speech(name, 40)}", f"{number(heard, name) or 0:,g}") for name in list(heard)[:32]]
    cost, source = session_cost(info, local=local)
    told = f"Cost: {'not known' if cost is None else dollars(cost)} ({source})."
    whole = figures(("", "tokens"), rows, caption="Usage", class_="figures")
    return section("usage", "Usage and cost", tag("p", told), whole)


def _gap_spans(info: dict[str, Any], end_s: float) -> Iterator[tuple[float, float, str]]:
    """Yield the gaps (from, to, why) in seconds; one that never closed lasts to the end."""
    for gap in listed(info, "gaps")[:1_000]:
        start_s = number(gap, "from_s")
        if start_s is not None and 0 <= start_s <= end_s:
            yield start_s, min(end_s, max(start_s, number(gap, "to_s") or end_s)), _why(gap)


_COUNTS = ("told", "left_out", "refused", "sent_late", "unknown")


def _why(gap: Any) -> str:
    """Return why there was a gap and, of a connection that came back, what was restored."""
    reason, gave_up, restored = text(gap, "reason"), text(gap, "gave_up"), table(gap, "restored")
    if not (restored or gave_up):
        return speech(reason, 300)
    counts = {name: int(number(restored, name) or 0) for name in _COUNTS}
    counts["asked_again"] = restored.get("asked_again") is True
    read: losses.Gap = {name: int(number(gap, name) or 0) for name in ("away_ms", "lost_audio_ms")}
    read |= {"reason": reason, "gave_up": gave_up, "restored": counts if restored else None}
    return speech(losses.words(read), 1_000)


def _gaps(info: dict[str, Any]) -> Markup:
    rows = []
    for gap in listed(info, "gaps")[:1_000]:
        start_s, end_s = number(gap, "from_s"), number(gap, "to_s")
        what = text(gap, "direction") and f"sound ({speech(text(gap, 'direction'), 20)})"
        rows.append(
            (
                NOTHING if start_s is None else clock(start_s),
                "never restored" if end_s is None else f"{end_s - (start_s or 0):.2f} s",
                what or "connection",
                _why(gap),
            )
        )
    if not rows:
        return section("gaps", "Gaps", tag("p", "None: the connection and the sound held throughout.", class_="empty"))
    return section("gaps", "Gaps", figures(("At", "For", "What", "Why"), rows, caption="Gaps"))


def _settings(info: dict[str, Any]) -> Markup:
    stats = {name: value for name, value in table(info, "stats").items() if name != "turns"}
    shown: list[tuple[str, Any]] = [
        ("Last errors", listed(info, "last_errors")),
        ("Answers by status", table(info, "responses")),
        ("Rate limits", table(info, "rate_limits")),
        ("Connection", stats),
        ("Settings of the client", table(info, "settings")),
        ("Settings of the session", table(info, "session")),
    ]
    blocks = [
        tag("details", tag("summary", name), tag("pre", json_code(value), dir="ltr")) for name, value in shown if value
    ]
    return section("session", "Session", *(blocks or [tag("p", "Nothing is known.", class_="empty")]))
