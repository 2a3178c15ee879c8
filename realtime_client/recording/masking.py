"""Keeps keys out of what is written.

Two rules: a value that is known to be secret is replaced wherever it stands in text, and what stands under
`authorization` or `headers` (remote tools carry keys there) is replaced by its place. Values found by the second rule
are secret from then on. A frame that holds nothing secret passes through byte for byte.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec

MASK = "***"
_SECRET_PLACES = {"authorization", "headers", "api_key", "api-key", "token", "password", "secret"}
_SHORTEST_LEARNED = 8
_decode = msgspec.json.decode
_encode = msgspec.json.encode


class Masker:
    """Masks JSON frames, JSON values and plain text."""

    def __init__(self, secrets: Sequence[str] = ()) -> None:
        self._secrets: list[str] = []
        self._needles: list[bytes] = [b"authorization", b"headers"]
        for secret in secrets:
            self._learn(secret)

    def text(self, text: str) -> str:
        """Return the text with every secret replaced."""
        for secret in self._secrets:
            if secret in text:
                text = text.replace(secret, MASK)
        return text

    def frame(self, frame: bytes) -> bytes:
        """Return a frame of valid JSON without secrets; the same bytes when there are none."""
        for needle in self._needles:
            if needle in frame:
                break
        else:
            # JSON has two ways to write a letter otherwise: a frame with one is looked at letter by letter.
            if b"\\u" not in frame and b"\\/" not in frame:
                return frame
        return self._look(frame)

    def value(self, value: Any) -> Any:
        """Return a JSON value without secrets; also what stands under names like `api_key` or `token`."""
        return self._walk(value, _SECRET_PLACES)

    def _look(self, frame: bytes) -> bytes:
        try:
            data = _decode(frame)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            text = frame.decode("utf-8", "replace")
            masked_text = self.text(text)
            return frame if masked_text == text else _encode(masked_text)
        masked = self._walk(data, {"authorization", "headers"})
        masked = self._walk(masked, set())  # once more: the first pass may have learned a secret
        return frame if masked == data else _encode(masked)

    def _walk(self, value: Any, places: set[str]) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.text(str(key)): self._entry(str(key), entry, places) for key, entry in value.items()}
        if isinstance(value, list | tuple):
            return [self._walk(entry, places) for entry in value]
        return value

    def _entry(self, key: str, value: Any, places: set[str]) -> Any:
        if key.lower() not in places:
            return self._walk(value, places)
        if isinstance(value, str) and value:
            self._learn_from_server(value)
            return MASK
        if isinstance(value, dict):
            for entry in value.values():
                self._learn_from_server(entry)
            return dict.fromkeys((self.text(str(name)) for name in value), MASK)
        return self._walk(value, places)

    def _learn_from_server(self, value: Any) -> None:
        if not isinstance(value, str):
            return
        for secret in (value, value.removeprefix("Bearer ")):
            if len(secret) >= _SHORTEST_LEARNED and len(self._secrets) < 256:
                self._learn(secret)

    def _learn(self, secret: str) -> None:
        if not secret or secret == MASK or secret in self._secrets:
            return
        self._secrets.append(secret)
        self._secrets.sort(key=len, reverse=True)  # a secret inside of a longer one must not spoil it
        self._needles.append(secret.encode("utf-8", "surrogatepass"))
        self._needles.append(json.dumps(secret, ensure_ascii=False)[1:-1].encode("utf-8", "surrogatepass"))
        self._needles = list(dict.fromkeys(self._needles))
