"""What an MCP server is: a command that is started, or a URL. Read from flags and from the config file. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Any
from urllib.parse import urlsplit

from realtime_client.errors import UsageError
from realtime_client.escape import one_line, shortened
from realtime_client.loopback import is_loopback
from realtime_client.secret import MASK, Secret, basic_credentials, names_secret, shown_url, url_secrets
from realtime_client.tools.approval import VERDICTS, Verdict

START_S = 30.0
LONGEST_S = 86_400.0
_KEYS = ("command", "url", "args", "env", "headers", "cwd", "timeout", "start_timeout", "approve")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,29}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # RFC 9110, 5.6.2
_RUNNERS = re.compile(
    r"(?:uvx?|pipx|npx|bunx?|deno|node|docker|podman|env|sh|bash|pypy3?|python[\d.]*)(?:\.exe|\.cmd)?"
)
_COMMON = {"index", "main", "server", "cli", "app", "dist", "build", "src", "bin", "lib", "__main__"}
_STEPS = {"run", "exec", "tool", "x", "dlx"}


@dataclass(frozen=True, kw_only=True)
class McpServerSpec:
    """One server: `command`, or `url`.

    name: what it is called here: letters, digits, _ and -, at most 30. command: the program and its arguments. env:
    names of the variables that it is given besides HOME, LOGNAME, PATH, SHELL, TERM and USER. headers: sent with every
    request to `url`. cwd: the folder that the command starts in; '' for the current one. timeout_s: longest work on one
    call; None for the usual limit. start_timeout_s: until it has told its tools. approve: a rule for all of its tools.
    """

    name: str
    command: tuple[str, ...] = field(default=(), repr=False)
    url: str = field(default="", repr=False)
    env: tuple[str, ...] = ()
    headers: Mapping[str, Secret] = field(default_factory=dict)
    cwd: str = ""
    timeout_s: float | None = None
    start_timeout_s: float = START_S
    approve: Verdict | None = None

    @property
    def shown(self) -> str:
        """The command or the URL for people, on one line, without what is secret in it."""
        if self.command:
            return one_line(shlex.join(_shown_words(self.command)), 200)
        open_wire = urlsplit(self.url).scheme == "http" and not self.near
        return one_line(shown_url(self.url), 200) + (" (not encrypted)" if open_wire else "")

    @property
    def near(self) -> bool:
        """Whether its URL leads to this machine."""
        return is_loopback(urlsplit(self.url).hostname or "")

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must not be shown: values of headers, and what is secret in the URL."""
        credentials = basic_credentials(self.url) if self.url else ""
        found = [each.reveal() for each in self.headers.values()] + [*url_secrets(self.url), credentials]
        return tuple(dict.fromkeys(each for each in found if each))


def server_specs(flags: Iterable[str] = (), sections: Mapping[str, Any] | None = None) -> tuple[McpServerSpec, ...]:
    """Read all servers of a session. flags: what `--mcp` was given, each a command with its arguments, or a URL.

    sections: of the config file, `[mcp.NAME]` as a mapping by NAME. Errors: UsageError with the first mistake.
    """
    found = [_of_section(name, content) for name, content in (sections or {}).items()]
    for text in flags:
        spec = _of_flag(text)
        found.append(replace(spec, name=_unlike(spec.name, {each.name for each in found})))
    return tuple(found)


def _of_flag(text: str) -> McpServerSpec:
    where = "--mcp"
    text = text.strip()
    if "://" in text and not re.search(r"\s", text):
        url = _url(text, where)
        return McpServerSpec(name=_fit(urlsplit(url).hostname or ""), url=url)
    command = _words(text, where)
    return McpServerSpec(name=name_of(command), command=command)


def _of_section(name: str, content: Any) -> McpServerSpec:
    where = f"[mcp.{shortened(name, 40)}]"
    if not _NAME.fullmatch(name):
        raise UsageError(f"{where}: the name of a server is of letters, digits, _ and -, at most 30")
    if not isinstance(content, Mapping):
        raise UsageError(f"{where}: a server is a section with a command or a url")
    unknown = [key for key in content if key not in _KEYS]
    if unknown:
        raise UsageError(f"{where}: there is no key {shortened(unknown[0], 40)!r}; the keys are {', '.join(_KEYS)}")
    if ("command" in content) == ("url" in content):
        raise UsageError(f"{where}: it needs a command, or a url, and not both")
    with_url = "url" in content
    foreign = [key for key in (("args", "env", "cwd") if with_url else ("headers",)) if key in content]
    if foreign:
        raise UsageError(f"{where}: {foreign[0]} is nothing for a server with a {'url' if with_url else 'command'}")
    return McpServerSpec(
        name=name,
        command=() if with_url else _command(content, where),
        url=_url(content["url"], where) if with_url else "",
        env=_variables(content.get("env", ()), where),
        headers=_headers(content.get("headers", {}), where),
        cwd=_text(content.get("cwd", ""), f"{where} cwd", empty=True),
        timeout_s=_seconds(content["timeout"], f"{where} timeout") if "timeout" in content else None,
        start_timeout_s=_seconds(content.get("start_timeout", START_S), f"{where} start_timeout"),
        approve=_verdict(content.get("approve"), where),
    )


