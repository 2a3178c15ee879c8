"""Where a text model is, and what it takes to be let in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from .wires.ask import HttpRequest, Wire

Signer = Callable[[str, str, Mapping[str, str], bytes], dict[str, str]]
"""(method, URL, headers, body) -> headers to add; called for each request."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A model at a provider.

    provider: the prefix of the model's name. model: as the provider names it. base_url: what the wire's paths are
    added to; its query goes with each request. headers: sent with each request; their values are never shown. sign: for
    providers that want each request signed. proxy: True takes it from the environment, None uses none. trust: path of a
    file with CA certificates, None for the system's. context: tokens of context that a local server is asked to set
    aside, None where it has no say.
    """

    provider: str
    model: str
    base_url: str
    wire: Any  # Wire; msgspec cannot check a protocol
    headers: dict[str, str] = {}
    sign: Any = None
    proxy: str | bool | None = True
    trust: str | None = None
    context: int | None = None
    label: str = ""

    @property
    def name(self) -> str:
        """The model as people write it: `ollama/llama3.2`."""
        return f"{self.provider}/{self.model}"

    @property
    def host(self) -> str:
        """The server as people are shown it."""
        return self.label or self.base_url.partition("://")[2].partition("/")[0].rpartition("@")[2]

    def url(self, request: HttpRequest) -> str:
        """Return the whole URL of a request."""
        base, mark, query = self.base_url.partition("?")
        path, more, own = request.path.partition("?")
        return base.rstrip("/") + path + (mark or more) + "&".join(filter(None, (query, own)))

    def __repr__(self) -> str:
        return f"Place({self.name!r} at {self.host!r}, headers={sorted(self.headers)!r})"

    __str__ = __repr__

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """What `rich` shows; a struct's own would show everything."""
        return [("name", self.name), ("host", self.host), ("headers", sorted(self.headers))]


__all__ = ["Place", "Signer", "Wire"]
