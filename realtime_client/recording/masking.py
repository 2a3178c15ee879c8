"""Keeps keys out of what is written.

Two rules: a value that is known to be secret is replaced wherever it occurs in text (short ones only where a secret can
stand; see `secret`), and everything under `authorization` or `headers` (remote tools carry keys there) is replaced
because of its place. Values found by the second rule are secret from then on. Structure is never masked: names of
fields, types, ids and everything with a fixed set of values stay as they are, unless they contain a key, which no such
thing does by chance. A frame that holds nothing secret passes through byte for byte; of one that does, only the strings
that hold it change.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

import msgspec

from realtime_client.secret import LONG, MASK, Secrets

_HIDDEN_IN_FRAMES = {"authorization", "headers"}
_HIDDEN = _HIDDEN_IN_FRAMES | {"api_key", "api-key", "token", "password", "secret"}
_SECRET_PLACE = re.compile(
    rb"(?i)key|token|secret|passw|authoriz|credential|cookie|bearer|basic|://|[?&;#][^=&#\s\"]*="
)
_STRUCTURE = {
    "type", "id", "object", "role", "status", "kind", "who", "dir", "direction", "cause", "state", "file", "now",
    "after", "audio", "more_audio", "folder", "encoding", "started", "ended", "item_type",
    "modalities", "turn_end", "event_type",
}  # fmt: skip
_TOKENS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[{}\[\],:]|[^\s{}\[\],:"]+', re.DOTALL)
_DEEPEST = 100
_LONGEST_NUMBER_BITS = 4_096
_LONE = re.compile("[\ud800-\udfff]")
_decode = msgspec.json.decode
_encode = msgspec.json.encode


class Masker:
    """Masks JSON frames, JSON values and plain text."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets = Secrets(secrets)
        self._needles = self._secrets.needles()

    def text(self, text: str) -> str:
        """Return the text with every secret replaced."""
        return self._secrets.text(text)

    def frame(self, frame: bytes) -> bytes:
        """Return a frame without secrets; the same bytes when there are none. It need not be valid JSON."""
        for needle in self._needles:
            if needle in frame:
                break
        else:
            # JSON has two ways to escape a letter: a frame that uses one is examined letter by letter.
            plain = b"\\" not in frame or (b"\\u" not in frame and b"\\/" not in frame)
            low = frame.lower()
            hides = b"authorization" in low or b"headers" in low
            if plain and not hides and not (self._secrets.short and _SECRET_PLACE.search(frame)):
                return frame
        walk = _Walk(self._secrets, self._learn)
        masked = walk.run(frame)
        # Once more: it may have learned a secret that also occurs further up.
        return _Walk(self._secrets, self._learn).run(masked) if walk.learned else masked

    def value(self, value: Any) -> Any:
        """Return a JSON value without secrets, or anything under names like `api_key` or `token`.

        It can always be encoded: halves of surrogate pairs, numbers of a thousand digits and what is nested more than
        100 deep are replaced.
        """
        return self._walk(value, "", 0)

    def _walk(self, value: Any, name: str, depth: int) -> Any:
        if isinstance(value, str):
            return _encodable(self._string(value, name))
        if isinstance(value, int) and value.bit_length() > _LONGEST_NUMBER_BITS:
            return None
        if isinstance(value, dict | list | tuple) and depth >= _DEEPEST:
            return "(nested too deeply)"
        if isinstance(value, dict):
            return {
                _encodable(self._secrets.structure(str(key))): self._entry(str(key), entry, depth + 1)
                for key, entry in value.items()
            }
        if isinstance(value, list | tuple):
            return [self._walk(entry, name, depth + 1) for entry in value]
        return value

    def _entry(self, key: str, value: Any, depth: int) -> Any:
        if key.lower() in _HIDDEN:
            if isinstance(value, str) and value:
                self._learn(value)
                return MASK
            if isinstance(value, dict):
                for entry in value.values():
                    self._learn(entry)
                return dict.fromkeys((_encodable(str(name)) for name in value), MASK)
        return self._walk(value, key, depth)

    def _string(self, text: str, name: str) -> str:
        return self._secrets.structure(text) if is_structure(name) else self._secrets.under(name, text)

    def _learn(self, value: Any) -> bool:
        """Learn what a peer calls a secret; returns whether any of it was new."""
        if not isinstance(value, str):
            return False
        bare = value.removeprefix("Bearer ")
        learned = [self._secrets.learn(secret) for secret in (value, bare) if len(secret) >= LONG]
        if any(learned):
            self._needles = self._secrets.needles()
        return any(learned)


def is_structure(name: str) -> bool:
    """Tell whether a field of this name holds an id or one of a fixed set of values."""
    return name in _STRUCTURE or name.endswith(("_id", "_ids"))


class _Walk:
    """One pass over the tokens of a frame. It keeps every byte that is not masked, and copes with any depth."""

    def __init__(self, secrets: Secrets, learn: Any) -> None:
        self.learned = False
        self._secrets = secrets
        self._learn = learn
        self._names: list[str] = []  # the name that each open list or object has
        self._objects: list[bool] = []
        self._hidden = 0  # how many of the innermost are within `headers`
        self._name = ""
        self._key_next = False

    def run(self, frame: bytes) -> bytes:
        """Return the frame, masked; the same object when nothing was."""
        out: list[bytes] = []
        end = 0
        for found in _TOKENS.finditer(frame):
            token = found[0]
            masked = self._sign(token) if token in b"{}[],:" else self._take(token)
            if masked != token:
                out += (frame[end : found.start()], masked)
                end = found.end()
        return b"".join([*out, frame[end:]]) if out else frame

    def _sign(self, sign: bytes) -> bytes:
        if sign in b"{[":
            self._names.append(self._name)
            self._objects.append(sign == b"{")
            self._hidden += bool(self._hidden) or self._name.lower() in _HIDDEN_IN_FRAMES
            self._key_next = sign == b"{"
        elif sign in b"}]" and self._names:
            self._name = self._names.pop()
            self._objects.pop()
            self._hidden -= bool(self._hidden)
            self._key_next = False
        elif sign == b"," and self._names:
            self._key_next = self._objects[-1]
            self._name = "" if self._key_next else self._names[-1]
        return sign

    def _take(self, token: bytes) -> bytes:
        is_text = token.startswith(b'"')
        if is_text and self._key_next:
            self._key_next = False
            self._name = _string(token)
            return _written(token, self._name, self._secrets.structure(self._name))
        if self._hidden or self._name.lower() in _HIDDEN_IN_FRAMES:
            return self._hide(token)
        if not is_text:
            return token
        text = _string(token)
        known, name = self._secrets, self._name
        return _written(token, text, known.structure(text) if is_structure(name) else known.under(name, text))

    def _hide(self, token: bytes) -> bytes:
        if token in {b'""', b"null"}:
            return token
        if token.startswith(b'"'):
            self.learned |= self._learn(_string(token))
        return b'"%b"' % MASK.encode()


def _string(token: bytes) -> str:
    """What a string token says, as far as it can be read."""
    try:
        return str(_decode(token, type=str))
    except (msgspec.MsgspecError, UnicodeDecodeError):
        pass
    text = token.decode("utf-8", "replace")
    try:
        return str(json.loads(text, strict=False))
    except ValueError:
        return text.strip('"')


def _written(token: bytes, text: str, masked: str) -> bytes:
    return token if masked == text else _encode(_encodable(masked))


def _encodable(text: str) -> str:
    return text if text.isascii() else _LONE.sub("\N{REPLACEMENT CHARACTER}", text)
