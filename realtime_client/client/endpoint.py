"""Where a conversation takes place."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec

from realtime_client.errors import UsageError
from realtime_client.secret import shown_url
from realtime_client.session.arguments import check_text


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A Realtime server, and what it takes to be let in.

    url: the whole ws:// or wss:// URL, query included; a user name and password in it become an `Authorization` header
    (RFC 7617), and leave the URL. headers: sent with the handshake; their values are never shown. proxy: True takes it
    from the environment, None uses none. name: what people are shown. trust: path of a file with CA certificates, None
    for the system's.
    Errors: UsageError for two `Authorization` headers, or for one beside a user name in the URL: a server takes only
    one.
    """

    url: str
    headers: dict[str, str] = {}
    proxy: str | bool | None = True
    name: str = ""
    trust: str | None = None

    def __post_init__(self) -> None:
        """Make sure that there is at most one `Authorization`."""
        check_text(self.url, "Endpoint: url")
        check_text(self.name, "Endpoint: name")
        keys = [name for name in self.headers if name.lower() == "authorization"]
        if len(keys) > 1:
            raise UsageError(f"headers: {' and '.join(keys)} are one header, and a server takes one; leave one out")
        bare, basic = without_user(self.url)
        if not basic:
            return
        if keys:
            raise UsageError(f"the URL of {self.label} holds a user name, and headers a key; leave one out")
        msgspec.structs.force_setattr(self, "url", bare)
        msgspec.structs.force_setattr(self, "headers", {**self.headers, "Authorization": basic})

    @property
    def label(self) -> str:
        """The name, or the URL without user name and query."""
        return self.name or shown_url(self.url).partition("?")[0]

    def __repr__(self) -> str:
        return f"Endpoint({self.label!r}, headers={sorted(self.headers)!r})"

    __str__ = __repr__

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """What `rich` shows; a struct's own would show everything."""
        return [("name", self.label), ("headers", sorted(self.headers))]


def without_user(url: str) -> tuple[str, str]:
    """Return a URL without user name and password, and the value of the header that says the same, '' if it holds none.

    What is percent-encoded in the URL is sent decoded.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return url, ""
    user, at, place = parts.netloc.rpartition("@")
    if not at:
        return url, ""
    name, _, password = user.partition(":")
    pair = f"{unquote(name)}:{unquote(password)}".encode()
    return parts._replace(netloc=place).geturl(), f"Basic {base64.b64encode(pair).decode()}"
