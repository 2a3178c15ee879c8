"""The options that commands share, made from the list of settings."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import click

from realtime_client.chat.limits import ChatLimits
from realtime_client.cli.group import Invocation
from realtime_client.errors import UsageError
from realtime_client.escape import one_line
from realtime_client.logs import LEVELS, ROOMS
from realtime_client.session.limits import Limits, Recovery
from realtime_client.settings import SPECS, TOOL_LIMITS, Settings, Spec, load_settings

_SOUND = ("mic", "speaker", "echo", "volume")
_LOGS = ("log_level", "log_file", "log_json")
_FORMS = {
    "header": "NAME=VALUE",
    "tool_files": "FILE.py",
    "mcp": "COMMAND|URL",
    "mcp_env": "NAME",
    "server_mcp": "LABEL=URL",
    "approve": "[PATTERN=]VERDICT",
}
_NAMES = {"voice": "NAME", "mic": "NAME|INDEX", "speaker": "NAME|INDEX"}
_TEXT = ("brain", "fallback", "fallback_on_error", "streaming", "temperature", "think", "filter", "context")
_OF_BRAINS = (
    *("brain", "temperature", "think", "streaming", "context", "proxy", "ca_file"),
    *("first_byte_s", "silence_s", "stream_timeout_s", "retries", "retry_delay_s", "context_tokens"),
)
_LIMITS = Limits.__struct_fields__
_RECOVERY = (*Recovery.__struct_fields__, "fallback_after_s")
_TEXT_LIMITS = ChatLimits.__struct_fields__
_TOOL_SOURCES = ("tool_files", "mcp", "mcp_env")
_TOOLS = (*_TOOL_SOURCES, "server_mcp", "approve", *TOOL_LIMITS)
_TITLES = (
    "Options", "Session", "Text models", "Tools", "Sound", "Lost connections", "Logs", "Limits",
    "Limits of text models",
)  # fmt: skip


class SectionedCommand(click.Command):
    """A command whose help page shows its own options first, then all others in sections."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options in sections."""
        sections: dict[str, list[tuple[str, str]]] = {title: [] for title in _TITLES}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                sections[_section(parameter.name or "")].append(record)
        for title, records in sections.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


def _section(name: str) -> str:
    sections = {
        "Logs": _LOGS,
        "Limits": _LIMITS,
        "Limits of text models": _TEXT_LIMITS,
        "Sound": _SOUND,
        "Lost connections": _RECOVERY,
    }
    for title, names in (sections | {"Text models": _TEXT, "Tools": _TOOLS}).items():
        if name in names:
            return title
    return "Session" if name in SPECS or name == "by_text" else "Options"


def session_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command every option of a session without sound devices. It is called with `settings` and `invocation`."""
    return _with_settings(function, [spec for spec in SPECS.values() if spec.flag and spec.name not in _SOUND])


def run_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """As `session_options`, without what a scenario has of its own (tools), and what a run does not take.

    That is `filter` (`--filter` chooses scenarios), `brain` (its servers have none), and what is done about a lost
    connection, which is what comes of a case.
    """
    left_out = (*_SOUND, "filter", "brain", *_TOOLS, *_RECOVERY)
    return _with_settings(function, [spec for spec in SPECS.values() if spec.flag and spec.name not in left_out])


def talk_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command every option of a session that may use microphone and speaker, as `session_options` does.

    `by_text` tells it whether these were declined.
    """
    return _with_settings(function, [spec for spec in SPECS.values() if spec.flag], talks=True)


def server_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the token, what a brain takes, and the options of logging; called as `session_options` does."""
    return _with_settings(function, [SPECS[name] for name in ("token", *_OF_BRAINS, *_LOGS)])


def provider_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that say where a provider is and who asks. It is called as `session_options` does."""
    names = ("url", "token", "header", "proxy", "ca_file", "open_timeout_s", *_LOGS)
    return _with_settings(function, [SPECS[name] for name in names])


def tool_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that say where tools come from. It is called with `settings` and `invocation`."""
    return _with_settings(function, [SPECS[name] for name in (*_TOOL_SOURCES, *_LOGS)])


def log_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of logging alone. It is called with `settings` and `invocation`."""
    return _with_settings(function, [SPECS[name] for name in _LOGS])


