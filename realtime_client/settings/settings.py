"""The settings: one field each, with its default, how it is read, its flag, its variable and a line of help.

`SPECS` lists all of them, the limits of sessions included; `layers.py` finds out what is in force. Pure.
"""

# ruff: noqa: RUF009  (each `_setting` is one dataclasses.field)

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_args

from realtime_client.chat.limits import ChatLimits, WhenFull
from realtime_client.secret import Secret, basic_credentials, shown_url, url_secrets
from realtime_client.session.limits import Limits, Recovery, ToolLimits
from realtime_client.settings import remote_settings, tool_settings
from realtime_client.settings import values as read

MODALITIES = ("audio", "text")
TURN_DETECTIONS = ("server_vad", "semantic_vad", "ptt", "none")
ECHO_MODES = ("auto", "headphones", "aec", "half-duplex")
FORMATS = ("pcm16", "g711_ulaw", "g711_alaw")

_T = TypeVar("_T")

# Sources in order of precedence: the smaller the rank, the stronger.
FLAG, ENVIRONMENT, DOTENV, CONFIG, DEFAULT = range(5)


_SERVERS = (tool_settings.servers, remote_settings.remote_servers)
_LISTS = (tool_settings.files, *_SERVERS, tool_settings.names, tool_settings.rules)


class Spec(NamedTuple):
    """One setting: its name, how it is read, the flag and environment variable that set it, and one line of help.

    negative: the flag switches the setting off. choices: the words it takes, () for free text.
    """

    name: str
    parse: read.Parser
    env: str
    flag: str
    help: str
    choices: tuple[str, ...] = ()
    negative: bool = False

    @property
    def is_switch(self) -> bool:
        """True for a flag without a value."""
        return self.parse is read.flag

    @property
    def is_secret(self) -> bool:
        """True for a value that must not be shown."""
        return self.parse in (read.secret, read.headers, *_SERVERS)

    @property
    def repeats(self) -> bool:
        """True for a flag that may be given several times."""
        return self.parse in _LISTS or self.parse is read.headers

    @property
    def is_path(self) -> bool:
        """True for the name of a file or folder."""
        return self.parse is read.path


def _setting(
    default: _T,
    parse: read.Parser,
    text: str,
    *,
    env: str = "",
    flag: str = "",
    choices: tuple[str, ...] = (),
    negative: bool = False,
) -> _T:
    """Declare a setting. env, flag: '' for REALTIME_<NAME> and --<name>; '-' for none."""
    parse = read.choice(*choices) if choices else parse
    spec = {"parse": parse, "env": env, "flag": flag, "help": text, "choices": choices, "negative": negative}
    return dataclasses.field(default=default, metadata=spec)


