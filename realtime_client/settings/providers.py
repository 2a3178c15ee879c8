"""From settings to text models: which model at which provider, its URL and headers. Pure.

One rule decides what a session is. A model whose name begins with a provider's prefix, such as `ollama/llama3.2`, is a
text model over HTTP: `url` and the variables are then that provider's. Everything else is a realtime model, as is
`realtime/NAME`, which says so for a name that holds a slash.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import re
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit, urlunsplit

from realtime_client.chat.place import Place
from realtime_client.chat.wires.ask import Wire
from realtime_client.errors import UsageError
from realtime_client.loopback import is_loopback
from realtime_client.secret import Secret, basic_credentials
from realtime_client.settings import FLAG, Settings

from .target import OPENAI_URL, proxy_of, target
from .values import header_lines

GEMINI_URL = "https://generativelanguage.googleapis.com"
ANTHROPIC_URL = "https://api.anthropic.com"
_OLLAMA_PORT = 11434


class Provider(NamedTuple):
    """One kind of provider.

    wire: module and class under `chat/wires`. base: gives its URL. headers: gives its key. about: for people. keys: the
    settings that may hold its key, the first that does counts; `token` given as a flag stands for the first of them.
    tidy: makes what the wire's paths are added to of what people copy as its URL.
    """

    wire: str
    base: Callable[[Settings], str]
    headers: Callable[[Settings], dict[str, str]]
    about: str
    keys: tuple[str, ...] = ()
    tidy: Callable[[str], str] = str


def provider_of(model: str) -> str | None:
    """Return the prefix of a text model's name; None for a realtime model."""
    prefix, slash, name = model.partition("/")
    return prefix if slash and name and prefix in PROVIDERS else None


def is_text(settings: Settings) -> bool:
    """Whether the settings ask for a text model."""
    return provider_of(settings.model) is not None


def chain(settings: Settings) -> list[Place]:
    """Return the text models of a session: the model, if it is one, then those that stand in.

    Errors: UsageError for a name without a provider, a missing key or URL, all before anything is asked.
    """
    _check_model(settings)
    own = place(settings, settings.model) if is_text(settings) else None
    places = {settings.model: own} if own else {}
    home = own.host if own else _realtime_host(settings)
    for name in (settings.fallback or "").split(",") if settings.fallback_on_error else ():
        if name.strip() and name.strip() not in places:
            places[name.strip()] = _standing_in(settings, name.strip(), home)
    return list(places.values())


def brains(settings: Settings) -> list[Place]:
    """Return the text models that a local server answers with; none where its own demo brain does.

    `url`, `token` and `header` are of the local server: addresses and keys come from the other settings. Errors:
    UsageError as for `chain`.
    """
    names = dict.fromkeys(filter(None, map(str.strip, (settings.brain or "").split(","))))
    return [_standing_in(settings, name, "", source="brain") for name in names]


def _check_model(settings: Settings) -> None:
    """Refuse what is nearly the name of a text model: a realtime server would be asked for it otherwise."""
    prefix, slash, name = settings.model.partition("/")
    if not slash or provider_of(settings.model) or prefix == "realtime":
        return
    if prefix in PROVIDERS:
        raise UsageError(f"{settings.source('model')}: {prefix}/ names no model: `realtime models {prefix}` lists them")
    if near := difflib.get_close_matches(prefix, PROVIDERS, n=1, cutoff=0.8):
        raise UsageError(
            f"{settings.source('model')}: there is no provider {prefix!r}; did you mean {near[0]}/{name}? "
            f"(a realtime model of that name is realtime/{settings.model})"
        )


def _standing_in(settings: Settings, name: str, home: str, *, source: str = "fallback") -> Place:
    """Return where a model is that stands in. home: the session's own server, for which its secrets are meant."""
    settings = dataclasses.replace(settings, url=None, token=None)
    try:
        found = place(settings, name)
        if found.host != home and settings.header:
            found = place(dataclasses.replace(settings, header=None), name)
    except UsageError as error:
        raise UsageError(f"{settings.source(source)}: {name}: {error}") from None
    return found


def _realtime_host(settings: Settings) -> str:
    """The host of a realtime session, as `Place.host` has it; '' for the built-in server."""
    urls = {"url": settings.url, "base_url": settings.base_url, "openai": OPENAI_URL, "azure": settings.azure_endpoint}
    return urlsplit(urls.get(target(settings)) or "").netloc.rpartition("@")[2]


def key_setting(settings: Settings, name: str) -> str | None:
    """Return the name of the setting that gives the key of a text model; None where none does, or AWS's own means do.

    name: of the model, with its provider.
    """
    if name == settings.model and settings.rank("token") == FLAG and settings.token:
        return "token"
    prefix = provider_of(name)
    return next((key for key in PROVIDERS[prefix].keys if settings.value(key)), None) if prefix else None