def _with_settings(function: Callable[..., Any], specs: list[Spec], *, talks: bool = False) -> Callable[..., Any]:
    @functools.wraps(function)
    def command(**values: Any) -> Any:
        flags = {spec.name: _given(spec, values.pop(spec.name)) for spec in specs}
        invocation = click.get_current_context().obj
        assert isinstance(invocation, Invocation)
        invocation.verbose, invocation.quiet = values.pop("verbose"), values.pop("quiet")
        by_text = values.pop("by_text", False) | values.pop("text_only", False)
        if by_text:
            if flags.get("modality") == "audio":
                raise UsageError("--text and --modality audio exclude each other")
            flags["modality"] = "text"
        if talks:
            values["by_text"] = by_text
        if flags.get("log_level") is None and invocation.verbose:
            flags["log_level"] = "info" if invocation.verbose == 1 else "debug"
        settings = load_settings(flags)
        for warning in () if invocation.quiet else settings.warnings:
            print(one_line(f"realtime: {warning}", 1_000), file=sys.stderr)  # noqa: T201
        return function(settings=settings, invocation=invocation, **values)

    options = [_option(spec) for spec in specs]
    if any(spec.name == "modality" for spec in specs):
        text = "text only: no sound is asked for" + (", no microphone and no speaker are used" if talks else "")
        options.append(click.option("--text", "by_text", is_flag=True, help=text))
        options.append(click.option("--text-only", is_flag=True, hidden=True))  # its old name
    options.append(click.option("-q", "--quiet", is_flag=True, help="no notices on stderr"))
    options.append(click.option("-v", "--verbose", count=True, help="log more; -vv: everything"))
    for option in reversed(options):
        command = option(command)
    return command


def _given(spec: Spec, value: Any) -> Any:
    """Turn what click delivers into the setting's value; None stays 'not given'."""
    if value is True and spec.negative:
        return False
    if isinstance(value, tuple):  # an option that may be repeated
        return ("\n".join(value) if spec.name == "header" else value) or None
    return value


def _option(spec: Spec) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    text = spec.help + (f" [{spec.env}]" if spec.env else "")
    if spec.is_switch:
        return click.option(spec.flag, spec.name, is_flag=True, default=None, help=text)
    if spec.repeats:
        form: Any = click.Path() if spec.name == "tool_files" else None
        return click.option(spec.flag, spec.name, type=form, multiple=True, metavar=_FORMS[spec.name], help=text)
    kind: Any = click.Choice(spec.choices) if spec.choices else None
    if spec.is_path:  # for shells that complete names
        kind = click.Path()
    complete = {"voice": _voices, "log_level": _levels}.get(spec.name)
    return click.option(
        spec.flag, spec.name, type=kind, default=None, metavar=_metavar(spec), help=text, shell_complete=complete
    )


def _voices(_context: click.Context, _option: click.Parameter, begun: str) -> list[str]:
    """Offer voices to a shell that completes."""
    from realtime_client.settings.target import voices

    return [name for name in voices() if name.startswith(begun)]


def _levels(_context: click.Context, _option: click.Parameter, begun: str) -> list[str]:
    """Offer levels, and rooms with levels."""
    words = [*LEVELS, *(f"{room}={level}" for room in ROOMS for level in LEVELS)]
    return [word for word in words if word.startswith(begun)]


def _metavar(spec: Spec) -> str | None:
    if spec.choices:
        return None
    if spec.name.endswith("_s"):
        return "SECONDS"
    return {
        "ca_file": "FILE",
        "log_file": "FILE",
        "filter": "FILE",
        "log_level": "LEVEL",
        "record_dir": "DIR",
        "url": "URL",
        "proxy": "URL",
        "brain": "MODELS",
        "fallback": "MODELS",
        "model": "MODEL",
        **_NAMES,
    }.get(
        spec.name,
        "N"
        if spec.name
        in (
            *_LIMITS,
            *_RECOVERY,
            *_TEXT_LIMITS,
            *TOOL_LIMITS,
            "speed",
            "max_output_tokens",
            "volume",
            "metrics_port",
            "temperature",
            "context",
        )
        else "TEXT",
    )


__all__ = [
    "SectionedCommand",
    "Settings",
    "log_options",
    "provider_options",
    "run_options",
    "server_options",
    "session_options",
    "talk_options",
    "tool_options",
]
