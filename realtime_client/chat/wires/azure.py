"""Azure OpenAI, and API Management in front of it: chat completions on other paths.

Two generations: v1 (`/openai/v1/chat/completions`, the deployment is the model), and dated ones, which have the
deployment in the path and want an `api-version`. What is odd about their streams (chunks of the content filter without
choices or delta), every reader of chat completions takes.
"""

from __future__ import annotations

import re
import urllib.parse
from typing import Any

import msgspec

from .ask import Ask, HttpRequest
from .openai_chat import OpenAIChat

_COPIED = re.compile(r"/openai(/v1)?(/deployments(/[^/]+)?)?(/chat/completions)?/?$")
_SINCE = "2024-09"
"""The first version that knows `stream_options` and `max_completion_tokens`."""


class AzureChat(OpenAIChat):
    """Chat completions below the address of an Azure resource, or below an API of API Management.

    name: `azure` or `apim`. api_version: of a dated API, as 2024-10-21; '' for v1.
    """

    def __init__(self, name: str = "azure", api_version: str = "") -> None:
        self.name = name
        self._api_version = api_version

    def path(self, ask: Ask) -> str:
        """Where below the base URL answers are made. A deployment's name may hold anything."""
        if not self._api_version:
            return "/openai/v1/chat/completions"
        deployment = urllib.parse.quote(ask.model, safe="")
        return f"/openai/deployments/{deployment}/chat/completions{self._query}"

    @property
    def _query(self) -> str:
        return f"?api-version={urllib.parse.quote(self._api_version, safe='')}"

    def _body(self, ask: Ask) -> dict[str, Any]:
        if self._api_version and self._api_version < _SINCE:
            without = ask.without | {"stream_options", "max_completion_tokens"}
            ask = msgspec.structs.replace(ask, without=without)
        return super()._body(ask)

    def models_request(self) -> HttpRequest | None:
        """Ask which models the resource offers, which are not its deployments; the dated API does not list those."""
        if self._api_version:
            return None
        return HttpRequest(method="GET", path="/openai/v1/models", headers={"Accept": "application/json"})


def resource(url: str) -> str:
    """Return the base URL in what people copy from a portal or from the settings of another program.

    `https://x.openai.azure.com/openai/v1/` -> `https://x.openai.azure.com`; a query is dropped.
    """
    plain = url.partition("?")[0]
    return _COPIED.sub("", plain).rstrip("/")