URLS = (
    "url", "base_url", "azure_endpoint", "proxy", "ollama_host", "apim_endpoint", "gemini_base_url",
    "anthropic_base_url",
)  # fmt: skip
"""The settings that are URLs: user names, passwords and keys may stand in them."""
_KEYS_OF_OTHERS = ("AWS_BEARER_TOKEN_BEDROCK", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")  # which botocore reads


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class Settings:
    """All settings of a session. Frozen; secrets, even in URLs, are masked when shown; paths are absolute.

    sources: for each setting that is not at its default, its rank and a phrase that says where it came from. warnings:
    what people should know about the sources, such as a mistyped variable.
    """

    url: str | None = _setting(
        None, read.word, "URL of the server: wss://... for a realtime model, https://... for a text model"
    )
    local: bool = _setting(False, read.flag, "use the built-in local server", flag="--local")
    base_url: str | None = _setting(
        None, read.word, "base URL of an API, such as http://127.0.0.1:8000/v1", env="OPENAI_BASE_URL", flag="-"
    )
    api_key: Secret | None = _setting(None, read.secret, "OpenAI key", env="OPENAI_API_KEY", flag="-")
    token: Secret | None = _setting(
        None, read.secret, "key of the server: of --url, of a text model's provider, or of `realtime serve`"
    )
    organization: str | None = _setting(None, read.header, "OpenAI organization", env="OPENAI_ORG_ID", flag="-")
    project: str | None = _setting(None, read.header, "OpenAI project", env="OPENAI_PROJECT_ID", flag="-")
    azure_endpoint: str | None = _setting(
        None, read.word, "Azure OpenAI resource, https://NAME.openai.azure.com", env="AZURE_OPENAI_ENDPOINT", flag="-"
    )
    azure_api_key: Secret | None = _setting(None, read.secret, "Azure OpenAI key", env="AZURE_OPENAI_API_KEY", flag="-")
    azure_ad_token: Secret | None = _setting(
        None, read.secret, "Azure Entra ID token", env="AZURE_OPENAI_AD_TOKEN", flag="-"
    )
    header: Secret | None = _setting(
        None, read.headers, "another header of each request to the model's server; may be repeated"
    )
    azure_api_version: str | None = _setting(
        None, read.header, "version of Azure's API, for its older paths", env="OPENAI_API_VERSION", flag="-"
    )
    ollama_host: str | None = _setting(None, read.word, "where Ollama is", env="OLLAMA_HOST", flag="-")
    ollama_api_key: Secret | None = _setting(None, read.secret, "key of ollama.com", env="OLLAMA_API_KEY", flag="-")
    apim_endpoint: str | None = _setting(
        None, read.word, "URL of an API in Azure API Management", env="APIM_ENDPOINT", flag="-"
    )
    apim_api_version: str | None = _setting(
        None, read.header, "version of the API behind API Management", env="APIM_API_VERSION", flag="-"
    )
    apim_key: Secret | None = _setting(
        None, read.secret, "subscription key of API Management", env="APIM_SUBSCRIPTION_KEY", flag="-"
    )
    apim_key_header: str = _setting(
        "Ocp-Apim-Subscription-Key", read.header, "header that carries this key", env="APIM_KEY_HEADER", flag="-"
    )
    google_api_key: Secret | None = _setting(None, read.secret, "Gemini key", env="GOOGLE_API_KEY", flag="-")
    gemini_api_key: Secret | None = _setting(None, read.secret, "Gemini key", env="GEMINI_API_KEY", flag="-")
    gemini_base_url: str | None = _setting(
        None, read.word, "base URL of Gemini", env="GOOGLE_GEMINI_BASE_URL", flag="-"
    )
    anthropic_api_key: Secret | None = _setting(None, read.secret, "Anthropic key", env="ANTHROPIC_API_KEY", flag="-")
    anthropic_base_url: str | None = _setting(
        None, read.word, "base URL of Anthropic", env="ANTHROPIC_BASE_URL", flag="-"
    )
    aws_region: str | None = _setting(None, read.header, "AWS region of Bedrock", env="AWS_REGION", flag="-")
    model: str = _setting("gpt-realtime-2.1", read.word, "model, Azure deployment, or PROVIDER/MODEL for a text model")
    brain: str | None = _setting(
        None,
        read.word,
        "text model that answers for the built-in local server, and those that stand in: PROVIDER/MODEL[,...]",
    )
    fallback: str | None = _setting(
        None,
        read.word,
        "text models that go on when the model fails, in this order: PROVIDER/MODEL[,PROVIDER/MODEL...]",
    )
    fallback_on_error: bool = _setting(
        True,
        read.flag,
        "report a failure; do not go on with the models of --fallback",
        flag="--no-fallback-on-error",
        negative=True,
    )
    streaming: bool = _setting(
        True, read.flag, "ask for each answer as a whole, not as it is made", flag="--no-streaming", negative=True
    )
    temperature: float | None = _setting(
        None, read.number(0.0, 2.0), "how freely words are chosen, 0 to 2; default: the provider's"
    )
    think: str | None = _setting(
        None,
        read.word,
        "whether the model thinks first: true, false, or how much, such as low; default: the model's own",
    )
    filter: Path | None = _setting(
        None, read.path, "Python file whose filter(text) changes what is shown and kept of an answer"
    )
    context: int = _setting(
        8192, read.count(1, 2**31), "tokens of context that Ollama sets aside for the conversation and the answer"
    )
    proxy: str | None = _setting(None, read.word, "proxy URL, or none; default: as HTTPS_PROXY and NO_PROXY say")
    ca_file: Path | None = _setting(None, read.path, "PEM file of certificates to trust", env="SSL_CERT_FILE")
    voice: str | None = _setting(None, read.word, "voice of the answers", flag="--voice-name")
    instructions: str | None = _setting(None, read.text, "what the model is told about its role")
    modality: str = _setting("audio", read.text, "answers as audio with transcript, or text only", choices=MODALITIES)
    turn_detection: str = _setting(
        "server_vad", read.text, "who ends a spoken turn; ptt: a key", choices=TURN_DETECTIONS
    )
    input_format: str = _setting("pcm16", read.text, "audio format to the server", choices=FORMATS)
    output_format: str = _setting("pcm16", read.text, "audio format from the server", choices=FORMATS)
    transcription: str = _setting("gpt-transcribe", read.word, "model that transcribes the user's audio, or none")
    speed: float | None = _setting(None, read.number(0.25, 1.5), "speed of speech, 0.25 to 1.5")
    max_output_tokens: int | str | None = _setting(None, read.tokens, "longest answer in tokens, or inf")
    mic: str | None = _setting(None, read.device, "microphone: its number or a part of its name")
    speaker: str | None = _setting(None, read.device, "speaker: its number or a part of its name")
    echo: str = _setting("auto", read.text, "what to do about echo", choices=ECHO_MODES)
    volume: float = _setting(1.0, read.number(0.0, 1.0), "volume of the answers, 0 to 1")
    record: bool = _setting(True, read.flag, "do not record the session", flag="--no-record", negative=True)
    record_dir: Path | None = _setting(None, read.path, "folder of the recordings")
    flac: bool = _setting(False, read.flag, "keep each turn's audio as FLAC, not WAV")
    log_level: str = _setting(
        "warning", read.log_levels, "least level to log: debug, info, warning, error; ROOM=LEVEL[,...] for one room"
    )
    log_file: Path | None = _setting(None, read.path, "log to this file, not to stderr")
    log_json: bool = _setting(False, read.flag, "log as JSON lines")
    metrics_port: int = _setting(0, read.count(0, 65_535), "serve Prometheus metrics on this loopback port, 0 for none")
    screen_interval_s: float = _setting(
        0.1,
        read.number(0.0, 2.0),
        "least time between two drawings of a growing answer",
        env="REALTIME_SCREEN_INTERVAL_S",
        flag="--screen-interval",
    )
    otel: bool = _setting(False, read.flag, "export OpenTelemetry spans, as the OTEL_* variables say")
    tool_files: tuple[Path, ...] = _setting(
        (),
        tool_settings.files,
        "Python file with functions that the model may call; may be repeated",
        env="REALTIME_TOOLS",
        flag="--tools",
    )
    mcp: Secret | None = _setting(
        None,
        tool_settings.servers,
        "MCP server whose tools the model may call: a command, or a URL; may be repeated",
    )
    mcp_env: tuple[str, ...] = _setting(
        (), tool_settings.names, "environment variable that the commands of --mcp are handed; may be repeated"
    )
    server_mcp: Secret | None = _setting(
        None,
        remote_settings.remote_servers,
        "MCP server whose tools the model's server calls by itself, as LABEL=URL; may be repeated",
    )
    approve: tuple[str, ...] = _setting(
        (),
        tool_settings.rules,
        "whether tools may run: ask, always or never, for those whose name fits the pattern; may be repeated, and the "
        "first that fits decides",
    )
    fallback_after_s: float = _setting(
        15.0,
        read.number(0.0, 86_400.0),
        "how long a lost realtime model is tried again before the models of --fallback go on",
        flag="--fallback-after",
    )
    recovery: Recovery = dataclasses.field(default_factory=Recovery)
    limits: Limits = dataclasses.field(default_factory=Limits)
    chat: ChatLimits = dataclasses.field(default_factory=ChatLimits)
    tool_limits: ToolLimits = dataclasses.field(default_factory=ToolLimits)
    sources: Mapping[str, tuple[int, str]] = dataclasses.field(default_factory=dict, compare=False)
    warnings: tuple[str, ...] = dataclasses.field(default=(), compare=False)

    def __post_init__(self) -> None:
        """Make paths absolute: they mean the folder that is current now, whatever becomes current later."""
        for name in _PATHS:
            path = getattr(self, name)
            if path is not None:
                object.__setattr__(self, name, read.absolute(Path(path)))
        object.__setattr__(self, "tool_files", tuple(read.absolute(Path(path)) for path in self.tool_files))

    def __repr__(self) -> str:
        given = (f"{f.name}={self.shown(f.name)!r}" for f in dataclasses.fields(self) if f.name in SPECS)
        limits = f"limits={self.limits!r}, chat={self.chat!r}, tool_limits={self.tool_limits!r}"
        limits += f", recovery={self.recovery!r}"
        return f"Settings({', '.join(given)}, {limits})"

    def source(self, name: str) -> str:
        """Return where the value of setting `name` came from, for example `environment REALTIME_MODEL`."""
        return self.sources.get(name, (DEFAULT, "default"))[1]

    def rank(self, name: str) -> int:
        """Return FLAG, ENVIRONMENT, DOTENV, CONFIG or DEFAULT: which kind of source gave the value."""
        return self.sources.get(name, (DEFAULT, ""))[0]

    def value(self, name: str) -> Any:
        """Return the value of setting `name`, limits included."""
        if name in TOOL_LIMITS:
            return getattr(self.tool_limits, TOOL_LIMITS[name])
        held = {LIMIT_NAMES: self.limits, CHAT_NAMES: self.chat, RECOVERY_NAMES: self.recovery}
        return getattr(next((holder for names, holder in held.items() if name in names), self), name)

    def shown(self, name: str) -> Any:
        """Return the value of setting `name` as people and files may see it: plain JSON types, secrets masked."""
        value = self.value(name)
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, tuple):
            return [str(each) for each in value]
        if name == "mcp":
            return tool_settings.shown_servers(value)
        if name == "server_mcp":
            return remote_settings.shown_remote(value)
        return shown_url(value) if name in URLS else str(value)

    def secrets(self) -> tuple[str, ...]:
        """Return the secret values themselves, those in URLs included, for whoever must blank them out."""
        values = (getattr(self, field.name) for field in dataclasses.fields(self))
        keys = [
            value.reveal() for value in values if isinstance(value, Secret) and value not in (self.mcp, self.server_mcp)
        ]
        keys += read.header_lines(self.header).values()
        keys += tool_settings.server_secrets(self.mcp, self.mcp_env, os.environ)
        keys += remote_settings.remote_secrets(self.server_mcp, os.environ)
        keys += [value for name in _KEYS_OF_OTHERS if (value := os.environ.get(name, "").strip())]
        urls = [text if "://" in text else f"http://{text}" for name in URLS if (text := getattr(self, name))]
        in_urls = [secret for url in urls for secret in url_secrets(url)]
        in_headers = [sent for url in urls if (sent := basic_credentials(url))]
        return tuple(dict.fromkeys(keys + in_urls + in_headers))


