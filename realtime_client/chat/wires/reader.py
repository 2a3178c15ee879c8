"""Reading one answer: what every wire's reader has in common. Told the head, the bytes and the end; gives pieces."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Container, Mapping
from typing import Any

import msgspec

from realtime_client.history import Call, Opaque, Part, ProviderState, Text
from realtime_client.updates import Usage

from . import pieces as pc
from .faults import Fault, classify, cut, error_in, malformed, refused
from .framing import BOM, MOST_BYTES, EventStream, Framing, JsonLines, TooLongError
from .surrogates import Halves, mended

MOST_ANSWER_BYTES = 4 * MOST_BYTES
"""The longest answer that is read: a server cannot fill the memory."""

_MOST_ERROR_BYTES = 64 * 1024
_LONGEST_SHOWN = 200
_LONGEST_BEGIN = 4096  # until an answer shows what it is: servers send empty lines first
_MOST_CALLS = 1024
_EVENT_FIELDS = (b"data", b"event", b"id", b"retry", b":")


class CallBuilder:
    """A call of a tool while it is made. key: what its fragments are told by."""

    __slots__ = ("call_id", "halves", "key", "name", "pieces", "state")

    def __init__(self, key: object, call_id: str, name: str) -> None:
        self.key = key
        self.call_id = call_id
        self.name = name
        self.pieces: list[str] = []
        self.halves = Halves()  # of what is shown of it
        self.state: ProviderState | None = None

    @property
    def arguments(self) -> str:
        """The JSON of its arguments; nothing means none."""
        return mended("".join(self.pieces)).strip() or "{}"

    @property
    def whole(self) -> bool:
        """Whether it can be run: it has a name, and its arguments are an object in strict JSON."""
        try:
            return bool(self.name) and isinstance(msgspec.json.decode(self.arguments), dict)
        except (msgspec.DecodeError, RecursionError):
            return False


class Reader(ABC):
    """Reads one answer. `head`, then `feed` for what comes, then `end`; each returns the pieces that came of it.

    over: the last piece was given, there is nothing to wait for. finished: the server has said that the answer is over;
    its figures may still come. began: something of the answer was given. usage: the last that was stated. taken: ids
    that calls of the conversation have: many servers number the calls of each answer anew.
    """

    def __init__(self, stream: str) -> None:
        self.stream = stream
        self.over = self.finished = self.began = False
        self.usage: Usage | None = None
        self.taken: Container[str] = ()
        self._frames = self._framing()
        self._whole: list[bytes] | None = []  # what is no stream of messages, or not yet known to be one
        self._size = 0  # of the body so far
        self._status = 200
        self._headers: Mapping[str, str] = {}
        self._out: list[pc.Piece] = []
        self._n = 0
        self._at_s = 0.0
        self._parts: list[Part | CallBuilder] = []
        self._said: list[str] = []  # of the text part that is being made
        self._halves, self._thought_halves = Halves(), Halves()  # of the text, and of the thoughts
        self._calls: list[CallBuilder] = []
        self._reason: tuple[pc.Reason, str] | None = None

    # --- what a wire adds ---------------------------------------------------------------------------------------------

    def _framing(self) -> Framing:
        return EventStream()

    @abstractmethod
    def _message(self, name: str, data: bytes) -> None:
        """Take one message of the stream. Errors: what msgspec raises for what makes no sense."""

    @abstractmethod
    def _answer(self, body: bytes) -> None:
        """Take a whole answer that did not come as a stream; as above."""

    def _streams(self, begin: bytes) -> bool:
        """Whether a body with this beginning comes as a stream of messages."""
        return isinstance(self._frames, JsonLines) or begin.removeprefix(BOM).lstrip().startswith(_EVENT_FIELDS)

    def _settle(self) -> None:  # noqa: B027 - most wires hold nothing back
        """The text is complete: nothing of it may be held back any longer."""

    def _judged(self, body: bytes) -> Fault:
        """Judge an answer with an HTTP error."""
        return refused(self._status, self._headers, body)

    # --- what it is told ----------------------------------------------------------------------------------------------

    def head(self, status: int, headers: Mapping[str, str]) -> None:
        """Take the answer's head. headers: names in lower case."""
        self._status, self._headers = status, headers

    def feed(self, data: bytes, at_s: float) -> list[pc.Piece]:
        """Take bytes of the body. at_s: when they arrived."""
        self._at_s = at_s
        self._size += len(data)
        if self._whole is not None:
            data = self._first(self._whole, data)
        if data and not self.over:
            try:
                if self._size > MOST_ANSWER_BYTES:
                    raise TooLongError(MOST_ANSWER_BYTES)
                self._take(self._frames.feed(data))
            except TooLongError as error:
                self._fail(malformed(str(error)))
        out, self._out = self._out, []
        return out

    def _first(self, whole: list[bytes], data: bytes) -> bytes:
        """Keep what is no stream; return all, once it is known to be one: its first bytes tell, no content type."""
        if self.over:
            return b""
        whole.append(data)
        if self._status >= 300:
            if self._size > _MOST_ERROR_BYTES:
                self._end()
        elif self._size > MOST_BYTES:
            self._fail(malformed(str(TooLongError())))
        elif self._size - len(data) < _LONGEST_BEGIN:
            begin = b"".join(whole)
            if self._streams(begin):
                self._whole = None
                return begin
        return b""

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

    def _taken(self) -> list[pc.Piece]:
        out, self._out = self._out, []
        return out

    def _end(self) -> None:
        if self._status >= 300:
            self._fail(self._judged(b"".join(self._whole or ())))
            return
        self._take_rest()
        if self.over:
            return
        if self.finished:
            self._finish()
        else:
            self._fail(cut())

    def _take_rest(self) -> None:
        """Take what has come and was not read yet."""
        if self._whole is not None:
            self._take_whole(b"".join(self._whole))
        else:
            self._take(self._frames.end(), last=True)

    def _take(self, messages: list[tuple[str, bytes]], *, last: bool = False) -> None:
        """Take messages. last: no line end came after them, so they may be cut."""
        data = b""
        try:
            for name, data in messages:
                if data:
                    self._message(name, data)
                    if self.over:
                        return
        except (ValueError, RecursionError) as error:
            if self.finished:
                self._finish()
            elif not (last and data.startswith((b"{", b"["))):
                self._senseless(error, data)

    def _take_whole(self, body: bytes) -> None:
        begin = body.removeprefix(BOM).lstrip()
        try:
            if begin.startswith((b"{", b"[")):
                self._answer(begin)
            else:
                self._take(self._frames.feed(body) + self._frames.end())
                if begin and not (self.began or self.over):
                    self._fail(malformed(f"the server sends no answer, but: {_shown(begin)} (is the URL right?)"))
        except (ValueError, RecursionError, TooLongError) as error:
            self._senseless(error, begin)

    def _senseless(self, error: Exception, data: bytes) -> None:
        self._fail(malformed(f"the server sends what makes no sense ({error}): {_shown(data)}"))

    # --- what it says -------------------------------------------------------------------------------------------------

    def _give(self, kind: type[pc.Piece], *fields: Any) -> None:
        self._out.append(kind(self.stream, self._n, self._at_s, *fields))
        self._n += 1

    def _text(self, text: str) -> None:
        """More of the answer."""
        if not text.isascii() or self._halves.half:
            text = self._halves.feed(text)
        if text:
            self.began = True
            self._said.append(text)
            self._out.append(pc.TextPiece(self.stream, self._n, self._at_s, text))
            self._n += 1

    def _rest_of(self, whole: str) -> None:
        """Take all the text of the part being made, of which some, all or nothing has come before."""
        said = "".join(self._said) + self._halves.half
        if whole.startswith(said):
            self._text(whole[len(said) :])

    def _last_text(self, text: str) -> None:
        """Take the text of the message that ends an answer: the rest, or all once more; "1" and "1" is eleven."""
        said = self._so_far()
        self._text(text[len(said) :] if len(said) > 1 and text.startswith(said) else text)

    def _so_far(self) -> str:
        """All text of the answer."""
        return "".join([part.text for part in self._parts if isinstance(part, Text)] + self._said)

    def _thinking(self, text: str) -> None:
        if text := self._thought_halves.feed(text):
            self.began = True
            self._give(pc.ThinkingPiece, text)

    def _close_text(self, state: ProviderState | None = None) -> None:
        """The text part is complete."""
        self._settle()
        if self._halves.half:
            self._text(self._halves.end())
        if self._said or state is not None:
            self._parts.append(Text(text="".join(self._said), provider_state=state))
            self._said = []

    def _opaque(self, state: ProviderState, text: str = "") -> None:
        """Something that the provider wants back with this answer."""
        self._close_text()
        self._parts.append(Opaque(text=text, provider_state=state))

    def _call(self, key: object, call_id: str, name: str, arguments: str) -> CallBuilder:
        """More of a call. key: equal for all fragments of one call; name and id come with the first, or with each."""
        builder = next((each for each in reversed(self._calls) if each.key == key), None)
        name = mended(name)
        if builder is None:
            if len(self._calls) >= _MOST_CALLS:
                raise msgspec.ValidationError(f"more than {_MOST_CALLS} calls of tools")
            self._close_text()
            builder = CallBuilder(key, self._new_id(mended(call_id)), name)
            self._calls.append(builder)
            self._parts.append(builder)
        elif name and not builder.name:
            builder.name = name
        if arguments:
            builder.pieces.append(arguments)
        self.began = True
        self._give(pc.CallPiece, builder.call_id, builder.name, builder.halves.feed(arguments))
        return builder

    def _new_id(self, call_id: str) -> str:
        """The call's id, or one made here where it has none, or one that another call has."""
        if call_id and call_id not in self.taken and all(each.call_id != call_id for each in self._calls):
            return call_id
        return f"{call_id or 'call'}_{self.stream}_{len(self._calls)}"

    def _used(self, usage: Usage) -> None:
        if usage != self.usage:
            self.usage = usage
            self._give(pc.UsagePiece, usage)

    def _over(self, reason: pc.Reason, words: str = "") -> None:
        """The server says that the answer is over; figures may follow."""
        if self._reason is None or self._reason[0] == "other":
            self._reason = reason, mended(words)
        self.finished = True

    def _finish(self) -> None:
        """Give the last pieces: the calls, and the end."""
        self._close_text()
        reason, words = self._reason or ("stop", "")
        whole = [self._made(call) for call in self._calls]
        if reason in ("stop", "tool_calls"):  # what servers call it is not to be relied on
            reason = "tool_calls" if any(whole) else "other" if whole else "stop"
        self._give(pc.FinishPiece, reason, words)
        self.over = self.finished = True

    def _made(self, call: CallBuilder) -> bool:
        """Give a call, which is complete, or never will be; return whether it is whole."""
        told = call.call_id, call.name, call.arguments
        if not call.whole:
            self._give(pc.CallCutPiece, *told)
            return False
        part = Call(call_id=told[0], name=told[1], arguments=told[2], provider_state=call.state)
        self._parts[self._parts.index(call)] = part
        self._give(pc.CallDonePiece, *told)
        return True

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
        whole = [part for part in self._parts if not isinstance(part, CallBuilder)]
        said = "".join(self._said)
        return (*whole, Text(text=said)) if said else tuple(whole)


