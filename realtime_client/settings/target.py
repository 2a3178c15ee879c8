"""From settings to a server: which one, its URL and headers, and what the session there is to be. Pure.

Conventions: OPENAI_BASE_URL names an API root to which `/realtime` is added, http becoming ws; Azure's general shape is
`wss://RESOURCE/openai/v1/realtime?model=DEPLOYMENT` with an `api-key` header or an Entra bearer token.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Literal
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit, urlunsplit

from realtime_client.changes import ToolSpec
from realtime_client.client.endpoint import Endpoint
from realtime_client.errors import UsageError
from realtime_client.loopback import is_loopback
from realtime_client.protocol.facts import function_tool
from realtime_client.protocol.session import (
    Audio,
    AudioInput,
    AudioOutput,
    RealtimeConfig,
    SemanticVad,
    ServerVad,
    Transcription,
    TurnDetection,
    wire_format,
)
from realtime_client.secret import Secret
from realtime_client.settings import FLAG, Settings
from realtime_client.settings.remote_settings import remote_tools
from realtime_client.settings.values import header_lines
from realtime_client.updates import AudioFormat

OPENAI_URL = "https://api.openai.com/v1"
Target = Literal["url", "local", "base_url", "openai", "azure"]

_SCHEMES = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}
_PROXY_SCHEMES = ("http", "https", "socks5", "socks5h", "socks4", "socks4a")
# The settings that may hold the key for a kind of server, its own one first. As a flag, `token` is for all.
_KEYS: dict[Target, tuple[str, ...]] = {
    "local": ("token",),
    "url": ("token", "api_key"),
    "base_url": ("token", "api_key"),
    "openai": ("api_key",),
    "azure": ("azure_api_key", "azure_ad_token"),
}
_AUDIO_FORMATS = {
    "pcm16": AudioFormat("pcm16", 24_000),
    "g711_ulaw": AudioFormat("ulaw", 8_000),
    "g711_alaw": AudioFormat("alaw", 8_000),
}


def realtime_model(settings: Settings) -> str:
    """Return the model's name as a Realtime server knows it: `realtime/NAME` is for names that hold a slash."""
    return settings.model.removeprefix("realtime/")


def target(settings: Settings) -> Target:
    """Return which kind of server the settings ask for.

    The strongest source among url, local and base_url decides; without any of them an OpenAI key, then Azure, then
    the built-in local server. Errors: UsageError when one source asks for two servers.
    """
    asked: list[tuple[int, Target]] = []
    if settings.url is not None:
        asked.append((settings.rank("url"), "url"))
    if settings.local:
        asked.append((settings.rank("local"), "local"))
    if asked and len(asked) == 2 and asked[0][0] == asked[1][0]:
        raise UsageError(f"{settings.source('url')} and {settings.source('local')} name two servers; leave one out")
    if settings.base_url is not None:
        asked.append((settings.rank("base_url"), "base_url"))
    if asked:
        return min(asked, key=lambda one: one[0])[1]
    if settings.api_key:
        return "openai"
    return "azure" if settings.azure_endpoint else "local"


def endpoint(settings: Settings, *, local_url: str = "", local_token: str = "") -> Endpoint:
    """Return where to connect and with which headers.

    local_url, local_token: the built-in server's, needed when `target` says local.
    Errors: UsageError names the setting that cannot be a server's address.
    """
    kind = target(settings)
    if kind == "local":
        url = f"{local_url}?{urlencode({'model': realtime_model(settings)})}" if local_url else ""
        return Endpoint(url=url, headers=_bearer(local_token), proxy=None, name="the built-in local server")
    parts = _URLS[kind](settings)
    host = parts.hostname or ""
    key = key_setting(settings)
    if key != kind:  # else the user name in the URL is the key
        parts = parts._replace(netloc=parts.netloc.rpartition("@")[2])
    return Endpoint(
        url=urlunsplit(parts),
        headers=_headers(settings, kind, key),
        proxy=proxy_of(settings),
        name=host if parts.scheme == "wss" or is_loopback(host) else f"{host} (not encrypted)",
        trust=str(settings.ca_file) if settings.ca_file else None,
    )


def key_setting(settings: Settings) -> str | None:
    """Return the name of the setting that gives the key the server is shown; None if none does.

    A flag beats the rest; otherwise the setting made for this kind of server comes first. `url` and `base_url` give one
    if they contain a user name: between that and a key the stronger source decides.
    Errors: UsageError when one source gives both.
    """
    kind = target(settings)
    key = _key_setting(settings, kind)
    if kind not in ("url", "base_url") or not _has_user(settings.value(kind)):
        return key
    if key is not None and settings.rank(kind) == settings.rank(key):
        raise UsageError(
            f"{settings.source(kind)} holds a user name, and {settings.source(key)} a key: the server takes one of "
            "them; leave one out"
        )
    return kind if key is None or settings.rank(kind) < settings.rank(key) else key


def _key_setting(settings: Settings, kind: Target) -> str | None:
    names = _KEYS[kind]
    if settings.rank("token") == FLAG and "token" not in names:
        names = ("token", *names)
    given = [name for name in names if settings.value(name)]
    if kind == "azure":  # the one of the two from the stronger source
        given.sort(key=settings.rank)
    return next((name for name in given if settings.rank(name) == FLAG), given[0] if given else None)


def _has_user(url: str) -> bool:
    try:
        return "@" in urlsplit(url).netloc
    except ValueError:  # no URL; that is reported where it is needed
        return False


