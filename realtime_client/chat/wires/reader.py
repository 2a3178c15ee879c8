"""Reading one answer: what every wire's reader has in common. Told the head, the bytes and the end; gives pieces."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import msgspec

from realtime_client.errors import RealtimeError
from realtime_client.history import Call, Opaque, Part, ProviderState, Text
from realtime_client.updates import Usage

from . import pieces as pc
from .faults import Fault, classify, cut, error_in, malformed, refused
from .framing import MOST_BYTES, EventStream, JsonLines, TooLongError

_MOST_ERROR_BYTES = 64 * 1024
_LONGEST_SHOWN = 200


class CallBuilder:
    """A call of a tool while it is made. key: what its fragments are told by."""

    __slots__ = ("call_id", "key", "name", "pieces", "state")

    def __init__(self, key: object, call_id: str, name: str) -> None:
        self.key = key
        self.call_id = call_id
        self.name = name
        self.pieces: list[str] = []
        self.state: ProviderState | None = None

    @property
    def arguments(self) -> str:
        """The JSON of its arguments; nothing means none."""
        return "".join(self.pieces).strip() or "{}"

    @property
    def whole(self) -> bool:
        """Whether it can be run: it has a name, and its arguments are an object in strict JSON."""
        try:
            return bool(self.name) and isinstance(msgspec.json.decode(self.arguments), dict)
        except (msgspec.DecodeError, UnicodeEncodeError):
            return False


class Reader(ABC):
    """Reads one answer. `head`, then `feed` for what comes, then `end`; each returns the pieces that came of it.

    over: the last piece was given, there is nothing to wait for. finished: the server has said that the answer is over;
    its figures may still come. began: something of the answer was given. usage: the last that was stated.
    """

    def __init__(self, stream: str) -> None:
        self.stream = stream
        self.over = self.finished = self.began = False
        self.usage: Usage | None = None
        self._frames: EventStream | JsonLines = self._framing()
        self._whole: list[bytes] | None = None  # an answer, or an error, that comes in one piece
        self._whole_size = 0
        self._status = 200
        self._headers: Mapping[str, str] = {}
        self._out: list[pc.Piece] = []
        self._n = 0
        self._at_s = 0.0
        self._parts: list[Part] = []
        self._said: list[str] = []  # of the text part that is being made
        self._half = ""  # the first half of a surrogate pair
        self._calls: list[CallBuilder] = []
        self._reason: tuple[pc.Reason, str] | None = None

    # --- what a wire adds ---------------------------------------------------------------------------------------------

    def _framing(self) -> EventStream | JsonLines:
        return EventStream()

    @abstractmethod
    def _message(self, name: str, data: bytes) -> None:
        """Take one message of the stream. Errors: what msgspec raises for what makes no sense."""

    @abstractmethod
    def _answer(self, body: bytes) -> None:
        """Take a whole answer that did not come as a stream; as above."""

    def _streams(self, content_type: str) -> bool:
        """Whether a good answer of this type comes as a stream. Servers name theirs in many ways: only JSON is none."""
        return not content_type.startswith("application/json")

    # --- what it is told ----------------------------------------------------------------------------------------------

    def head(self, status: int, headers: Mapping[str, str]) -> None:
        """Take the answer's head. headers: names in lower case."""
        self._status, self._headers = status, headers
        if status >= 400 or not self._streams(headers.get("content-type", "").strip().lower()):
            self._whole = []

    def feed(self, data: bytes, at_s: float) -> list[pc.Piece]:
        """Take bytes of the body. at_s: when they arrived."""
        self._at_s = at_s
        if self.over:
            return []
        if self._whole is not None:
            self._keep(self._whole, data)
            return self._taken()
        try:
            messages = self._frames.feed(data)
        except RealtimeError as error:
            self._fail(malformed(str(error)))
        else:
            self._take(messages)
        out, self._out = self._out, []
        return out

    def _keep(self, whole: list[bytes], data: bytes) -> None:
        self._whole_size += len(data)
        if self._status >= 400 and self._whole_size > _MOST_ERROR_BYTES:
            return
        whole.append(data)
        if self._whole_size > MOST_BYTES:
            self._fail(malformed(str(TooLongError())))

    def end(self, at_s: float) -> list[pc.Piece]:
        """The body is over, or will not be waited for."""
        self._at_s = at_s
        if not self.over:
            self._end()
        return self._taken()

    def fail(self, fault: Fault, at_s: float) -> list[pc.Piece]:
        """The answer ends here, because of this."""
        self._at_s = at_s
        if not self.over:
            self._fail(fault)
        return self._taken()

    def _end(self) -> None:
        if self._status >= 400:
            self._fail(refused(self._status, self._headers, b"".join(self._whole or ())))
            return
        if self._whole is not None:
            self._take_whole(b"".join(self._whole))
        else:
            self._take(self._frames.end())
        if self.over:
            return
        if self.finished:
            self._finish()
        else:
            self._fail(cut())

    def _take(self, messages: list[tuple[str, bytes]]) -> None:
        data = b""
        try:
            for name, data in messages:
                self._message(name, data)
                if self.over:
                    return
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            self._fail(malformed(f"the server sends what makes no sense ({error}): {_shown(data)}"))

    def _take_whole(self, body: bytes) -> None:
        if body.lstrip()[:1] not in (b"{", b"["):  # a stream under a wrong name
            frames = self._framing()
            self._take([*frames.feed(body), *frames.end()])
            return
        try:
            self._answer(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            self._fail(malformed(f"the server sends what makes no sense ({error}): {_shown(body)}"))

    def _taken(self) -> list[pc.Piece]:
        out, self._out = self._out, []
        return out

    # --- what it says -------------------------------------------------------------------------------------------------

    def _give(self, kind: type[pc.Piece], *fields: Any) -> None:
        self._out.append(kind(self.stream, self._n, self._at_s, *fields))
        self._n += 1

    def _text(self, text: str) -> None:
        """More of the answer."""
        if not text:
            return
        if self._half or not text.isascii():
            text = self._paired(text)
            if not text:
                return
        self.began = True
        self._said.append(text)
        self._out.append(pc.TextPiece(self.stream, self._n, self._at_s, text))
        self._n += 1

    def _paired(self, text: str) -> str:
        """Put surrogate pairs together that were cut between two messages."""
        text, self._half = self._half + text, ""
        if "\ud800" <= text[-1] <= "\udbff":
            text, self._half = text[:-1], text[-1]
        if any("\ud800" <= each <= "\udfff" for each in text):
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return text

    def _rest_of(self, whole: str) -> None:
        """Take all the text of the part being made, of which some, all or nothing has come before."""
        said = "".join(self._said) + self._half
        if whole.startswith(said):
            self._text(whole[len(said) :])
        elif not said:
            self._text(whole)

    def _last_text(self, text: str) -> None:
        """Take the text of the message that ends an answer: the rest of it, or all of it once more."""
        if text != "".join(self._said):
            self._text(text)

    def _thinking(self, text: str) -> None:
        if text:
            self.began = True
            self._give(pc.ThinkingPiece, text)

    def _close_text(self, state: ProviderState | None = None) -> None:
        """The text part is complete."""
        if self._half:
            self._half = ""
            self._text("\N{REPLACEMENT CHARACTER}")
        if self._said or state is not None:
            self._parts.append(Text(text="".join(self._said), provider_state=state))
            self._said = []

    def _opaque(self, state: ProviderState, text: str = "") -> None:
        """Something that the provider wants back with this answer."""
        self._close_text()
        self._parts.append(Opaque(text=text, provider_state=state))

    def _call(self, key: object, call_id: str, name: str, arguments: str) -> CallBuilder:
        """More of a call. key: equal for all fragments of one call; name and id come with the first, or with each."""
        builder = next((each for each in self._calls if each.key == key), None)
        if builder is None:
            self._close_text()
            builder = CallBuilder(key, call_id or f"call_{self.stream}_{len(self._calls)}", name)
            self._calls.append(builder)
        elif name and not builder.name:
            builder.name = name
        if arguments:
            builder.pieces.append(arguments)
        self.began = True
        self._give(pc.CallPiece, builder.call_id, builder.name, arguments)
        return builder

    def _used(self, usage: Usage) -> None:
        if usage != self.usage:
            self.usage = usage
            self._give(pc.UsagePiece, usage)

    def _over(self, reason: pc.Reason, words: str = "") -> None:
        """The server says that the answer is over; figures may follow."""
        if self._reason is None or self._reason[0] == "other":
            self._reason = reason, words
        self.finished = True

    def _finish(self) -> None:
        """Give the last pieces: the calls, and the end."""
        reason, words = self._reason or ("stop", "")
        self._close_text()
        for call in self._calls:
            if call.whole:
                self._parts.append(
                    Call(call_id=call.call_id, name=call.name, arguments=call.arguments, provider_state=call.state)
                )
                self._give(pc.CallDonePiece, call.call_id, call.name, call.arguments)
            else:
                self._give(pc.CallCutPiece, call.call_id, call.name, call.arguments)
        if reason in ("stop", "tool_calls"):  # what servers call it is not to be relied on
            reason = "tool_calls" if any(isinstance(part, Call) for part in self._parts) else "stop"
        self._give(pc.FinishPiece, reason, words)
        self.over = self.finished = True

    def _fail(self, fault: Fault) -> None:
        self._close_text()
        self._give(pc.ErrorPiece, fault)
        self.over = True

    def _refuse(self, value: Any) -> bool:
        """Whether a message is an error; then the stream is over."""
        found = error_in(value)
        if found is None:
            return False
        self._fail(classify(None, *found))
        return True

    def parts(self) -> tuple[Part, ...]:
        """Return what the conversation keeps of the answer: its whole parts so far, in their order."""
        said = "".join(self._said)
        return (*self._parts, Text(text=said)) if said else tuple(self._parts)


def decode(data: bytes) -> Any:
    """Read JSON; half a surrogate pair, which JSON can say and UTF-8 cannot, stays in the text.

    Errors: msgspec.DecodeError.
    """
    try:
        return msgspec.json.decode(data)
    except msgspec.DecodeError:
        return _decode_slowly(data)


def decode_as(decoder: msgspec.json.Decoder[Any], data: bytes) -> Any:
    """Read a message of a known shape; as above."""
    try:
        return decoder.decode(data)
    except msgspec.ValidationError:  # a DecodeError, too
        raise
    except msgspec.DecodeError:
        return msgspec.convert(_decode_slowly(data), decoder.type)


def _decode_slowly(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise msgspec.DecodeError(str(error)) from None


def _shown(data: bytes) -> str:
    return data[:_LONGEST_SHOWN].decode("utf-8", "replace")