def place(settings: Settings, name: str) -> Place:
    """Return where a model is. The settings' `url`, `token` and `header` are meant for it. Errors: UsageError."""
    prefix = provider_of(name)
    if prefix is None:
        raise UsageError(f"not a text model: their names begin with one of {'/, '.join(PROVIDERS)}/")
    provider, model = PROVIDERS[prefix], name.partition("/")[2]
    if not model.strip("/ "):
        raise UsageError(f"{name} names a provider and no model; `realtime models {prefix}` lists what it offers")
    source = settings.source("url") if settings.url else f"{prefix}'s URL"
    base, who = _without_user(provider.tidy(_checked(settings.url or provider.base(settings), source)))
    own = settings.token if settings.rank("token") == FLAG or settings.url else None
    if own and provider.keys:
        shown: dict[str, Any] = {provider.keys[0]: own}
        settings = dataclasses.replace(settings, **shown)
    headers = _bearer(own) if own and not provider.keys else provider.headers(settings)
    parts = urlsplit(base)
    loopback = is_loopback(parts.hostname or "")
    return Place(
        provider=prefix,
        model=model,
        base_url=base,
        wire=wire_of(prefix, settings),
        headers=_joined(headers, who, header_lines(settings.header)),
        sign=_signer(settings) if prefix == "bedrock" and not own else None,
        proxy=None if loopback else proxy_of(settings),
        trust=str(settings.ca_file) if settings.ca_file else None,
        context=settings.context if prefix == "ollama" else None,
        label=parts.netloc,
    )


def wire_of(prefix: str, settings: Settings) -> Wire:
    """Return the wire of a provider."""
    module, _, name = PROVIDERS[prefix].wire.partition(":")
    made = getattr(importlib.import_module(f"realtime_client.chat.wires.{module}"), name)
    if prefix == "azure":
        return made(settings.azure_api_version)  # type: ignore[no-any-return]
    if prefix == "apim":
        return made(settings.apim_api_version)  # type: ignore[no-any-return]
    return made()  # type: ignore[no-any-return]


def _checked(url: str, source: str) -> str:
    try:
        parts = urlsplit(url)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fits = False
    if not fits or set(url) & set(' \\"<>^`{|}'):
        raise UsageError(
            f"{source}: not a URL of a text model's server; it should look like https://HOST or https://HOST/v1"
        )
    return urlunsplit(parts._replace(path=parts.path.rstrip("/"), fragment=""))


def _without_user(url: str) -> tuple[str, dict[str, str]]:
    """Take the user name and the password out of a URL: they are sent as a header, and shown nowhere."""
    parts = urlsplit(url)
    basic = basic_credentials(url)
    if not basic:
        return url, {}
    where = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=where)), {"Authorization": f"Basic {basic}"}


def _joined(*headers: dict[str, str]) -> dict[str, str]:
    """Join headers; a later one replaces those of its name, in whatever case they are written."""
    joined: dict[str, tuple[str, str]] = {}
    for each in headers:
        joined |= {name.lower(): (name, value) for name, value in each.items()}
    return dict(joined.values())


