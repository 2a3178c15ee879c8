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

_V1 = re.compile(r"/openai(/v1)?(/deployments(/[^/]+)?)?(/chat/completions)?/?$")
_DEPLOYMENT = re.compile(r"/deployments(/[^/]+)?(/chat/completions)?/?$")
_SINCE = "2024-09"
"""The first version that knows `stream_options` and `max_completion_tokens`."""


class AzureOpenAI(OpenAIChat):
    """Chat completions below the address of an Azure resource. api_version: of a dated API, as 2024-10-21; else v1."""

    name = "azure"

    def __init__(self, api_version: str | None = None) -> None:
        self._api_version = api_version or ""

    def path(self, ask: Ask) -> str:
        """Where below the base URL answers are made."""
        if not self._api_version:
            return "/openai/v1/chat/completions"
        return f"/openai{self._deployment(ask.model)}"

    def _deployment(self, name: str) -> str:
        """The path of a deployment, whose name may hold anything."""
        version = f"?api-version={urllib.parse.quote(self._api_version, safe='')}" if self._api_version else ""
        return f"/deployments/{urllib.parse.quote(name, safe='')}/chat/completions{version}"

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


class ApiManagement(AzureOpenAI):
    """Chat completions of a deployment below an API of API Management: any base URL, which holds `/openai` or not.

    api_version: None where the gateway sets it itself.
    """

    name = "apim"

    def path(self, ask: Ask) -> str:
        """Where below the base URL answers are made."""
        return self._deployment(ask.model)

    def models_request(self) -> HttpRequest | None:
        """Nothing: gateways list no deployments."""
        return None


def resource(url: str) -> str:
    """Return the address of a resource in what people copy from a portal or from other programs' settings.

    `https://x.openai.azure.com/openai/v1/` -> `https://x.openai.azure.com`; a query is dropped.
    """
    return _V1.sub("", url.partition("?")[0]).rstrip("/")


def gateway(url: str) -> str:
    """Return the base URL of an API of API Management in what people copy: up to `/deployments`."""
    return _DEPLOYMENT.sub("", url.partition("?")[0]).rstrip("/")
