"""Where a conversation takes place."""

from __future__ import annotations

import msgspec


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A Realtime server and how to be let in.

    url: the whole ws:// or wss:// URL, query included. headers: sent with the handshake; their values are never
    shown. proxy: True takes it from the environment, None uses none. name: what people are shown. trust: path of a
    file with CA certificates, None for the system's.
    """

    url: str
    headers: dict[str, str] = {}
    proxy: str | bool | None = True
    name: str = ""
    trust: str | None = None

    @property
    def label(self) -> str:
        """The name, or the URL without its query."""
        return self.name or self.url.partition("?")[0]

    def __repr__(self) -> str:
        return f"Endpoint({self.label!r}, headers={sorted(self.headers)!r})"

    __str__ = __repr__
