"""Which settings are in force, and where each value came from.

A value is taken from the first of: flag, environment, `.env` in the current folder, the user's config file, default.
Everything here is pure but for `load_settings`, which reads the two files.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

from realtime_client.chat.limits import ChatLimits
from realtime_client.errors import UsageError
from realtime_client.home import NOWHERE, user_folder
from realtime_client.secret import shown_url
from realtime_client.session.limits import Limits, Recovery, ToolLimits
from realtime_client.settings import values as read

from .settings import (
    CHAT_NAMES,
    CONFIG,
    DOTENV,
    ENVIRONMENT,
    FLAG,
    LIMIT_NAMES,
    RECOVERY_NAMES,
    SPECS,
    TOOL_LIMITS,
    URLS,
    Settings,
    Spec,
)

PREFIX = "REALTIME_"
CONFIG_VARIABLE = "REALTIME_CONFIG"
# Ours, but not settings: read here, by models/, by scripts/, and by the tests.
_OTHER_VARIABLES = (CONFIG_VARIABLE, "REALTIME_MODELS_DIR", "REALTIME_PYTHON", "REALTIME_TEST_EXAMPLES")

_ARGUMENT = "argument"  # how a flag is called that a program gives
_CONFIG_SPEC = Spec("config", read.path, CONFIG_VARIABLE, "", "the user's config file")


class Layer(NamedTuple):
    """One source of values: its rank, its name for people, and what it says (by setting name)."""

    rank: int
    label: str
    values: Mapping[str, Any]


def resolve(layers: list[Layer], warnings: tuple[str, ...] = ()) -> Settings:
    """Build the settings: for each name, the value of the first layer that has one.

    warnings: what people should know about the layers. Errors: UsageError names the source of an invalid value; it
    never shows a secret.
    """
    values: dict[str, Any] = {}
    sources: dict[str, tuple[int, str]] = {}
    for name, spec in SPECS.items():
        for layer in layers:
            raw = layer.values.get(name)
            if raw is not None:
                where = _where(layer, spec)
                values[name] = _parsed(spec, raw, where)
                sources[name] = (layer.rank, where)
                break
    limits = Limits(**{name: values.pop(name) for name in LIMIT_NAMES & values.keys()})
    chat = ChatLimits(**{name: values.pop(name) for name in CHAT_NAMES & values.keys()})
    recovery = Recovery(**{name: values.pop(name) for name in RECOVERY_NAMES & values.keys()})
    tool_limits = ToolLimits(**{TOOL_LIMITS[name]: values.pop(name) for name in TOOL_LIMITS.keys() & values.keys()})
    return Settings(
        **values,
        limits=limits,
        recovery=recovery,
        chat=chat,
        tool_limits=tool_limits,
        sources=sources,
        warnings=warnings,
    )


def _where(layer: Layer, spec: Spec) -> str:
    keys = {"flag": spec.flag or spec.name, _ARGUMENT: spec.name}
    key = keys.get(layer.label, spec.name if layer.rank == CONFIG else spec.env)
    return f"{layer.label} {key}"


def _parsed(spec: Spec, raw: Any, where: str) -> Any:
    try:
        read.encodable(raw)
        return spec.parse(raw)
    except (TypeError, ValueError) as error:
        text = ", ".join(map(str, raw)) if spec.repeats and isinstance(raw, list | tuple) else str(raw)
        text = shown_url(text) if spec.name in URLS else text
        shown = "" if spec.is_secret else f" {text[:60]!r}"
        raise UsageError(f"{where}: the value{shown} {error}") from None


def load_settings(
    flags: Mapping[str, Any] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    folder: Path | None = None,
    arguments: bool = False,
) -> Settings:
    """Read all sources and return the settings in force.

    flags: by setting name; None for a flag that was not given. arguments: they are those of a call, and named as such
    where they are spoken of. environ: default the process's. folder: where `.env` is looked for, default the current
    one. Errors: UsageError for a value or a file that cannot be used.
    """
    for name in flags or {}:
        if name not in SPECS:
            raise UsageError(f"there is no setting {name!r}{_nearest(name, SPECS)}")
    environ = os.environ if environ is None else environ
    config = config_path(environ)
    dotenv = _read_dotenv((folder or Path()) / ".env")
    return resolve(
        [
            Layer(FLAG, _ARGUMENT if arguments else "flag", flags or {}),
            Layer(ENVIRONMENT, "environment", _by_name(environ)),
            Layer(DOTENV, ".env", _by_name(dotenv)),
            Layer(CONFIG, f"config file {config}:", _read_config(config, named=bool(environ.get(CONFIG_VARIABLE)))),
        ],
        (*_unknown("environment", environ), *_unknown(".env", dotenv)),
    )


def config_path(environ: Mapping[str, str] | None = None) -> Path:
    """Return where the user's config file is, whether it exists or not. REALTIME_CONFIG names another one."""
    named = (os.environ if environ is None else environ).get(CONFIG_VARIABLE)
    if named:
        return cast("Path", _parsed(_CONFIG_SPEC, named, f"environment {CONFIG_VARIABLE}"))
    return user_folder("config") / "config.toml"


