"""What every test gets: an empty home, no key, no network beyond this machine, a time limit, no leaked thread."""

from __future__ import annotations

import functools
import inspect
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType, ModuleType
from typing import Any

import pytest

TEST_LIMIT_S = 90
THREADS_LIMIT_S = 5.0
_OURS = re.compile(
    r"(?i)^(OPENAI_|AZURE_OPENAI_|OLLAMA_|APIM_|GOOGLE_|GEMINI_|ANTHROPIC_|AWS_|REALTIME_|XDG_|SSL_CERT_"
    r"|NO_COLOR$|FORCE_COLOR$|.*_PROXY$)"
)


def in_ci() -> bool:
    return os.environ.get("CI", "").lower() not in ("", "0", "false")


# Signals that whoever started the tests ignores (nohup, a job in the background) are ignored by what they start, too;
# here they have their usual effect.
for _which, _usual in (("SIGINT", signal.default_int_handler), ("SIGHUP", signal.SIG_DFL)):
    if hasattr(signal, _which) and signal.getsignal(getattr(signal, _which)) is signal.SIG_IGN:
        signal.signal(getattr(signal, _which), _usual)


# A skipped test is a failure where nothing may skip.


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: Any) -> Any:
    return _strict((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Any:
    return _strict((yield))


def _strict(report: Any) -> Any:
    if in_ci() and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"nothing may skip in CI: {reason}"
    return report


# What a test needs besides this package, as a mark; `scripts/test --quick` leaves out what needs anything. It is found in
# the test and in the helpers and fixtures of ours that it uses, so nobody has to keep it up.

PEERS = {
    *("LocalServer", "ServerProcess", "SessionPool"),
    *(
        "cli_helpers",
        "mcp_helpers",
        "models_helpers",
        "recording_victim",
        "scripted_server",
        "talking_server",
        "text_server",
    ),
    *("agents", "asyncio", "http", "multiprocessing", "openai", "socket", "socketserver", "subprocess", "websockets"),
}
_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what uses another program or a socket (`peer`), the machine's sound, which is for one at a time, a browser."""
    for item in items:
        fixtures = item._fixtureinfo.name2fixturedefs if isinstance(item, pytest.Function) else {}
        functions = [getattr(item, "function", None), *(found[-1].func for found in fixtures.values())]
        used = frozenset[str]().union(*map(_used_by, functions))
        for mark, needed in (
            ("peer", used & PEERS),
            ("sound", "sound_card" in fixtures),
            ("browser", "Browser" in used),
        ):
            if needed:
                item.add_marker(mark)


@functools.cache  # thousands of items share a fixture, and the cases of a table their function
def _used_by(function: Any) -> frozenset[str]:
    names: set[str] = set()
    _gather(function, names, set())
    return frozenset(names)


def _gather(thing: Any, names: set[str], seen: set[int]) -> None:
    """Add to `names` what a function or class of the tests uses: its names, and the modules that these come from."""
    if id(thing) in seen:
        return
    seen.add(id(thing))
    if isinstance(thing, type):
        for member in vars(thing).values():
            _gather(member, names, seen)
        return
    thing = inspect.unwrap(getattr(thing, "func", getattr(thing, "fget", thing)))
    code = getattr(thing, "__code__", None)
    if code is None or Path(code.co_filename).parent != _HERE or code.co_filename == __file__:
        return
    for name in _names(code):
        value = thing.__globals__.get(name)
        module = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None) or ""
        names.update((name, module, module.partition(".")[0]))
        _gather(value, names, seen)


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _names(inner)


# Isolation.


@pytest.fixture(autouse=True)
def _isolated(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty home and current folder, and none of the user's settings."""
    home = tmp_path_factory.mktemp("home")
    for name in list(os.environ):
        if _OURS.match(name):
            monkeypatch.delenv(name)
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(home))
    for name in ("CONFIG", "DATA", "CACHE", "STATE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(home / name.lower()))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(home))
    work = home / "work"
    work.mkdir()
    monkeypatch.chdir(work)


@pytest.fixture(autouse=True)
def _only_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse to leave this machine."""

    def guard(method: Any) -> Any:
        def connect(self: socket.socket, address: Any) -> Any:
            if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_loopback(address[0]):
                raise AssertionError(f"a test tried to reach {address}")
            return method(self, address)

        return connect

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, guard(getattr(socket.socket, name)))


def _is_loopback(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")


# Limits.


@pytest.fixture(autouse=True)
def _time_limit() -> Iterator[None]:
    """End a test that hangs; what it waits for has failed to keep its own deadline."""
    if not hasattr(signal, "SIGALRM") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def expire(_number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"the test runs longer than {TEST_LIMIT_S} s")

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, TEST_LIMIT_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(autouse=True)
def _no_leaked_threads(_isolated: None, _only_loopback: None) -> Iterator[None]:
    """Fail a test whose threads outlive it."""
    before = set(threading.enumerate())
    yield
    ends = time.monotonic() + THREADS_LIMIT_S
    leaked = []
    for thread in set(threading.enumerate()) - before:
        thread.join(timeout=max(0.0, ends - time.monotonic()))
        if thread.is_alive():
            leaked.append(thread.name)
    if leaked.count("realtime-audio-call") <= _lost_in_portaudio():
        leaked = [name for name in leaked if name != "realtime-audio-call"]
    if leaked:
        pytest.fail(f"threads still alive after the test: {', '.join(sorted(leaked))}")


def _lost_in_portaudio() -> int:
    """How many calls PortAudio never returns from, when a device goes between opening and starting it."""
    devices = sys.modules.get("realtime_client.audio.devices")
    return 0 if devices is None else devices._lost_calls


@pytest.fixture
def project() -> Path:
    """The project's own folder."""
    return Path(__file__).resolve().parent.parent