_LIMIT_HELP = {
    "open_timeout_s": "seconds to connect and open the session",
    "read_timeout_s": "longest silence of the server in seconds, 0 for no limit",
    "write_timeout_s": "seconds to hand one message to the network",
    "ping_interval_s": "seconds between keep-alive pings, 0 for none",
    "pong_timeout_s": "seconds to wait for the answer to a ping",
    "close_timeout_s": "seconds for the whole shutdown",
    "answer_timeout_s": "seconds that a request may stay without an answer, 0 for no limit",
    "inbound_queue": "messages that may wait to be processed",
    "inbound_bytes": "bytes that may wait to be processed",
    "outbox_queue": "messages that may wait to be sent",
    "outbox_bytes": "bytes that may wait to be sent",
    "updates_queue": "updates that may wait for the program",
    "max_frame_bytes": "longest message accepted, in bytes",
    "ack_timeout_s": "seconds that what was sent may stay unacknowledged (Linux), 0 to go by pings alone",
    "busy_timeout_s": "seconds to wait for the answer to a ping of a server that acknowledges it, 0 for no limit",
}
_RECOVERY_HELP = {
    "reconnect_s": "how long a lost connection is tried again, 0 for not at all",
    "restore_tokens": "most tokens of the conversation that a new session is told after a loss; the oldest go first",
    "keep_audio_s": "how much of the user's sound is kept while there is no connection",
    "rollover_s": "how long a session lasts where the server does not say; a new one goes on before, 0 for never",
}
_CHAT_HELP = {
    "stream_timeout_s": "longest time of one answer, once it has begun",
    "first_byte_s": "longest wait until an answer begins; loading a model takes minutes",
    "silence_s": "longest pause within an answer",
    "grace_s": "longest wait for the usage that follows an answer",
    "retries": "how often a failed request is sent again, 0 for never",
    "retry_delay_s": "pause before the first of these; it doubles",
    "streams": "most answers that are made at the same time (.retry N)",
    "history_entries": "messages that are kept of the conversation; the oldest go first",
    "history_bytes": "bytes that are kept of the conversation",
    "context_tokens": "most tokens of the conversation that are sent; default: what the model is known to take",
    "answer_characters": "longest answer; a longer one is cut",
    "chunk_buffer": "pieces of an answer that may wait for a slow screen or hook",
    "when_full": "when more would wait: the answer waits (block), the oldest piece is dropped, or the answer fails",
}
_TOOL_HELP = {
    "tool_timeout_s": "longest work on one call of a tool",
    "tools_at_once": "calls that are worked on at the same time; others wait",
    "tool_open_calls": "calls that may wait, be asked about or worked on; more are refused",
    "approval_timeout_s": "how long a question whether a call is allowed waits for an answer",
    "tool_result_characters": "longest output of a tool; a longer one is cut",
    "tool_argument_bytes": "longest arguments of a call that are read",
}
TOOL_LIMITS = {
    "tool_timeout_s": "timeout_s",
    "tools_at_once": "at_once",
    "tool_open_calls": "open_calls",
    "approval_timeout_s": "approval_s",
    "tool_result_characters": "result_characters",
    "tool_argument_bytes": "argument_bytes",
}
"""The fields of `ToolLimits`, by the settings that they are."""
_FLAG_WORDS = {"retries": "request_retries", "first_byte_s": "first_byte_timeout", "silence_s": "silence_timeout"}
LIMIT_NAMES = frozenset(Limits.__struct_fields__)
CHAT_NAMES = frozenset(ChatLimits.__struct_fields__)
RECOVERY_NAMES = frozenset(Recovery.__struct_fields__)
_MAY_BE_ZERO = (
    "retries", "retry_delay_s", "grace_s", "read_timeout_s", "ping_interval_s", "answer_timeout_s", "reconnect_s",
    "restore_tokens", "keep_audio_s", "rollover_s", "ack_timeout_s", "busy_timeout_s",
)  # fmt: skip


