"""The transcript: turns as they happen, written when they have settled, in the order of the conversation.

A turn settles when it is done, its transcript is there (the user's speech) and its sound is over (an answer may still
be cut while it plays) or a later turn of the user has begun. One that does not settle holds the later ones back until 8
of those are ready or it has been done for 15 s; then it is written as it is. What comes later still changes the files
when the session is closed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import msgspec

from realtime_client import updates as up

from . import render
from .folder import TRANSCRIPT, replace_file
from .masking import Masker
from .timeline import RATE_HZ
from .turns import SPEAKERS, Turn
from .wav import create_private, write_all

WAIT_TURNS = 8
WAIT_S = 15.0
_REMEMBERED = 256
_TURN_KINDS = {"message", "function_call", "function_call_output", "mcp_call"}

Settled = Callable[[Turn], None]


class TranscriptFiles:
    """transcript.jsonl, .md, .srt, .vtt: lines are appended; `rewrite` replaces all. Errors: OSError."""

    def __init__(self, folder: Path, masker: Masker) -> None:
        self._base = folder / TRANSCRIPT
        self._masker = masker
        self._cues = 0
        self._files = {kind: create_private(self.path(kind)) for kind in ("jsonl", "md", "srt", "vtt")}
        write_all(self._files["md"], render.MD_HEAD.encode())
        write_all(self._files["vtt"], render.VTT_HEAD.encode())

    def path(self, kind: str) -> Path:
        """Return the path of one of the four."""
        return self._base.with_suffix("." + kind)

    def append(self, line: render.Line) -> None:
        """Write one turn to all four."""
        for kind, text in self._render(line).items():
            write_all(self._files[kind], text)

    def close(self) -> None:
        """Close all four; idempotent."""
        for file in self._files.values():
            file.close()

    def rewrite(self, changes: dict[int, render.Line], moved: dict[str, str]) -> None:
        """Replace lines by number, put moved items (item_id: after) in their places, write all four anew."""
        lines = [msgspec.json.decode(row) for row in self.path("jsonl").read_bytes().splitlines()]
        lines = [changes.get(line["n"], line) for line in lines]
        for item_id, after in moved.items():
            lines = _move(lines, item_id, after)
        self.write_all(lines)

    def write_all(self, lines: list[render.Line]) -> None:
        """Write all four files anew, each in one step."""
        write_transcripts(self._base.parent, lines, self._masker)

    def _render(self, line: render.Line) -> dict[str, bytes]:
        line = self._masker.value(line)
        cue = render.srt(line, self._cues + 1)
        self._cues += bool(cue)
        return _encoded(line, cue)


def _encoded(line: render.Line, cue: str) -> dict[str, bytes]:
    texts = {"md": render.markdown(line), "srt": cue, "vtt": render.vtt(line)}
    return {
        "jsonl": msgspec.json.encode(line) + b"\n",
        **{kind: text.encode("utf-8", "replace") for kind, text in texts.items()},
    }


def write_transcripts(folder: Path, lines: list[render.Line], masker: Masker) -> None:
    """Write the four transcript files of a folder anew, each in one step. Errors: OSError."""
    whole = {"jsonl": b"", "md": render.MD_HEAD.encode(), "srt": b"", "vtt": render.VTT_HEAD.encode()}
    cues = 0
    for raw in lines:
        line = masker.value(raw)
        cue = render.srt(line, cues + 1)
        cues += bool(cue)
        for kind, text in _encoded(line, cue).items():
            whole[kind] += text
    for kind, data in whole.items():
        replace_file((folder / TRANSCRIPT).with_suffix("." + kind), data)


def _move(lines: list[render.Line], item_id: str, after: str) -> list[render.Line]:
    """Put the line of an item behind the line of another, when both are there."""
    mine = next((line for line in lines if line["item_id"] == item_id), None)
    if mine is None or not any(line["item_id"] == after for line in lines):
        return lines
    rest = [line for line in lines if line is not mine]
    at = next(i for i, line in enumerate(rest) if line["item_id"] == after)
    return [*rest[: at + 1], mine, *rest[at + 1 :]]


class Transcript:
    """Follows the updates of a session and keeps its turns. Errors of every method: OSError.

    settled: called when a turn begins, is done, or changes after that; for the journal.
    """

    def __init__(self, files: TranscriptFiles, changed: Settled) -> None:
        self.position = 0
        self.count = 0
        self.transcribes = False
        self._files = files
        self._changed = changed
        self._open: list[Turn] = []  # not yet written, in the order of the conversation
        self._written: OrderedDict[str, Turn] = OrderedDict()
        self._late: dict[int, Turn] = {}
        self._moved: dict[str, str] = {}
        self._apart: set[str] = set()
        self._handlers: dict[type, Callable[[up.Update, float], None]] = {
            up.ItemAdded: self._item_added,  # type: ignore[dict-item]
            up.ItemDone: self._item_done,  # type: ignore[dict-item]
            up.TextDelta: self._text_delta,  # type: ignore[dict-item]
            up.TextDone: self._text_done,  # type: ignore[dict-item]
            up.UserTranscriptDelta: self._user_delta,  # type: ignore[dict-item]
            up.UserTranscript: self._user_transcript,  # type: ignore[dict-item]
            up.UserTranscriptFailed: self._user_failed,  # type: ignore[dict-item]
            up.ToolCall: self._tool_call,  # type: ignore[dict-item]
            up.ResponseStarted: self._response_started,  # type: ignore[dict-item]
            up.ResponseDone: self._response_done,  # type: ignore[dict-item]
            up.Interrupted: self._interrupted,  # type: ignore[dict-item]
            up.DeviceChanged: self._device_changed,  # type: ignore[dict-item]
        }

    # --- turns --------------------------------------------------------------------------------------------------------

    def begin(self, who: str, item_id: str = "", after: str | None = None) -> Turn:
        """Begin a turn here and now; it takes the next number."""
        self.count += 1
        who = who if who in SPEAKERS else "system"
        turn = Turn(self.count, who, item_id, after=after, start=self.position, end=self.position)
        self._open.append(turn)
        self._place(turn, after)
        self._changed(turn)
        return turn

    def find(self, item_id: str) -> Turn | None:
        """Return the turn of an item, or None when there is none, or one so old that it is forgotten."""
        if not item_id:
            return None
        for turn in reversed(self._open):
            if turn.item_id == item_id:
                return turn
        return self._written.get(item_id)

    def turn(self, item_id: str, who: str, response_id: str = "") -> Turn:
        """Return the turn of an item; begin it when there is none."""
        turn = self.find(item_id) or self.begin(who, item_id)
        if response_id and not turn.response_id:
            turn.response_id = response_id
            turn.out_of_band = response_id in self._apart
        return turn

    def bind(self, turn: Turn, item_id: str, after: str | None) -> None:
        """Give a turn that was spoken before the server named it its item."""
        known = self.find(item_id)
        if known is not None and known is not turn and known in self._open:
            self._open.remove(known)  # announced in between: one turn, not two
        turn.item_id = item_id
        self._place(turn, after)
        self.changed(turn)

    def changed(self, turn: Turn) -> None:
        """Something about a turn is different now; when it is written already, the files change at the end."""
        if turn.written:
            self._late[turn.n] = turn
        self._changed(turn)

    def spoken(self, turn: Turn, at_s: float, status: str = "completed") -> None:
        """The user's spoken turn is over; its transcript may come."""
        turn.spoken = True
        self._done(turn, status, at_s)
        if turn.written:
            self.changed(turn)

    # --- updates ------------------------------------------------------------------------------------------------------

    def hear(self, update: up.Update, at_s: float) -> None:
        """Take one update in."""
        handler = self._handlers.get(type(update))
        if handler is not None:
            handler(update, at_s)

    def _item_added(self, update: up.ItemAdded, at_s: float) -> None:
        if update.item_type not in _TURN_KINDS:
            return
        turn = self.find(update.item_id)
        if turn is None:
            turn = self.begin(update.role, update.item_id, update.previous_item_id)
        else:
            self._place(turn, update.previous_item_id)
        turn.kind = update.item_type
        if update.text and not turn.texts and update.item_type != "function_call":
            turn.set_text(update.text)
        turn.spoken = turn.spoken or (update.has_audio and turn.who == "user")
        given = update.local or update.role in {"user", "system"} or update.item_type == "function_call_output"
        if given and not turn.spoken:
            self._done(turn, "completed", at_s)

    def _item_done(self, update: up.ItemDone, at_s: float) -> None:
        if update.item_type not in _TURN_KINDS:
            return
        turn = self.find(update.item_id) or self.begin(update.role, update.item_id, update.previous_item_id)
        turn.kind = update.item_type
        if update.text and not turn.name and (turn.cut_ms is None or not turn.texts):
            turn.texts = {0: [update.text]}
            turn.transcribed = True
        turn.spoken = turn.spoken or (update.has_audio and turn.who == "user")
        self._done(turn, update.status if update.status != "in_progress" else "completed", at_s)

    def _text_delta(self, update: up.TextDelta, _at_s: float) -> None:
        turn = self.turn(update.item_id, "assistant", update.response_id)
        turn.texts.setdefault(update.content_index, []).append(update.text)
        if turn.written:
            self.changed(turn)

    def _text_done(self, update: up.TextDone, _at_s: float) -> None:
        turn = self.turn(update.item_id, "assistant", update.response_id)
        turn.set_text(update.text, update.content_index)
        if turn.written:
            self.changed(turn)

    def _user_delta(self, update: up.UserTranscriptDelta, _at_s: float) -> None:
        turn = self.turn(update.item_id, "user")
        if not turn.transcribed:
            turn.texts.setdefault(update.content_index, []).append(update.text)

    def _user_transcript(self, update: up.UserTranscript, _at_s: float) -> None:
        turn = self.turn(update.item_id, "user")
        turn.set_text(update.text, update.content_index)
        turn.transcribed = True
        self.changed(turn)

    def _user_failed(self, update: up.UserTranscriptFailed, _at_s: float) -> None:
        turn = self.turn(update.item_id, "user")
        turn.status = "transcription_failed"
        turn.transcribed = True
        self.changed(turn)

    def _tool_call(self, update: up.ToolCall, at_s: float) -> None:
        turn = self.turn(update.item_id, "tool", update.response_id)
        turn.who, turn.kind, turn.name = "tool", "function_call", update.name
        turn.texts = {0: [update.arguments]}
        self._done(turn, "completed", at_s)

    def _device_changed(self, update: up.DeviceChanged, at_s: float) -> None:
        """A mark where sound is missing, or another device was taken."""
        turn = self.begin("note")
        turn.texts = {0: [f"{update.reason} ({update.gap_ms} ms without sound)" if update.gap_ms else update.reason]}
        self._done(turn, "completed", at_s)

    def _response_started(self, update: up.ResponseStarted, _at_s: float) -> None:
        if update.out_of_band:
            self._apart.add(update.response_id)

    def _response_done(self, update: up.ResponseDone, at_s: float) -> None:
        self._apart.discard(update.response_id)
        for turn in [*self._open, *self._written.values()]:
            if (turn.response_id and turn.response_id == update.response_id) or turn.item_id in update.item_ids:
                turn.interrupted = turn.interrupted or (update.status == "cancelled" and turn.who == "assistant")
                status = turn.status if turn.done and update.status == "completed" else update.status
                self._done(turn, status, at_s)

    def _interrupted(self, update: up.Interrupted, _at_s: float) -> None:
        turn = self.find(update.item_id)
        if turn is None:
            return
        turn.interrupted = True
        turn.received_ms = max(turn.received_ms, update.received_ms)
        if update.heard_ms < update.received_ms:
            turn.cut_ms = update.heard_ms
        self.changed(turn)

    # --- order and writing --------------------------------------------------------------------------------------------

    def settle(self, at_s: float, *, everything: bool = False) -> bool:
        """Write the turns that have settled, in order. Returns whether any was written."""
        before = len(self._open)
        while self._open:
            head = self._open[0]
            if not (everything or self._settled(head, 0) or self._waited_enough(head, at_s)):
                break
            self._write(self._open.pop(0))
        return len(self._open) < before

    def close(self, at_s: float) -> None:
        """Write all that is left, and what has changed since it was written."""
        self.settle(at_s, everything=True)
        self._files.close()
        if self._late or self._moved:
            self._files.rewrite({n: turn.line() for n, turn in self._late.items()}, self._moved)

    def _settled(self, turn: Turn, index: int) -> bool:
        if not turn.done or turn.sounding:
            return False
        if turn.who == "user":
            return turn.transcribed or not (turn.spoken and self.transcribes)
        return turn.end <= self.position or any(later.who == "user" for later in self._open[index + 1 :])

    def _waited_enough(self, head: Turn, at_s: float) -> bool:
        if head.done and head.who == "user" and at_s - head.done_at_s >= WAIT_S:
            return True
        if len(self._open) <= WAIT_TURNS:
            return False
        return sum(self._settled(turn, i) for i, turn in enumerate(self._open)) >= WAIT_TURNS

    def _write(self, turn: Turn) -> None:
        turn.written = True
        self._files.append(turn.line())
        self._changed(turn)
        if turn.item_id:
            self._written[turn.item_id] = turn
            if len(self._written) > _REMEMBERED:
                self._written.popitem(last=False)

    def _done(self, turn: Turn, status: str, at_s: float) -> None:
        if not turn.done:
            turn.done, turn.done_at_s = True, at_s
        elif turn.status == status:
            return
        if turn.status != "transcription_failed":
            turn.status = status
        self.changed(turn)

    def _place(self, turn: Turn, after: str | None) -> None:
        """Put a turn behind the item it follows, when that is known."""
        turn.after = after or turn.after
        if not after:
            return
        if turn.written or after in self._written:
            self._place_written(turn, after)
            return
        for i, before in enumerate(self._open):
            if before.item_id == after and before is not turn:
                at = self._open.index(turn)
                if at != i + 1 and not self._follows(turn, i):
                    self._open.remove(turn)
                    self._open.insert(self._open.index(before) + 1, turn)
                return

    def _follows(self, turn: Turn, index: int) -> bool:
        """Tell whether a turn stands behind another with nothing between that has a place of its own."""
        at = self._open.index(turn)
        return at > index and not any(between.after for between in self._open[index + 1 : at])

    def _place_written(self, turn: Turn, after: str) -> None:
        """A place among what is written already: if it is not the last one, the files change at the end."""
        if turn.written:
            return
        last = next(reversed(self._written), None)
        if last == after:
            if self._open and self._open[0] is not turn and turn in self._open:
                self._open.remove(turn)
                self._open.insert(0, turn)
        elif turn.item_id:
            self._moved[turn.item_id] = after

    @property
    def seconds(self) -> float:
        """Where the conversation stands, in seconds of conversation.wav."""
        return self.position / RATE_HZ
