"""Between bytes on the wire and messages.

Decoding never raises: a frame is a known message, an `UnknownEvent`, or a `MalformedEvent` that says what is wrong.
Audio deltas are decoded in one pass over the frame without an intermediate string: the JSON parser reads only what
precedes the base64 text; in any other frame it leaves the text as a view.
"""

from __future__ import annotations

import binascii
import re
from typing import TYPE_CHECKING, Any, Generic, TypeVar, Union, get_args

import msgspec
import pybase64

from . import events as ev
from . import lenient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_json = msgspec.json
_encode = _json.Encoder().encode
_decode_any = _json.Decoder().decode
_decode_str = _json.Decoder(str).decode
_b64decode = pybase64.b64decode
_b64encode = pybase64.b64encode

T = TypeVar("T", bound=ev.Event)


class _AudioDeltaFrame(ev.ResponsePartEvent, tag="response.output_audio.delta", gc=False):
    """The wire's view of an audio delta: base64 not yet decoded."""

    delta: msgspec.Raw


class _AppendFrame(ev.ClientEvent, tag="input_audio_buffer.append", gc=False):
    """The wire's view of an append: base64 not yet decoded."""

    audio: msgspec.Raw


_UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)
_TYPE_NAME = re.compile(r'"type"\s*:\s*"([a-z0-9_.]{1,100})"')
_GUESS_WITHIN = 4096


class _Reader(Generic[T]):
    """Decoder of one direction of one protocol.

    lenient: what can be understood is understood; otherwise only null for a field that may be absent is accepted.
    """

    def __init__(
        self, kinds: Iterable[type[T]], frames: dict[type[ev.Event], type[ev.Event]], *, lenient: bool = True
    ) -> None:
        kinds = tuple(kinds)
        swapped = tuple(frames.get(kind, kind) for kind in kinds)
        self._decode: Callable[[bytes], Any] = _json.Decoder(Union[swapped]).decode  # noqa: UP007 - built at run time
        self._known = {str(kind.__struct_config__.tag): kind for kind in kinds}
        self._lenient = lenient

    def read(self, frame: bytes | str) -> Any:
        """Decode one frame; audio frames come back as the frame view."""
        try:
            return self._decode(frame)  # type: ignore[arg-type]
        except _UNREADABLE as error:
            return self.second_look(frame, str(error))

    def second_look(self, frame: bytes | str, error: str) -> Any:
        """Tell beta names, unknown types and what servers spell otherwise from malformed frames."""
        kind, event_id = "", None
        try:
            data = self._parse(frame)
            if not isinstance(data, dict):
                return ev.MalformedEvent(type="", error=error or "it is no JSON object")
            kind, event_id = data.get("type") or "", _event_id(data)
            if not isinstance(kind, str) or not kind:
                return ev.MalformedEvent(type="", error="no `type`", event_id=event_id)
            modern = ev.BETA_ALIASES.get(kind, kind)
            if modern not in self._known:
                return ev.UnknownEvent(type=lenient.whole_text(kind), data=lenient.clean(data))
            return self._convert(modern, {**data, "type": modern})
        except _UNREADABLE as second:
            says = str(second) or error or "too deep"
            says = says.replace("\n", " ")
            if event_id is None and not self._lenient:
                event_id = _event_id_within(frame)
            return ev.MalformedEvent(type=kind or self._guess_type(frame), error=says, event_id=event_id)

    def _parse(self, frame: bytes | str) -> Any:
        try:
            return _decode_any(frame)
        except _UNREADABLE:
            if not self._lenient:
                raise
            return lenient.parse(frame)

    def _convert(self, kind: str, data: dict[str, Any]) -> Any:
        """Make a message of JSON data."""
        struct = self._known[kind]
        if not self._lenient:
            try:
                return msgspec.convert(data, struct)
            except msgspec.ValidationError:
                return msgspec.convert(lenient.without_nulls(data), struct)
        delta = data.get("delta")
        if struct is not ev.Error:  # whose words may be anywhere; what is not read elsewhere need not be readable
            fields = {"type", *struct.__struct_fields__}
            data = {name: value for name, value in data.items() if name in fields}
        data = lenient.clean(data)
        if isinstance(delta, str):
            data["delta"] = delta  # it may begin or end with half a character
        return lenient.read(data, lambda mended: msgspec.convert(mended, struct, strict=False))

    def _guess_type(self, frame: bytes | str) -> str:
        """Find the type's name in a frame that is not valid JSON, or ''; items and parts have types, too."""
        data = frame.encode("utf-8", "replace") if isinstance(frame, str) else frame
        if len(data) > 2 * _GUESS_WITHIN:
            data = data[:_GUESS_WITHIN] + data[-_GUESS_WITHIN:]
        text = data.decode("utf-8", "replace")
        names = _TYPE_NAME.findall(text)
        known = (name for name in names if name in self._known or name in ev.BETA_ALIASES)
        return next(known, next((name for name in names if "." in name), ""))


def _event_id(data: Any) -> str | None:
    found = data.get("event_id") if isinstance(data, dict) else None
    return lenient.whole_text(found) if isinstance(found, str) else None


def _event_id_within(frame: bytes | str) -> str | None:
    """The id in a frame that the strict parser refuses, if it is JSON by the grammar (RFC 8259, section 8.2)."""
    try:
        return _event_id(lenient.parse(frame))
    except (ValueError, RecursionError):
        return None


