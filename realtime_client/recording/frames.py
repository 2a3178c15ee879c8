"""Frames as they came, made to fit in a line of JSON. Pure.

What a session accepts as a message need not be JSON for every reader: fields that nobody reads may hold bytes that are
not UTF-8, numbers too large for any program, or lists nested without end. A line of the journal is readable for all.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

DEEPEST = 128  # readers of JSON give up at 128 levels (Rust), 64 (.NET), 256 (jq 1.6), 1,000 (Python)
_NOT_UTF8 = re.compile("[\udc80-\udcff]")
# Escapes from left to right: a pair, a half (group 1), any other, so that `\\u` is a backslash and a `u`.
_ESCAPES = re.compile(r"\\u[dD][89abAB]\w\w\\u[dD][c-fC-F]\w\w|(\\u[dD][89a-fA-F]\w\w)|\\.", re.DOTALL)
_decode = msgspec.json.decode
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class UnfitError(ValueError):
    """A frame that cannot be written as JSON; says why."""


def fit(frame: bytes) -> tuple[bytes, str]:
    r"""Return a frame on one line, and what had to be written otherwise ('' for nothing).

    Bytes that are not UTF-8 are written as `\xNN`, halves of surrogate pairs as U+FFFD.
    Errors: UnfitError.
    """
    changed = ""
    try:
        data = _decode(frame)
    except _UNREADABLE as error:
        frame, changed = _mended(frame)
        if not changed:
            raise UnfitError(_why(error)) from None
        try:
            data = _decode(frame)
        except _UNREADABLE as second:
            raise UnfitError(_why(second)) from None
    if len(frame) > 2 * DEEPEST and frame.count(b"[") + frame.count(b"{") > DEEPEST and _deeper(data):
        raise UnfitError(f"nested more than {DEEPEST} deep")
    if b"\n" in frame or b"\r" in frame:  # they can only stand between tokens
        frame = frame.replace(b"\r", b" ").replace(b"\n", b" ")
    return frame, changed


def as_text(frame: bytes) -> str:
    r"""Return any bytes as text without losing one: what is not UTF-8 is `\xNN`."""
    return frame.decode("utf-8", "backslashreplace")


def _mended(frame: bytes) -> tuple[bytes, str]:
    changed = []
    text = frame.decode("utf-8", "surrogateescape")
    if not frame.isascii():
        text, count = _NOT_UTF8.subn(lambda found: rf"\\x{ord(found[0]) - 0xDC00:02x}", text)
        if count:
            changed.append("bytes that are not UTF-8")
    whole = _ESCAPES.sub(lambda found: r"\ufffd" if found[1] else found[0], text)
    if whole != text:
        changed.append("halves of surrogate pairs")
    return whole.encode(), " and ".join(changed)


def _deeper(data: Any) -> bool:
    """Tell whether it is nested deeper than readers can take."""
    level = [data]
    for _ in range(DEEPEST):
        level = [
            inner
            for node in level
            for inner in (node.values() if isinstance(node, dict) else node)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return True


def _why(error: Exception) -> str:
    return f"nested more than {DEEPEST} deep" if isinstance(error, RecursionError) else str(error)