def _full_url(settings: Settings) -> SplitResult:
    url = _split(settings.url or "", settings.source("url"))
    if url.path in ("", "/"):
        url = url._replace(path="/v1/realtime")
    query = parse_qsl(url.query, keep_blank_values=True)
    names = {name for name, _ in query}
    if settings.rank("model") == FLAG and "model" in names:
        query = [(name, realtime_model(settings) if name == "model" else value) for name, value in query]
    elif not names & {"model", "call_id", "intent", "deployment"}:
        query.append(("model", realtime_model(settings)))
    return url._replace(query=urlencode(query))


def _from_root(root: str, source: str, model: str, path: str = "") -> SplitResult:
    url = _split(root, source)
    query = [*parse_qsl(url.query, keep_blank_values=True), ("model", model)]
    return url._replace(path=url.path.rstrip("/") + path + "/realtime", query=urlencode(query))


def _azure_url(settings: Settings) -> SplitResult:
    root = settings.azure_endpoint or ""
    if _has_user(root):
        raise UsageError(f"{settings.source('azure_endpoint')}: Azure takes no user name; leave it out of the URL")
    path = "" if root.rstrip("/").endswith("/openai/v1") else "/openai/v1"
    return _from_root(root, settings.source("azure_endpoint"), realtime_model(settings), path)


_URLS = {
    "url": _full_url,
    "base_url": lambda s: _from_root(s.base_url or "", s.source("base_url"), realtime_model(s)),
    "openai": lambda s: _from_root(OPENAI_URL, "", realtime_model(s)),
    "azure": _azure_url,
}


def _split(text: str, source: str) -> SplitResult:
    """Take a URL apart. The message shows no more than its start: a URL may hold a password."""
    try:
        url = urlsplit(text)
        fits = url.scheme in _SCHEMES and bool(url.hostname) and not set(text) & set(' \\"<>^`{|}') and url.port != 0
    except ValueError:  # a port that is not a number, half an IPv6 address
        fits = False
    if not fits:
        raise UsageError(f"{source}: not a URL of a server; it should look like wss://HOST/v1/realtime")
    return url._replace(scheme=_SCHEMES[url.scheme], fragment="")


def _headers(settings: Settings, kind: Target, key: str | None) -> dict[str, str]:
    """Return the headers. key: the setting that gives the key. Errors: UsageError for Azure without one."""
    if kind == "azure" and key is None:
        raise UsageError(
            "AZURE_OPENAI_ENDPOINT is set without a key: set AZURE_OPENAI_API_KEY or AZURE_OPENAI_AD_TOKEN too"
        )
    secret = settings.value(key) if key else None
    value = secret.reveal() if isinstance(secret, Secret) else ""
    headers = {"api-key": value} if key == "azure_api_key" else _bearer(value)
    headers |= header_lines(settings.header)
    if kind == "azure":
        return headers
    if settings.organization:
        headers["OpenAI-Organization"] = settings.organization
    if settings.project:
        headers["OpenAI-Project"] = settings.project
    return headers


def _bearer(value: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {value}"} if value else {}


def proxy_of(settings: Settings) -> str | bool | None:
    """Return the proxy: True for the environment's, None for none. Errors: UsageError."""
    if settings.proxy is None:
        return True
    if settings.proxy.lower() == "none":
        return None
    try:
        url = urlsplit(settings.proxy)
        fits = url.scheme in _PROXY_SCHEMES and bool(url.hostname) and url.port != 0 and "@" not in url.path
    except ValueError:  # a port that is not a number, as when a password contains a slash
        fits = False
    if not fits:
        raise UsageError(
            f"{settings.source('proxy')}: a proxy looks like http://HOST:PORT, or none for no proxy (in a user name or "
            "password write / as %2F and @ as %40)"
        )
    return settings.proxy


def input_format(settings: Settings) -> AudioFormat:
    """Return the audio format that the settings ask for towards the server."""
    return _AUDIO_FORMATS[settings.input_format]


def voices() -> tuple[str, ...]:
    """Return the voices that are known by name; a server may have others."""
    from realtime_client.protocol.server.checks import VOICES

    return VOICES


def session_config(settings: Settings, tools: Sequence[ToolSpec] = ()) -> RealtimeConfig:
    """Return the session.update that the settings ask for; what they leave open stays the server's choice.

    tools: what the model may call, beside those that its server calls by itself. Errors: UsageError for a variable that
    such a server needs and that is not set.
    """
    session = RealtimeConfig(
        output_modalities=[settings.modality],
        audio=Audio(
            input=AudioInput(
                format=wire_format(input_format(settings)),
                transcription=None if settings.transcription == "none" else Transcription(model=settings.transcription),
                turn_detection=_turn_detection(settings.turn_detection),
            ),
            output=AudioOutput(format=wire_format(_AUDIO_FORMATS[settings.output_format])),
        ),
    )
    assert isinstance(session.audio, Audio) and isinstance(session.audio.output, AudioOutput)  # noqa: PT018
    if settings.voice is not None:
        session.audio.output.voice = settings.voice
    if settings.speed is not None:
        session.audio.output.speed = settings.speed
    if settings.instructions is not None:
        session.instructions = settings.instructions
    if settings.max_output_tokens is not None:
        session.max_output_tokens = settings.max_output_tokens
    remote = remote_tools(settings.server_mcp, os.environ)
    if tools or remote:
        session.tools = [*map(function_tool, tools), *remote]
    return session


def _turn_detection(word: str) -> TurnDetection | None:
    if word in ("none", "ptt"):  # the server waits for the client's commit
        return None
    return SemanticVad() if word == "semantic_vad" else ServerVad()
