"""Listens to PulseAudio, or PipeWire in its place: which devices come and go, and where our streams are.

The sound server moves streams without a word to PortAudio. This is a second, silent connection to the server, through
libpulse, which ALSA's route to PulseAudio needs anyway. Without the library or the server, nothing happens.

One thread owns libpulse's main loop; its callbacks run there. After an event it waits for a short silence, asks for
everything (at most once in 80 ms), and compares the answer with the one before. Structures and constants:
pulse/introspect.h, pulse/def.h and pulse/subscribe.h, whose members keep their offsets within libpulse.so.0.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Callable
from ctypes import POINTER, c_char_p, c_int, c_uint8, c_uint32, c_void_p
from typing import Any, ClassVar

from realtime_client.audio.devices import Direction
from realtime_client.audio.lines.watch import News, Side, Snapshot, compare
from realtime_client.deadline import SYSTEM_CLOCK, Clock
from realtime_client.version import APP_NAME

_QUIET_S = 0.08
_LONGEST_S = 0.25
_RECONNECT_S = 1.0
_LIBRARY = "libpulse.so.0"
_READY, _FAILED, _TERMINATED = 4, 5, 6  # pa_context_state_t
_NO_AUTOSPAWN = 1  # pa_context_flags_t
_NO_INDEX = 0xFFFFFFFF
_MASK = 0x0001 | 0x0002 | 0x0004 | 0x0008 | 0x0080  # sinks, sources, their streams, the server's defaults
_FACILITY, _EVENT, _CHANGE = 0x000F, 0x0030, 0x0010
_SINK, _SOURCE = 0, 1
_ASKED = (
    "server_info",
    "sink_info_list",
    "source_info_list",
    "client_info_list",
    "sink_input_info_list",
    "source_output_info_list",
)


class _ServerInfo(ctypes.Structure):  # pa_server_info
    _fields_: ClassVar = [
        ("user_name", c_char_p),
        ("host_name", c_char_p),
        ("server_version", c_char_p),
        ("server_name", c_char_p),
        ("sample_spec", c_uint32 * 3),
        ("default_sink", c_char_p),
        ("default_source", c_char_p),
    ]


class _Volume(ctypes.Structure):  # pa_cvolume
    _fields_: ClassVar = [("channels", c_uint8), ("values", c_uint32 * 32)]


class _Map(ctypes.Structure):  # pa_channel_map
    _fields_: ClassVar = [("channels", c_uint8), ("map", c_int * 32)]


class _Device(ctypes.Structure):  # the beginning of pa_sink_info and pa_source_info
    _fields_: ClassVar = [
        ("name", c_char_p),
        ("index", c_uint32),
        ("description", c_char_p),
        ("sample_spec", c_uint32 * 3),
        ("channel_map", _Map),
        ("owner_module", c_uint32),
        ("volume", _Volume),
        ("mute", c_int),
        ("monitor", c_uint32),  # of a source: the sink whose sound it gives; none if it is a microphone
    ]


class _Client(ctypes.Structure):  # pa_client_info
    _fields_: ClassVar = [
        ("index", c_uint32),
        ("name", c_char_p),
        ("owner_module", c_uint32),
        ("driver", c_char_p),
        ("properties", c_void_p),
    ]


class _Stream(ctypes.Structure):  # the beginning of pa_sink_input_info and pa_source_output_info
    _fields_: ClassVar = [
        ("index", c_uint32),
        ("name", c_char_p),
        ("owner_module", c_uint32),
        ("client", c_uint32),
        ("device", c_uint32),
    ]


_ON_SERVER = ctypes.CFUNCTYPE(None, c_void_p, POINTER(_ServerInfo), c_void_p)
_ON_DEVICE = ctypes.CFUNCTYPE(None, c_void_p, POINTER(_Device), c_int, c_void_p)
_ON_CLIENT = ctypes.CFUNCTYPE(None, c_void_p, POINTER(_Client), c_int, c_void_p)
_ON_STREAM = ctypes.CFUNCTYPE(None, c_void_p, POINTER(_Stream), c_int, c_void_p)
_ON_EVENT = ctypes.CFUNCTYPE(None, c_void_p, c_int, c_uint32, c_void_p)


def _load() -> Any:
    """Return libpulse, its functions declared; None where there is none."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError:
        return None
    pointers = ("pa_mainloop_new", "pa_mainloop_get_api", "pa_context_new", "pa_context_subscribe")
    for name in (*pointers, *(f"pa_context_get_{what}" for what in _ASKED)):
        getattr(library, name).restype = c_void_p
    library.pa_proplist_gets.restype = c_char_p
    return library