def _by_name(environ: Mapping[str, str | None]) -> dict[str, str]:
    """Pick our variables; an empty one counts as not set, as everywhere in the field."""
    return {spec.name: value for spec in SPECS.values() if spec.env and (value := environ.get(spec.env))}


def _unknown(label: str, names: Iterable[str]) -> Iterator[str]:
    """Yield a line for each variable that looks like one of ours but is not: it would be ignored in silence."""
    known = {spec.env for spec in SPECS.values() if spec.env.startswith(PREFIX)}
    for name in sorted(names):
        if name.startswith(PREFIX) and name not in known and name not in _OTHER_VARIABLES:
            yield f"{label} {name[:60]}: there is no such setting{_nearest(name, known, PREFIX)}"


def _nearest(name: str, known: Iterable[str], prefix: str = "") -> str:
    near = difflib.get_close_matches(name.removeprefix(prefix), [one.removeprefix(prefix) for one in known], n=1)
    near = [prefix + one for one in near]
    return f"; did you mean {near[0]}?" if near else "; `realtime settings` lists all names"


def _read_dotenv(path: Path) -> dict[str, str | None]:
    try:
        if not path.is_file():
            return {}
        from dotenv import dotenv_values

        return dict(dotenv_values(path))
    except (OSError, UnicodeError) as error:
        raise UsageError(f"{path} cannot be read ({error}); correct or remove it") from None


def _read_config(path: Path, *, named: bool) -> dict[str, Any]:
    """Read the config file; a missing one is empty, unless it was named."""
    import tomllib

    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeError, tomllib.TOMLDecodeError) as error:
        if isinstance(error, FileNotFoundError | NotADirectoryError) and not named:
            return {}
        reason = error.strerror if isinstance(error, OSError) else error
        name = f"{CONFIG_VARIABLE}: " if named else ""
        raise UsageError(f"{name}{path} cannot be read ({reason}); correct or remove it") from None
    for key in data:
        if key not in SPECS:
            raise UsageError(f"{path}: there is no setting {key!r}{_nearest(key, SPECS)}")
    return data


def recordings_folder(settings: Settings, folder: Path | None = None) -> Path:
    """Return the folder that holds the session folders.

    record_dir if it is set; `recordings/` of the current folder (or `folder`) if there is one, as in the project's
    own; else the user's data folder. Errors: UsageError when the user has none.
    """
    if settings.record_dir is not None:
        return settings.record_dir
    here = (folder or Path()) / "recordings"
    if here.is_dir():
        return read.absolute(here)
    place = user_folder("data")
    if NOWHERE in place.parents:
        raise UsageError(
            "there is no home folder to record into: set HOME, or name one with --record-dir, or --no-record"
        )
    return place / "recordings"
