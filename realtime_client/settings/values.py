"""How the value of a setting is read, from text or from a native type.

Each function returns the value, or raises ValueError or TypeError with the end of a sentence: "the value X ...".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from realtime_client.errors import UsageError
from realtime_client.logs import levels
from realtime_client.secret import Secret

Parser = Callable[[Any], Any]


def text(raw: Any) -> str:
    """Read any text."""
    if not isinstance(raw, str):
        raise TypeError("must be text in quotes")
    return raw


def secret(raw: Any) -> Secret:
    """Read a key: what may stand in a header line."""
    value = raw.reveal() if isinstance(raw, Secret) else text(raw)
    if not value.isascii() or not value.isprintable() or " " in value:
        raise ValueError("holds a space, a line break or another character that no key has; copy the key again")
    return Secret(value)


_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.6.2
_OWN_HEADERS = ("host", "content-length", "transfer-encoding", "connection", "content-type", "upgrade")


def headers(raw: Any) -> Secret:
    """Read headers, NAME=VALUE each, one a line; the values are secrets."""
    value = raw.reveal() if isinstance(raw, Secret) else raw if isinstance(raw, str) else "\n".join(raw)
    lines = [line.strip() for line in value.splitlines() if line.strip()]
    for line in lines:
        name, equals, content = line.partition("=")
        if not equals or not _HEADER_NAME.fullmatch(name):
            raise ValueError("must be NAME=VALUE")
        if name.lower() in _OWN_HEADERS:
            raise ValueError(f"names {name}, which the connection sets itself")
        if not content.isascii() or not content.isprintable():
            raise ValueError(f"gives {name} a character that no header can hold")
    return Secret("\n".join(lines))


def header_lines(value: Secret | None) -> dict[str, str]:
    """Return headers as `headers` read them, by name."""
    lines = [] if value is None else value.reveal().splitlines()
    return {name: content for name, _, content in (line.partition("=") for line in lines)}


def header(raw: Any) -> str:
    """Read what may stand in a header line."""
    value = text(raw)
    if not value.isascii() or not value.isprintable() or " " in value:
        raise ValueError("holds a space, a line break or another character that does not belong there")
    return value


def word(raw: Any) -> str:
    """Read text on one line."""
    value = text(raw)
    if not value.isprintable() or value != value.strip():
        raise ValueError("holds a line break or another character that does not belong there")
    return value


def device(raw: Any) -> str:
    """Read the number of a device, or a part of its name."""
    return str(raw) if isinstance(raw, int) and not isinstance(raw, bool) else word(raw)


def path(raw: Any) -> Path:
    """Read the name of a file or folder; it becomes absolute, `~` is the home folder."""
    if isinstance(raw, Path):
        return absolute(raw)
    value = text(raw)
    if "\0" in value:
        raise ValueError("is not the name of a file")
    try:
        return absolute(Path(value).expanduser())
    except RuntimeError:
        raise ValueError("begins with ~, and that home folder is not known; give the whole path") from None


def absolute(path: Path) -> Path:
    """Return the path relative to the current folder as an absolute one. Errors: UsageError when that is gone."""
    try:
        return path.absolute()
    except FileNotFoundError:
        raise UsageError(
            f"the current folder was removed: change to another one, or give the whole path of {path}"
        ) from None


def encodable(raw: Any) -> None:
    """Refuse surrogates, into which Python turns bytes that are not UTF-8 in arguments and variables (PEP 383)."""
    try:
        for text in _texts(raw):
            text.encode()
    except UnicodeEncodeError:
        raise ValueError("is not text in UTF-8") from None


def _texts(raw: Any) -> Iterator[str]:
    """Yield all texts of a value."""
    if isinstance(raw, list | tuple):
        for each in raw:
            yield from _texts(each)
    elif isinstance(raw, Mapping):
        for pair in raw.items():
            yield from _texts(pair)
    else:
        yield raw.reveal() if isinstance(raw, Secret) else str(raw)


def flag(raw: Any) -> bool:
    """Read a yes or no."""
    if isinstance(raw, bool):
        return raw
    word = str(raw).strip().lower()
    if word in ("1", "true", "yes", "on"):
        return True
    if word in ("0", "false", "no", "off"):
        return False
    raise ValueError("must be true or false")


def number(least: float, most: float) -> Parser:
    """Return a parser of numbers from `least` to `most`."""

    def parse(raw: Any) -> float:
        if isinstance(raw, bool):
            raise TypeError("must be a number")
        try:
            value = float(raw)
        except (TypeError, ValueError):
            raise ValueError("must be a number") from None
        if not least <= value <= most:  # also refuses nan
            raise ValueError(f"must be from {least:g} to {most:g}")
        return value

    return parse


def count(least: int, most: int) -> Parser:
    """Return a parser of whole numbers from `least` to `most`."""

    def parse(raw: Any) -> int:
        try:
            value = raw if isinstance(raw, int) and not isinstance(raw, bool) else int(str(raw))
        except ValueError:
            raise ValueError("must be a whole number") from None
        if not least <= value <= most:
            raise ValueError(f"must be from {least} to {most}")
        return value

    return parse


def tokens(raw: Any) -> int | str:
    """Read a number of tokens, or `inf`."""
    if raw == "inf":
        return "inf"
    try:
        return cast("int", count(1, 1_000_000)(raw))
    except ValueError as error:
        raise ValueError(f"{error}, or inf") from None


def log_levels(raw: Any) -> str:
    """Read levels of logging, by room if need be."""
    value = text(raw)
    levels(value)
    return value


def choice(*words: str) -> Parser:
    """Return a parser of one of `words`."""

    def parse(raw: Any) -> str:
        if raw not in words:
            raise ValueError(f"must be one of {', '.join(words)}")
        return str(raw)

    return parse