def decode(data: bytes) -> Any:
    """Read JSON; half a surrogate pair, which JSON can say and UTF-8 cannot, stays in the text.

    Bytes that are no UTF-8 are replaced: a single bad character is no reason to lose an answer. Errors:
    msgspec.DecodeError.
    """
    try:
        return msgspec.json.decode(data)
    except ValueError:
        return _decode_slowly(data)


def decode_as(decoder: msgspec.json.Decoder[Any], data: bytes) -> Any:
    """Read a message of a known shape; as above."""
    try:
        return decoder.decode(data)
    except msgspec.ValidationError:  # a DecodeError, too
        raise
    except ValueError:
        return converted(_decode_slowly(data), decoder.type)


def converted(value: Any, kind: Any) -> Any:
    """Read JSON that is decoded already as a message of a known shape. Errors: msgspec.ValidationError."""
    try:
        return msgspec.convert(value, kind)
    except UnicodeEncodeError as error:  # half a surrogate pair where it does not belong
        raise msgspec.ValidationError(str(error)) from None


def _decode_slowly(data: bytes) -> Any:
    try:
        return json.loads(data.decode("utf-8", "replace"))
    except ValueError as error:
        raise msgspec.DecodeError(str(error)) from None


def _shown(data: bytes) -> str:
    return data[:_LONGEST_SHOWN].decode("utf-8", "replace")


def json_text(value: Any) -> str:
    """Write JSON; half a surrogate pair is escaped, so that strict readers refuse it."""
    try:
        return msgspec.json.encode(value).decode()
    except UnicodeEncodeError:
        return json.dumps(value)


def count(value: Any) -> int:
    """Read a number of tokens; 0 for what is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53 else 0


def wanted_back(provider: str, data: Any) -> ProviderState:
    """Keep what a provider wants back as it came, but for half a surrogate pair, which could not be sent."""
    try:
        msgspec.json.encode(data)
    except UnicodeEncodeError:
        data = json.loads(json.dumps(data, ensure_ascii=False).encode("utf-8", "replace"))
    return ProviderState(provider, data)