_server = _Reader(ev.SERVER_EVENTS, {ev.ResponseOutputAudioDelta: _AudioDeltaFrame})
_client = _Reader(ev.CLIENT_EVENTS, {ev.InputAudioBufferAppend: _AppendFrame}, lenient=False)
_translation = _Reader(get_args(ev.AnyTranslationServerEvent), {})
_read_server = _server._decode  # noqa: SLF001 - the hot path saves a call
_read_audio = _json.Decoder(
    ev.ResponseOutputAudioDelta | ev.ResponseOutputAudioDone
).decode  # one alone needs no `type`
_AnyServer = ev.ServerEvent | ev.UnknownEvent | ev.MalformedEvent
_AnyClient = ev.ClientEvent | ev.UnknownEvent | ev.MalformedEvent


_QUOTE = ord('"')


def _base64(raw: msgspec.Raw) -> bytes:
    """Decode a JSON string of base64. Errors: binascii.Error, msgspec.ValidationError."""
    view = memoryview(raw)
    if view[0] != _QUOTE:
        raise msgspec.ValidationError("it is no string")
    try:
        return _b64decode(view[1:-1], validate=True)
    except binascii.Error:
        # JSON may write `/` as `\\/`; anything else that is not base64 fails here again.
        return _b64decode(_decode_str(raw), validate=True)


_DELTA = b'"delta":'
_BACKSLASH = ord("\\")
_SHORTEST_AUDIO = 512


def _audio_delta(frame: bytes) -> ev.ResponseOutputAudioDelta | None:
    """A frame whose last field is long audio, as servers write it; None for any other, and when in doubt.

    What stands between the key and the end of the frame is nothing but base64: so it is one string, and the rest, with
    an empty one in its place, is the whole message.
    """
    at = frame.find(_DELTA)
    if at < 1 or frame[at - 1] == _BACKSLASH or frame[-2:] != b'"}':  # an escaped quote does not end a key
        return None
    begin = at + 10 if frame[at + 8] == 32 else at + 9  # after a quote, and perhaps a space
    if begin > len(frame) - 2:
        return None
    try:
        audio = _b64decode(frame[begin:-2], validate=True)
        event = _read_audio(frame[:begin] + b'"}')
    except (binascii.Error, *_UNREADABLE):
        return None
    if type(event) is not ev.ResponseOutputAudioDelta or event.delta:  # then it is some other field's
        return None
    event.delta = audio
    return event


def decode_server(frame: bytes | str) -> _AnyServer:
    """Decode what a server sent. Never raises."""
    if len(frame) > _SHORTEST_AUDIO and type(frame) is bytes and (spoken := _audio_delta(frame)) is not None:
        return spoken
    try:
        event = _read_server(frame)  # type: ignore[arg-type]
    except Exception:  # noqa: BLE001 - the slow path sorts them
        event = _server.read(frame)
    if type(event) is _AudioDeltaFrame:
        try:
            audio = _base64(event.delta)
        except (binascii.Error, msgspec.MsgspecError, ValueError) as error:
            return ev.MalformedEvent(type="response.output_audio.delta", error=f"delta is not base64: {error}")
        return ev.ResponseOutputAudioDelta(
            event_id=event.event_id,
            response_id=event.response_id,
            item_id=event.item_id,
            output_index=event.output_index,
            content_index=event.content_index,
            delta=audio,
        )
    if type(event) in _TELLING and _wordless(event):
        event = _server.second_look(frame, "")
    return event  # type: ignore[no-any-return]


_TELLING = {ev.Error, ev.InputTranscriptionFailed, ev.ResponseDone}


def _wordless(event: Any) -> bool:
    """Whether a message reports an error without words; the server may have put them elsewhere."""
    if type(event) is ev.ResponseDone:
        details = event.response.status_details
        return details is not None and details.error is not None and not details.error.message
    return not event.error.message


def decode_translation(frame: bytes | str) -> _AnyServer:
    """Decode what the server of a translation session sent. Never raises."""
    return _translation.read(frame)  # type: ignore[no-any-return]


def decode_client(frame: bytes | str) -> _AnyClient:
    """Decode what a client sent. Never raises."""
    event = _client.read(frame)
    if type(event) is _AppendFrame:
        try:
            audio = _base64(event.audio)
        except (binascii.Error, msgspec.MsgspecError, ValueError) as error:
            says = f"audio is not base64: {error} - at `$.audio`"
            return ev.MalformedEvent(type="input_audio_buffer.append", error=says, event_id=event.event_id)
        return ev.InputAudioBufferAppend(event_id=event.event_id, audio=audio)
    return event  # type: ignore[no-any-return]


_APPEND_HEAD = b'{"type":"input_audio_buffer.append","audio":"'
_APPEND_TAIL = b'"}'


def encode(event: ev.Event) -> bytes:
    """Encode a message as one JSON object in UTF-8."""
    if type(event) is ev.InputAudioBufferAppend and event.event_id is None:
        return encode_append(event.audio)
    return _encode(event)


def encode_append(audio: bytes | bytearray | memoryview) -> bytes:
    """Encode microphone audio: the same bytes as `encode(InputAudioBufferAppend(audio=audio))`, at less cost."""
    return b"".join((_APPEND_HEAD, _b64encode(audio), _APPEND_TAIL))


def wire_type(event: _AnyServer) -> str:
    """Return a message's type as the wire names it; for the beta shape, today's name."""
    if isinstance(event, ev.UnknownEvent | ev.MalformedEvent):
        return event.type
    return str(type(event).__struct_config__.tag)


def unknown_fields(event: ev.Event, frame: bytes) -> dict[str, Any]:
    """Return the top-level fields of a frame that its message type does not have."""
    known = {"type", *event.__struct_fields__}
    return {key: value for key, value in _decode_any(frame).items() if key not in known}