def _bearer(key: Secret | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {key.reveal()}"} if key else {}


def _needed(key: Secret | None, variable: str, settings: Settings, *, named: bool = False) -> Secret | None:
    """A key that a public service wants; a server of one's own may do without."""
    if key is None and not named and settings.url is None and settings.header is None:
        raise UsageError(f"there is no key: set {variable}")
    return key


def _openai_base(settings: Settings) -> str:
    return settings.base_url or OPENAI_URL


def _openai_headers(settings: Settings) -> dict[str, str]:
    own = settings.base_url is not None
    headers = _bearer(_needed(settings.api_key, "OPENAI_API_KEY", settings, named=own))
    if settings.organization:
        headers["OpenAI-Organization"] = settings.organization
    if settings.project:
        headers["OpenAI-Project"] = settings.project
    return headers


def ollama_url(host: str | None) -> str:
    """Return Ollama's URL as its own clients understand OLLAMA_HOST.

    `HOST`, `HOST:PORT`, `:PORT`, `HOST/PATH`, with or without a scheme, which changes the port that is meant where none
    is given. The addresses that a server binds to when it is to be reached from everywhere mean this machine.
    """
    text = (host or "").strip()
    scheme, found, rest = text.partition("://")
    if not found:
        scheme, rest = "http", text
    port = {"http": 80, "https": 443}.get(scheme, _OLLAMA_PORT) if found else _OLLAMA_PORT
    where, slash, path = rest.partition("/")
    who, at, where = where.rpartition("@")
    if where.startswith("["):
        name, _, digits = where[1:].partition("]")
        name, digits = f"[{name}]", digits.removeprefix(":")
    elif where.count(":") > 1:
        name, digits = f"[{where}]", ""
    else:
        name, _, digits = where.partition(":")
    if name == "ollama.com" and not found:
        scheme, port = "https", 443
    name = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(name, name)  # noqa: S104
    if digits:
        if not (digits.isascii() and digits.isdigit() and 0 < int(digits[:6]) < 65_536):
            raise UsageError(f"OLLAMA_HOST: {digits[:20]!r} is not a port")
        port = int(digits)
    return f"{scheme}://{who}{at}{name}:{port}{slash}{path}".rstrip("/")


def _azure_base(settings: Settings) -> str:
    if not settings.azure_endpoint:
        raise UsageError("azure needs AZURE_OPENAI_ENDPOINT, such as https://NAME.openai.azure.com")
    return settings.azure_endpoint


def _azure_headers(settings: Settings) -> dict[str, str]:
    if settings.azure_ad_token:
        return _bearer(settings.azure_ad_token)
    key = _needed(settings.azure_api_key, "AZURE_OPENAI_API_KEY or AZURE_OPENAI_AD_TOKEN", settings)
    return {"api-key": key.reveal()} if key else {}


def _apim_base(settings: Settings) -> str:
    if not settings.apim_endpoint:
        raise UsageError("apim needs APIM_ENDPOINT, such as https://NAME.azure-api.net/openai")
    return settings.apim_endpoint


def _apim_headers(settings: Settings) -> dict[str, str]:
    key = _needed(settings.apim_key, "APIM_SUBSCRIPTION_KEY", settings)
    return {settings.apim_key_header: key.reveal()} if key else {}


def _gemini_headers(settings: Settings) -> dict[str, str]:
    own = settings.gemini_base_url is not None
    key = settings.google_api_key or settings.gemini_api_key
    key = _needed(key, "GOOGLE_API_KEY or GEMINI_API_KEY", settings, named=own)
    return {"x-goog-api-key": key.reveal()} if key else {}


def _anthropic_headers(settings: Settings) -> dict[str, str]:
    own = settings.anthropic_base_url is not None
    key = _needed(settings.anthropic_api_key, "ANTHROPIC_API_KEY", settings, named=own)
    return {"x-api-key": key.reveal()} if key else {}


def _bedrock_base(settings: Settings) -> str:
    from realtime_client.chat.aws import region

    return f"https://bedrock-runtime.{quote(region(settings.aws_region))}.amazonaws.com"


def _signer(settings: Settings) -> object:
    from realtime_client.chat.aws import region, signer

    return signer(region(settings.aws_region))


_VERSION = re.compile(r"/v\d+\w*$")


def _gemini_tidy(url: str) -> str:
    """Google's own clients take the URL without the version of the API, and add it."""
    return url if _VERSION.search(url) else f"{url}/v1beta"


def _azure_tidy(url: str) -> str:
    from realtime_client.chat.wires.azure import resource

    return resource(url)


def _apim_tidy(url: str) -> str:
    from realtime_client.chat.wires.azure import gateway

    return gateway(url)


PROVIDERS: dict[str, Provider] = {
    "ollama": Provider(
        wire="ollama:Ollama",
        base=lambda s: ollama_url(s.ollama_host),
        headers=lambda s: _bearer(s.ollama_api_key),
        about="Ollama, on this machine or where OLLAMA_HOST says",
        keys=("ollama_api_key",),
        tidy=lambda url: url.removesuffix("/v1").removesuffix("/api"),
    ),
    "openai": Provider(
        wire="openai_chat:OpenAIChat",
        base=_openai_base,
        headers=_openai_headers,
        about="OpenAI, or another server of chat completions (OPENAI_BASE_URL)",
        keys=("api_key",),
    ),
    "openai-responses": Provider(
        wire="openai_responses:OpenAIResponses",
        base=_openai_base,
        headers=_openai_headers,
        about="OpenAI, or another server of the Responses API (OPENAI_BASE_URL)",
        keys=("api_key",),
    ),
    "azure": Provider(
        wire="azure:AzureOpenAI",
        base=_azure_base,
        headers=_azure_headers,
        about="a resource of Azure OpenAI",
        keys=("azure_ad_token", "azure_api_key"),
        tidy=_azure_tidy,
    ),
    "apim": Provider(
        wire="azure:ApiManagement",
        base=_apim_base,
        headers=_apim_headers,
        about="a gateway of Azure API Management",
        keys=("apim_key",),
        tidy=_apim_tidy,
    ),
    "gemini": Provider(
        wire="gemini:Gemini",
        base=lambda s: s.gemini_base_url or GEMINI_URL,
        headers=_gemini_headers,
        about="Gemini",
        keys=("google_api_key", "gemini_api_key"),
        tidy=_gemini_tidy,
    ),
    "anthropic": Provider(
        wire="anthropic:Anthropic",
        base=lambda s: s.anthropic_base_url or ANTHROPIC_URL,
        headers=_anthropic_headers,
        about="Anthropic",
        keys=("anthropic_api_key",),
        tidy=lambda url: url.removesuffix("/v1"),
    ),
    "bedrock": Provider(
        wire="bedrock:Bedrock",
        base=_bedrock_base,
        headers=lambda _s: {},
        about="Amazon Bedrock in one region",
    ),
}

__all__ = ["PROVIDERS", "brains", "chain", "is_text", "key_setting", "ollama_url", "place", "provider_of", "wire_of"]