def _command(content: Mapping[str, Any], where: str) -> tuple[str, ...]:
    """Text is split as a shell does, unless there are args: then it is the program alone."""
    given, args = content["command"], content.get("args")
    if isinstance(given, str) and args is None:
        return _words(given, where)
    first = [given] if isinstance(given, str) else given
    return tuple(
        _text(word, f"{where} {what}", empty=what == "args" or n > 0)
        for what, words in (("command", first), ("args", args or []))
        for n, word in enumerate(_list(words, f"{where} {what}", empty=what == "args"))
    )


def _words(text: str, where: str) -> tuple[str, ...]:
    try:
        words = tuple(shlex.split(_text(text, where)))
    except ValueError as error:
        raise UsageError(f"{where}: {shortened(text)!r} cannot be split into words: {error}") from None
    if not words or not words[0]:
        raise UsageError(f"{where}: it needs a command")
    return words


def _url(value: Any, where: str) -> str:
    text = _text(value, f"{where} url" if where.startswith("[") else where).strip()
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or re.search(r"\s", text):
        raise UsageError(f"{where}: {shortened(shown_url(text))!r} is no URL of a server: http://HOST or https://HOST")
    return text.partition("#")[0]


def _variables(value: Any, where: str) -> tuple[str, ...]:
    names = tuple(_text(name, f"{where} env") for name in _list(value, f"{where} env", empty=True))
    for name in names:
        if not _VARIABLE.fullmatch(name):
            hint = "; values stand in the environment, and only names here" if "=" in name else ""
            raise UsageError(f"{where} env: {shortened(name.partition('=')[0], 40)!r} is no name of a variable{hint}")
    return names


def _headers(value: Any, where: str) -> dict[str, Secret]:
    if not isinstance(value, Mapping):
        raise UsageError(f"{where} headers: it is a table of names and texts")
    for name, content in value.items():
        fits = isinstance(content, str) and content.isascii() and content.isprintable()
        if not _HEADER.fullmatch(name) or not fits:
            raise UsageError(f"{where} headers: {shortened(name, 40)!r} cannot be sent as a header")
    return {name: Secret(content) for name, content in value.items()}


def _seconds(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= LONGEST_S:
        raise UsageError(f"{where}: it is a number of seconds, more than 0 and at most {LONGEST_S:.0f}")
    return float(value)


def _verdict(value: Any, where: str) -> Verdict | None:
    if value is not None and value not in VERDICTS:
        raise UsageError(f"{where} approve: it is one of {', '.join(VERDICTS)}")
    return value  # type: ignore[no-any-return]


def _list(value: Any, where: str, *, empty: bool = False) -> Collection[Any]:
    if not isinstance(value, list | tuple) or not (value or empty):
        raise UsageError(f"{where}: it is a list of texts")
    return value


def _text(value: Any, where: str, *, empty: bool = False) -> str:
    if not isinstance(value, str) or "\0" in value or not (value.strip() or empty):
        raise UsageError(f"{where}: it is a text{'' if empty else ', and not an empty one'}")
    return value


def name_of(command: Iterable[str]) -> str:
    """Make a short name of a command: `uvx mcp-server-time` is `time`."""
    program, *rest = command
    if not _RUNNERS.fullmatch(PurePath(program).name):
        words = [program]
    else:
        words = [word for word in rest if not word.startswith("-") and word not in _STEPS and "=" not in word]
        words = [word for word in words if "mcp" in word.lower()] or words or [program]
    parts = [part for part in re.split(r"[/\\]", re.split(r"(?<=[^/])@|==|:", words[0])[0]) if part]
    stems = [re.sub(r"\.(?:py|js|mjs|cjs|ts|sh|exe|cmd)$", "", part) for part in reversed(parts)]
    return _fit(next((stem for stem in stems if stem.lower() not in _COMMON), stems[0] if stems else ""))


def _fit(word: str) -> str:
    """Leave out what the names of servers have in common, and what may not stand in one."""
    parts = [part for part in re.split(r"[^A-Za-z0-9]+", word) if part]
    own = [part for part in parts if part.lower() not in ("mcp", "server")]
    return ("-".join(own or parts)[:30].strip("-")) or "server"


def _unlike(name: str, taken: Collection[str]) -> str:
    return next(each for each in (name, *(f"{name[:26]}-{n}" for n in range(2, 1_000))) if each not in taken)


def _shown_words(words: Iterable[str]) -> Iterable[str]:
    """Mask what follows an option, or an equals sign, that names a secret."""
    before = ""
    for word in words:
        left, equals, _ = word.partition("=")
        if before.startswith("-") and "=" not in before and names_secret(before.lstrip("-")):
            yield MASK
        elif equals and names_secret(left.lstrip("-")):
            yield f"{left}={MASK}"
        else:
            yield shown_url(word) if "://" in word else word
        before = word