def _limit_spec(name: str) -> Spec:
    choices: tuple[str, ...] = ()
    if name == "when_full":
        choices = get_args(WhenFull)
        parse = read.choice(*choices)
    elif name.endswith("_s"):
        least = 0.0 if name in _MAY_BE_ZERO else 0.001
        parse = read.number(least, 86_400.0)
    else:
        parse = read.count(0 if name in _MAY_BE_ZERO else 1, 2**31)
    flag = "--" + _FLAG_WORDS.get(name, name.removesuffix("_s")).replace("_", "-")
    text = (_LIMIT_HELP | _RECOVERY_HELP | _CHAT_HELP | _TOOL_HELP)[name]
    return Spec(name, parse, "REALTIME_" + name.upper(), flag, text, choices)


def _specs() -> Iterator[Spec]:
    for field in dataclasses.fields(Settings):
        if not field.metadata:
            continue
        values = dict(field.metadata)
        for key, usual in (("env", "REALTIME_" + field.name.upper()), ("flag", "--" + field.name.replace("_", "-"))):
            values[key] = {"": usual, "-": ""}.get(values[key], values[key])
        yield Spec(name=field.name, **values)
    holders = (Limits, Recovery, ChatLimits)
    names = [name for holder in holders for name in holder.__struct_fields__]
    yield from map(_limit_spec, (*names, *TOOL_LIMITS))


SPECS: dict[str, Spec] = {spec.name: spec for spec in _specs()}
_PATHS = tuple(name for name, spec in SPECS.items() if spec.is_path)