class PulseWatch:
    """Tells `on_news(news)` from its own thread `realtime-sound-server`, in about 0.1 s; it must not block.

    A server that is not there is looked for every second; `on_news` then gets every device as one that came.
    snapshot: what was seen last, None while there is no server. Begins at once; `close()` ends and joins the thread.
    on_fault: called with an exception in here or in `on_news`; the watch starts over after a second.
    """

    def __init__(
        self,
        on_news: Callable[[list[News]], None],
        on_fault: Callable[[Exception], None] = lambda _error: None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.snapshot: Snapshot | None = None
        self._on_news = on_news
        self._on_fault = on_fault
        self._error: Exception | None = None  # of a callback of libpulse, which would drop it
        self._clock = clock
        self._pulse = _load()
        self._closing = threading.Event()
        self._loop: int | None = None
        self._loop_lock = threading.Lock()
        self._context: int | None = None
        self._first_s: float | None = None  # of the events not looked after yet
        self._last_s = 0.0
        self._asking = False
        self._was_away = False
        self._thread = threading.Thread(target=self._run, name="realtime-sound-server", daemon=True)
        self._calls = (
            _ON_SERVER(self._kept(self._server)),
            _ON_DEVICE(self._kept(lambda _c, info, end, _u: self._device("output", info, end))),
            _ON_DEVICE(self._kept(lambda _c, info, end, _u: self._device("input", info, end))),
            _ON_CLIENT(self._kept(self._client)),
            _ON_STREAM(self._kept(lambda _c, info, end, _u: self._stream("output", info, end))),
            _ON_STREAM(self._kept(lambda _c, info, end, _u: self._stream("input", info, end))),
        )
        self._on_event = _ON_EVENT(self._kept(self._event))
        if self._pulse is not None:
            self._thread.start()

    @property
    def works(self) -> bool:
        """Whether there is a server that it hears."""
        return self.snapshot is not None

    def close(self) -> None:
        """End; idempotent."""
        self._closing.set()
        with self._loop_lock:
            if self._loop is not None:
                self._pulse.pa_mainloop_wakeup(c_void_p(self._loop))
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=3.0)

    def _kept(self, call: Callable[..., None]) -> Callable[..., None]:
        """Keep an exception for the thread: ctypes would print it and go on."""

        def called(*args: Any) -> None:
            try:
                call(*args)
            except Exception as error:  # noqa: BLE001  # raised by `_turn`
                self._error = error

        return called

    # The thread.

    def _run(self) -> None:
        while not self._closing.is_set():
            with self._loop_lock:
                self._loop = self._pulse.pa_mainloop_new()
            try:
                self._connected()
            except Exception as error:  # noqa: BLE001  # told, and tried again
                self._on_fault(error)
            finally:
                with self._loop_lock:
                    loop, self._loop = self._loop, None
                self._pulse.pa_mainloop_free(c_void_p(loop))
            self._was_away = True
            self.snapshot = None
            self._closing.wait(_RECONNECT_S)

    def _connected(self) -> None:
        """Hold one connection as long as it lasts."""
        pulse = self._pulse
        api = pulse.pa_mainloop_get_api(c_void_p(self._loop))
        context = pulse.pa_context_new(c_void_p(api), APP_NAME.encode())
        self._context, self._asking, self._first_s = context, False, None
        try:
            if pulse.pa_context_connect(c_void_p(context), None, _NO_AUTOSPAWN, None) < 0:
                return
            subscribed = False
            while not self._closing.is_set():
                state = pulse.pa_context_get_state(c_void_p(context))
                if state in (_FAILED, _TERMINATED):
                    return
                if state == _READY and not subscribed:
                    subscribed = True
                    self._subscribe()
                if not self._turn():
                    return
        finally:
            pulse.pa_context_disconnect(c_void_p(context))
            pulse.pa_context_unref(c_void_p(context))

    def _subscribe(self) -> None:
        self._pulse.pa_context_set_subscribe_callback(c_void_p(self._context), self._on_event, None)
        self._done(self._pulse.pa_context_subscribe(c_void_p(self._context), _MASK, None, None))
        self._ask()

    def _turn(self) -> bool:
        """Run the main loop once; False if it cannot."""
        loop = c_void_p(self._loop)
        wait_s = self._wait_s()
        if wait_s is not None and wait_s <= 0:
            self._ask()
            wait_s = None
        timeout_us = -1 if wait_s is None else int(wait_s * 1e6)
        pulse = self._pulse
        prepared = pulse.pa_mainloop_prepare(loop, timeout_us) >= 0
        goes_on = prepared and pulse.pa_mainloop_poll(loop) >= 0 and bool(pulse.pa_mainloop_dispatch(loop) >= 0)
        error, self._error = self._error, None
        if error is not None:
            raise error
        return goes_on

    def _wait_s(self) -> float | None:
        """Return how long until it is time to ask; None if nothing has happened, or an answer is awaited."""
        if self._first_s is None or self._asking:
            return None
        return min(self._last_s + _QUIET_S, self._first_s + _LONGEST_S) - self._clock.monotonic()

    def _event(self, _context: int, event: int, _index: int, _data: int) -> None:
        if event & _FACILITY in (_SINK, _SOURCE) and event & _EVENT == _CHANGE:
            return  # its volume, mostly
        self._last_s = self._clock.monotonic()
        if self._first_s is None:
            self._first_s = self._last_s

    # Asking for everything: six questions, answered in their order.

    def _ask(self) -> None:
        pulse, context = self._pulse, c_void_p(self._context)
        self._asking, self._first_s, self._broken = True, None, False
        self._asked_s = self._clock.monotonic()
        self._defaults: dict[Direction, str] = {}
        self._names: dict[Direction, dict[int, tuple[str, str, bool]]] = {"input": {}, "output": {}}
        self._placed: dict[Direction, dict[int, int]] = {"input": {}, "output": {}}
        self._ours: set[int] = set()
        for what, call in zip(_ASKED, self._calls, strict=True):
            self._done(getattr(pulse, f"pa_context_get_{what}")(context, call, None))

    def _done(self, operation: int | None) -> None:
        if operation:
            self._pulse.pa_operation_unref(c_void_p(operation))

    def _server(self, _context: int, info: Any, _data: int) -> None:
        if info:
            self._defaults["output"] = _text(info.contents.default_sink)
            self._defaults["input"] = _text(info.contents.default_source)

    def _device(self, direction: Direction, info: Any, end: int) -> None:
        self._broken |= end < 0
        if not end and info:
            device = info.contents
            name = _text(device.name)
            monitor = direction == "input" and device.monitor != _NO_INDEX
            self._names[direction][device.index] = (name, _text(device.description) or name, monitor)

    def _client(self, _context: int, info: Any, end: int, _data: int) -> None:
        """Note which clients belong to this process: in PipeWire, the streams themselves do not say."""
        self._broken |= end < 0
        if not end and info:
            client = info.contents
            owner = self._pulse.pa_proplist_gets(c_void_p(client.properties), b"application.process.id")
            if owner == str(os.getpid()).encode():
                self._ours.add(client.index)

    def _stream(self, direction: Direction, info: Any, end: int) -> None:
        self._broken |= end < 0
        if not end and info:
            stream = info.contents
            if stream.client in self._ours:
                self._placed[direction][stream.index] = stream.device
        elif end and direction == "input":
            self._answered()

    def _answered(self) -> None:
        """Compare, and tell."""
        self._asking = False
        if self._broken or not self._defaults:
            return
        before, after = self.snapshot, Snapshot(self._side("input"), self._side("output"), self._asked_s)
        self.snapshot = after
        if before is None:
            if not self._was_away:
                return
            before = Snapshot()  # there is a server again
        if news := compare(before, after):
            self._on_news(news)

    def _side(self, direction: Direction) -> Side:
        names = self._names[direction]
        streams = {number: names[at][0] for number, at in self._placed[direction].items() if at in names}
        devices = {name: description for name, description, monitor in names.values() if not monitor}
        default, before = self._defaults[direction], self.snapshot
        same = before is not None and before.side(direction).default == default
        since_s = before.side(direction).default_s if same and before is not None else self._asked_s
        return Side(default, devices, streams, since_s if before is not None else 0.0)


def _text(value: bytes | None) -> str:
    return "" if value is None else value.decode("utf-8", "replace")
