"""Answers that are made of numbered blocks, one after the other: what the wires of Anthropic and Bedrock share."""

from __future__ import annotations

import re
from abc import abstractmethod
from typing import Any

import msgspec

from .reader import Reader, wanted_back


def refuses_prefill(message: str) -> bool:
    """Whether an error says that the model does not go on from a beginning of its answer; the words are Anthropic's."""
    return bool(re.search(r"prefill|(end with|to be) a user message", message, re.IGNORECASE))


class Thought(msgspec.Struct):
    """A block of thought while it is made. secret: one that only the provider can read."""

    text: list[str] = []
    signature: str = ""
    secret: str = ""


class BlockReader(Reader):
    """Reads text, thoughts and calls by blocks. A thought is kept for its provider if it is signed, or secret."""

    provider: str

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._thought: Thought | None = None

    @abstractmethod
    def _kept(self, thought: Thought) -> Any:
        """Return a thought as the provider wants it back."""

    def _say(self, text: str) -> None:
        if self._thought is not None:
            self._close_block()
        self._text(text)

    def _think(self, text: str = "", *, signature: str = "", secret: str = "") -> None:
        if self._thought is None:
            self._close_text()
            self._thought = Thought()
        self._thought.text.append(text)
        self._thought.signature += signature
        self._thought.secret += secret
        self._thinking(text)

    def _close_block(self) -> None:
        """The block that is being made is complete, if there is one."""
        thought, self._thought = self._thought, None
        if thought is not None and (thought.signature or thought.secret):
            self._opaque(wanted_back(self.provider, self._kept(thought)), "".join(thought.text))
        else:
            self._close_text()

    def _finish(self) -> None:
        self._close_block()
        super()._finish()
