"""Building HTML in which nothing foreign can act. Pure.

Everything a report shows comes from a model, a server or a script, and is hostile until proven otherwise. So there is
one way to make HTML here, `tag`, and it escapes every plain string; only what `tag` itself made (a `Markup`) goes
through as it is. Attributes get names from this package and escaped values; data for scripts goes through `data_block`.
"""

from __future__ import annotations

import html
import re
from typing import Any

import msgspec

from realtime_client.escape import printable

LONGEST_TEXT = 20_000
NOTHING = "\N{EN DASH}"  # shown where there is no figure
# What a reader cannot see and a browser obeys: C0 but tab and line feed, DEL, C1, soft hyphen, bidirectional controls,
# zero-width signs, line separators (Unicode TR9, TR36), halves of surrogate pairs, noncharacters at the end of the BMP.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff\ufffe\uffff]"
)
_VOID = {"meta", "br", "input", "hr"}
# Inside <script> only `<` can end the element, and only `<!--` changes how it is read (HTML 13.1.2.6).
# The line separators become line ends, as everywhere.
_IN_SCRIPT = [("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026")]
_IN_SCRIPT += [(sign, "\\n") for sign in "\x85\u2028\u2029"]


class Markup(str):
    """HTML made here. A subclass, so that a plain string can never be taken for it."""

    __slots__ = ()


def tag(name: str, *children: Markup | str | float | None, **attributes: str | float | bool | None) -> Markup:
    """Return an element. Plain strings are escaped, None is left out.

    attributes: `class_` is class, other underscores become hyphens; True is an attribute without a value, False and
    None leave it out.
    """
    parts = ["<", name]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        label = key.rstrip("_").replace("_", "-")
        parts.append(f" {label}" if value is True else f' {label}="{html.escape(_clean(str(value)))}"')
    parts.append(">")
    if name not in _VOID:
        parts += [escaped(child) for child in children if child is not None]
        parts += ["</", name, ">"]
    return Markup("".join(parts))


def escaped(child: Markup | str | float) -> Markup:
    """Return text as HTML that shows it; Markup stays as it is."""
    return child if isinstance(child, Markup) else Markup(html.escape(_clean(str(child)), quote=False))


def together(*children: Markup | str | float | None) -> Markup:
    """Return several pieces as one."""
    return Markup("".join(escaped(child) for child in children if child is not None))


def speech(text: Any, limit: int = LONGEST_TEXT) -> str:
    """Return what somebody said, without invisible characters, cut to a length that a page can take."""
    said = printable(text if isinstance(text, str) else "" if text is None else str(text))
    return said if len(said) <= limit else f"{said[:limit]} … ({len(said) - limit:,} more characters)"


def code(text: str, limit: int = LONGEST_TEXT) -> str:
    r"""Return data for people who look for what is wrong in it: invisible characters are written as \uXXXX."""
    cut = text if len(text) <= limit else f"{text[:limit]} … ({len(text) - limit:,} more characters)"
    return _UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", cut)


def json_code(value: Any, limit: int = LONGEST_TEXT) -> str:
    """Return a JSON value, indented, as `code`."""
    return code(msgspec.json.format(msgspec.json.encode(value), indent=2).decode("utf-8", "replace"), limit)


def data_block(name: str, value: Any) -> Markup:
    """Return JSON in a block that is never run; the page's script reads it by its id.

    Its strings are shown through `textContent` only, and are cleaned here like all others.
    """
    data = msgspec.json.encode(value).decode()
    for sign, written in _IN_SCRIPT:
        data = data.replace(sign, written)
    return Markup(f'<script type="application/json" id="{html.escape(name)}">{_clean(data)}</script>\n')


def _clean(text: str) -> str:
    """Remove what must never be in a page, whoever wrote it."""
    return printable(text)
