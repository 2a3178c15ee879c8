"""Surrogate pairs that were cut in two: one message ends with the first half, the next begins with the second."""

from __future__ import annotations


class Halves:
    """Puts the pairs of one text together. half: the first half of a pair, '' when nothing is held."""

    __slots__ = ("half",)

    def __init__(self) -> None:
        self.half = ""

    def feed(self, text: str) -> str:
        """Take text; return what of it is whole. A half that nothing follows becomes a replacement character."""
        text, self.half = self.half + text, ""
        if text and "\ud800" <= text[-1] <= "\udbff":
            text, self.half = text[:-1], text[-1]
        return mended(text)

    def end(self) -> str:
        """Nothing more comes; return what is left."""
        left, self.half = mended(self.half), ""
        return left


def mended(text: str) -> str:
    """Return a text with its surrogate pairs as characters and single halves replaced: it can be encoded."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text
