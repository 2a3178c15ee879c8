"""One page as one file: the skeleton, its style and scripts, and the policy that lets nothing else run.

The policy (Content Security Policy Level 3) names the one style sheet and the one script by their hashes and forbids
everything else: no other script runs, no attribute acts, nothing is fetched, whatever is in the page.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from importlib import resources
from pathlib import Path
from string import Template

from realtime_client.errors import UsageError
from realtime_client.escape import one_line

from .markup import Markup, escaped, tag

_POLICY = "default-src 'none'; script-src '{script}'; style-src '{style}'; base-uri 'none'; form-action 'none'"


def asset(name: str) -> str:
    """Return a file of this package, with plain line ends (hashes are of what a browser reads)."""
    return resources.files(__package__).joinpath(name).read_text("utf-8").replace("\r\n", "\n")


def page(
    title: str,
    body: Markup,
    *,
    scripts: Sequence[str],
    data: Iterable[Markup],
    late: Iterable[Markup] = (),
    stamp: str = "",
) -> Iterator[str]:
    """Yield a page piece by piece.

    scripts: names of files in this package, run in this order as one. data: blocks that these read at once. late:
    blocks after the scripts, for what is only needed later and may be large. stamp: goes into the head, for `stamped`.
    """
    style = asset("page.css")
    script = '"use strict";\n' + "\n".join(asset(name) for name in scripts)
    policy = _POLICY.format(script=_hash(script), style=_hash(style))
    head, _, end = asset("page.html").partition("$clips")
    yield Template(head).substitute(
        policy=policy,
        stamp=stamp,
        title=escaped(one_line(title, 200)),
        style=style,
        body=body,
        data="".join(data),
        script=script,
    )
    yield from late
    yield end


def _hash(content: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


def write_page(path: Path, pieces: Iterable[str]) -> int:
    """Write a file of mode 0600 in one step; returns its size in bytes. Errors: UsageError."""
    part = path.with_name(path.name + ".part")
    try:
        part.unlink(missing_ok=True)
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            for piece in pieces:
                file.write(piece.encode("utf-8", "replace"))
            size = file.tell()
        part.replace(path)
    except OSError as error:
        raise UsageError(f"cannot write the report {path}: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)
    return size


def stamped(path: Path, stamp: str) -> bool:
    """Return whether a page was made with this stamp."""
    try:
        with path.open("rb") as file:
            return f'<meta name="made" content="{stamp}">'.encode() in file.read(4_096)
    except OSError:
        return False


def section(name: str, title: str, *children: Markup | str | None) -> Markup:
    """Return a section of a page with its heading."""
    return tag("section", tag("h2", title, id=f"{name}-title"), *children, id=name, aria_labelledby=f"{name}-title")


def facts(pairs: Iterable[tuple[str, Markup | str]]) -> Markup:
    """Return the row of figures under the title."""
    cells = [tag("div", tag("dt", name), tag("dd", value)) for name, value in pairs]
    return tag("dl", *cells, class_="facts")


def table(head: Sequence[str], rows: Iterable[Sequence[Markup | str]], *, caption: str, class_: str = "") -> Markup:
    """Return a table whose first column names the rows and whose others are figures."""
    top = tag("tr", *(tag("th", name, scope="col") for name in head))
    lines = [
        tag("tr", *(tag("th", cell, scope="row") if i == 0 else tag("td", cell) for i, cell in enumerate(row)))
        for row in rows
    ]
    whole = tag(
        "table",
        tag("caption", caption, class_="unseen"),
        tag("thead", top),
        tag("tbody", *lines),
        class_=class_ or None,
    )
    return tag("div", whole, class_="wide")


def notices(sentences: Sequence[str]) -> Markup | None:
    """Return a box with what the reader must know first; None when there is nothing."""
    if not sentences:
        return None
    return tag("div", *(tag("p", sentence) for sentence in sentences), class_="notices", role="note")


def masthead(kind: Markup | str, title: str, under: str, links: Sequence[tuple[str, str]]) -> Markup:
    """Return the top of a page: what it is, where its parts are, and the switch between light and dark."""
    toggle = tag(
        "button", "Dark", id="theme", class_="quiet", type="button", aria_pressed="false", title="light or dark"
    )
    parts = tag("nav", *(tag("a", name, href=f"#{target}") for target, name in links), aria_label="Parts of this page")
    words = tag("div", tag("p", kind, class_="kind"), tag("h1", title), tag("p", under, class_="under"))
    skip = tag("a", "To the content", href="#main", class_="skip")
    return tag("header", skip, tag("div", words, toggle, class_="top"), parts, class_="masthead")
