"""What is asked of a model, and what a wire makes of it: both without I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from realtime_client.changes import ToolSpec
from realtime_client.history import Entry

if TYPE_CHECKING:
    from .reader import Reader

Media = Callable[[str], str | bytes | None]
"""Gives the image behind a reference of the history, as a data URI or an address; None for one no longer kept."""

GONE = "[an image that is no longer kept]"
"""What a model is told in the place of such an image."""


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """A question: the conversation so far, and how it is to be answered.

    model: as the provider names it. entries: the conversation, oldest first (`history.replay` chose them): each call
    of a tool has its result. tool_choice: `auto`, `none`, `required`, or a tool's name. stream: the answer is to come
    in pieces. prefill: a beginning of the answer, which the model goes on from; only for a wire that `prefills`.
    context: how many tokens of context a local server is to set aside. think: whether the model is to think aloud,
    None leaves it to the server. options: further fields of the request, as the provider spells them. without: names of
    optional fields that this server has refused. media: what the images of the entries refer to.
    """

    model: str
    entries: tuple[Entry, ...]
    instructions: str = ""
    tools: tuple[ToolSpec, ...] = ()
    tool_choice: str = "auto"
    max_tokens: int | None = None
    temperature: float | None = None
    stream: bool = True
    prefill: str = ""
    context: int | None = None
    think: bool | str | None = None
    options: dict[str, Any] = {}
    without: frozenset[str] = frozenset()
    media: Media = lambda _reference: None


class HttpRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request without its host and key. path: below the provider's base URL, with its query."""

    method: str = "POST"
    path: str
    headers: Mapping[str, str] = {}
    body: bytes = b""


class ModelInfo(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A model that a provider offers. context: in tokens, None if it does not say. abilities: in its own words."""

    name: str
    about: str = ""
    context: int | None = None
    abilities: tuple[str, ...] = ()


class Wire(Protocol):
    """How one kind of server is spoken to.

    name: its prefix in a model's name. prefills: it goes on from a beginning of an answer that it is given. images: the
    wire can carry images, whether or not a model takes them.
    """

    name: str
    prefills: bool
    images: bool

    def request(self, ask: Ask) -> HttpRequest:
        """Return the request for an answer."""

    def reader(self, stream: str) -> Reader:
        """Return what reads the answer. stream: the id that its pieces get."""

    def models_request(self) -> HttpRequest | None:
        """Return the request for the list of models; None where there is none."""

    def models(self, body: bytes) -> list[ModelInfo]:
        """Read the list of models. Errors: ValueError when it is none."""


def json_request(path: str, body: Any, *, stream: bool, accept: str = "text/event-stream") -> HttpRequest:
    """Return a POST of JSON. A stream is asked for uncompressed: compression makes proxies hold it back."""
    headers = {"Content-Type": "application/json", "Accept": accept if stream else "application/json"}
    if stream:
        headers["Accept-Encoding"] = "identity"
    return HttpRequest(path=path, headers=headers, body=msgspec.json.encode(body))
