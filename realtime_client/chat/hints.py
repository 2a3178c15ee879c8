"""What people can do about a fault, by provider. Pure."""

from __future__ import annotations

import re

from .wires.faults import Fault

KEYS = {
    "openai": "OPENAI_API_KEY",
    "openai-responses": "OPENAI_API_KEY",
    "apim": "APIM_SUBSCRIPTION_KEY; APIM_KEY_HEADER names the header, if the gateway wants another",
    "azure": "AZURE_OPENAI_API_KEY, or AZURE_OPENAI_AD_TOKEN",
    "gemini": "GOOGLE_API_KEY or GEMINI_API_KEY",
    "anthropic": "ANTHROPIC_API_KEY",
    "bedrock": "AWS_BEARER_TOKEN_BEDROCK, or AWS_PROFILE and the like",
    "ollama": "OLLAMA_API_KEY",
}
"""Where the keys of the providers are read from."""

_QUOTA = re.compile(r"quota|billing|balance|credit|funds|PerDay", re.IGNORECASE)
_KEY = re.compile(r"api[ _-]?key|unauthorized|unauthenticated|subscription key", re.IGNORECASE)
_FILTERED = re.compile(r"content_?filter|content_?policy|responsible_?ai", re.IGNORECASE)
_PAGE = re.compile(r"no answer, but: <(!doctype|html)", re.IGNORECASE)
_NO_TOOLS = re.compile(r"does not support tools|tools? (is|are) not supported", re.IGNORECASE)
_NO_IMAGES = re.compile(
    r"(image|vision)\w*.{0,40}not support|not support.{0,40}(image|vision)|missing data required for image input",
    re.IGNORECASE,
)


def hint(fault: Fault, provider: str, model: str) -> str:
    """Return one line that says what to do, '' if nothing more can be said.

    provider: the prefix in a model's name. model: as the provider names it.
    """
    if fault.hint:
        return fault.hint
    if fault.category == "network":
        return _of_the_way(fault, provider)
    if fault.category == "protocol" and _PAGE.search(fault.message):
        return "that is a page, and no model: is the base URL right?"
    if fault.category != "application":
        return ""
    said = f"{fault.code} {fault.message}"
    for rule, told in (
        (_FILTERED.search(said), "the provider's content filter refused it: say it in other words"),
        (fault.too_long, "the conversation is longer than the model can read: begin a new one, or change the model"),
        (_NO_TOOLS.search(said), f"{model} takes no tools: choose another model, or leave them out"),
        (_NO_IMAGES.search(said), f"{model} takes no images: choose another model, or leave them out"),
        (_QUOTA.search(said), "see the plan and the billing of the account at the provider"),
    ):
        if rule:
            return told
    return _of_the_status(fault, provider, model)


def _of_the_way(fault: Fault, provider: str) -> str:
    if provider == "ollama" and "reach" in fault.message:
        return "is Ollama running? `ollama serve` starts it; OLLAMA_HOST says where it is"
    return ""


def _of_the_status(fault: Fault, provider: str, model: str) -> str:
    status = fault.status
    if status == 401 or (status in (400, 403) and _KEY.search(fault.message)):
        return _of_the_key(provider)
    if status == 403:
        return f"the key may not use {model}: choose another model, or ask for access at the provider"
    if status == 404:
        return _of_what_is_missing(provider, model, said=fault.message)
    if status == 429 and fault.retry_after_s and fault.action != "retry":  # else the pause is told with it
        return f"the provider wants to be left alone for {fault.retry_after_s:.0f} s"
    if status == 503 and provider == "ollama":
        return "its queue is full (OLLAMA_MAX_QUEUE)"
    return ""


def _of_the_key(provider: str) -> str:
    if provider == "ollama":
        return "`ollama signin` signs in for models of its cloud; for another server set OLLAMA_API_KEY"
    variable = KEYS.get(provider)
    return f"set {variable}" if variable else ""


def _of_what_is_missing(provider: str, model: str, *, said: str) -> str:
    if provider == "ollama":
        return f"`ollama pull {model}` gets it"
    if provider in ("azure", "apim"):
        return f"is {model} the name of a deployment there, and the version of the API right?"
    lists = f"`realtime models {provider}` lists what there is"
    return lists if "model" in said.lower() else f"is the URL right? {lists}"
