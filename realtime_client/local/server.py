"""The local server: a WebSocket server that speaks the Realtime protocol, with built-in parts behind it."""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from realtime_client.deadline import SYSTEM_CLOCK, Clock, Deadline
from realtime_client.errors import ConnectionLostError, ShutdownError, UsageError
from realtime_client.loopback import is_loopback
from realtime_client.protocol import events as ev
from realtime_client.protocol.codec import encode
from realtime_client.protocol.server.conversation import ServerConversation, ServerLimits

from . import beta as beta_shape
from .ear_pool import EarPool
from .engine import Engine
from .gate import Gate, KeyWanted
from .helpers import Helpers
from .http import Answer, Refused, Request, read_body, read_request
from .inbox import Ended
from .keys import Keys
from .lobby import Lobby
from .parts import Parts

if TYPE_CHECKING:
    import socket
    from types import TracebackType

    from realtime_client.client.stream import Stream

    from .faults import Faults
    from .faults.door import FaultyDoor
    from .faults.plan import Plan
    from .wire import Connection, Listener

_log = logging.getLogger(__name__)
SESSION_S = 3_600.0
_OUT_OF_FILES_S = 0.1
_HANDSHAKES = 128  # connections that may be opening in addition to the sessions


class LocalServer:
    """A Realtime server on this machine.

    host: loopback unless given otherwise. port: 0 takes a free one (see `url`). token: what clients must present; None
    lets in everyone who can reach the port, except pages of other sites in a browser. beta: also speak the beta shape.
    parts: brain, ear, voice and speech model. pace: how much faster than real time answers come after their first two
    seconds (0: as fast as possible). max_sessions: beyond it HTTP 503. session_s: how long one session may last.
    shared_port: other processes of this user may listen on it, too, and the system shares out the clients; keys_in: the
    folder in which they share ephemeral keys. faults: what is to go wrong, and when, as `parse_faults` takes it. A
    context manager; `start` and `close` do the same by hand.

    MCP servers of a session are asked by a server on loopback alone: another one would lend its own network to whoever
    reaches it.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        token: str | None = None,
        *,
        beta: bool = False,
        parts: Parts | None = None,
        clock: Clock = SYSTEM_CLOCK,
        pace: float = 10.0,
        max_sessions: int = 1_000,
        session_s: float = SESSION_S,
        limits: ServerLimits | None = None,
        shared_port: bool = False,
        keys_in: str | None = None,
        faults: Faults | str | None = None,
    ) -> None:
        if token is not None and not token.strip():
            raise UsageError("the token is empty: give one, or none at all")
        if token is not None and not (token.isascii() and token.isprintable() and token == token.strip()):
            raise UsageError("no client could send this token: take visible ASCII characters")
        self._host = host
        self._port = port
        self._shared_port = shared_port
        self._keys = Keys(clock, Path(keys_in) if keys_in else None)
        self._gate = Gate(token=token, beta=beta, keys=self._keys)
        self._lobby = Lobby(_HANDSHAKES)
        self._parts = parts or Parts()
        self._clock = clock
        self._pace = pace
        self._max_sessions = max_sessions
        self._session_s = session_s
        self._limits = limits or ServerLimits()
        self._ears = EarPool(self._parts.ear)
        self._helpers = Helpers()
        self._door = _faulty_door(faults, clock)
        self._lock = threading.Lock()
        self._live: dict[threading.Thread, Stream] = {}
        self._sessions: set[Connection] = set()
        self._listener: Listener | None = None
        self._accept = threading.Thread(target=self._accept_clients, name="realtime-serve", daemon=True)
        self._closing = threading.Event()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._port

    @property
    def url(self) -> str:
        """Where clients connect: ws://127.0.0.1:PORT/v1/realtime."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"ws://{host}:{self._port}/v1/realtime"

    @property
    def loopback(self) -> bool:
        """True when only this machine can reach it."""
        return is_loopback(self._host)

    @property
    def sessions(self) -> int:
        """How many sessions are open."""
        with self._lock:
            return len(self._sessions)

    @property
    def struck(self) -> tuple[int, ...]:
        """How often each of its faults has struck, in their order."""
        return self._door.book.struck if self._door is not None else ()

    def start(self) -> None:
        """Listen, and accept clients in the background. Errors: UsageError when the address cannot be used."""
        from . import wire

        if self._listener is not None:
            raise UsageError("this server was started already")
        try:
            self._listener = wire.Listener(self._host, self._port, shared=self._shared_port)
        except (OSError, OverflowError) as error:
            raise UsageError(f"cannot listen on {self._host} port {self._port}: {error}") from None
        self._port = self._listener.port
        self._accept.start()

    def close(self, deadline_s: float = 5.0) -> None:
        """End all sessions with 1001 and join all threads; idempotent. Errors: ShutdownError names what is left."""
        with self._lock:
            first = not self._closing.is_set()
            self._closing.set()
            sessions = list(self._sessions)
        if not first or self._listener is None:
            return
        deadline = Deadline(deadline_s, self._clock)
        self._listener.close()
        self._accept.join(deadline.remaining_s())
        if self._door is not None:
            self._door.close()
        for connection in sessions:
            connection.inbox.end(Ended(code=1001, reason="The server is closing."))
        patience = Deadline(deadline_s * 0.6, self._clock)
        self._join_live(patience)
        with self._lock:
            stuck = list(self._live.values())
        for stream in stuck:
            stream.cut()
        left = self._join_live(deadline) + self._ears.close(deadline) + self._helpers.close(deadline)
        if self._accept.is_alive():
            left.append(self._accept)
        if hasattr(self._parts.brain, "close"):
            self._parts.brain.close()
        if left:
            raise ShutdownError(_describe(left), threads=tuple(thread.name for thread in left))

    def _join_live(self, deadline: Deadline) -> list[threading.Thread]:
        """Wait for the threads of connections; return those still running."""
        with self._lock:
            threads = list(self._live)
        for thread in threads:
            thread.join(deadline.remaining_s())
            if not thread.is_alive():
                with self._lock:
                    self._live.pop(thread, None)
        return [thread for thread in threads if thread.is_alive()]

    # --- one connection -----------------------------------------------------------------------------------------------

    def _accept_clients(self) -> None:
        assert self._listener is not None
        while True:
            try:
                sock = self._listener.accept()
            except OSError:  # too many open files, most likely: the next client may have more luck
                self._closing.wait(_OUT_OF_FILES_S)
                continue
            if sock is None:
                return
            self._take(sock)

    def _take(self, sock: socket.socket) -> None:
        """Give a client a thread of its own, known to `close`."""
        from realtime_client.client.stream import Stream

        stream = Stream(sock) if self._door is None else self._door.stream(sock)
        thread = threading.Thread(target=self._serve, args=(stream,), name="realtime-serve-session", daemon=True)
        if not self._lobby.enter(stream):
            stream.close()
            return
        with self._lock:
            most = self._max_sessions + 2 * _HANDSHAKES  # of which some were cut and are about to end
            started = not self._closing.is_set() and len(self._live) < most
            if started:
                self._live[thread] = stream
                try:
                    thread.start()
                except RuntimeError:  # no more threads
                    del self._live[thread]
                    started = False
        if not started:
            self._lobby.leave(stream)
            stream.close()

    def _serve(self, stream: Stream) -> None:
        """One client, from its request to its end."""
        from . import wire

        connection = None
        try:
            connection = self._greet(stream)
            if connection is not None:
                self._lobby.leave(stream)
                self._handle(connection)
            else:
                self._lobby.answered(stream)
                wire.part(stream)
        except OSError:
            _log.debug("a client went away in the handshake", exc_info=True)
        finally:
            stream.cut()
            self._lobby.leave(stream)
            with self._lock:
                if not self._closing.is_set():
                    self._live.pop(threading.current_thread(), None)
            if connection is None:  # a connection gives its stream back by itself
                stream.close()

    def _greet(self, stream: Stream) -> Connection | None:
        """Read a client's request and answer it; None for one that gets no session."""
        from . import wire

        deadline = Deadline(wire.OPEN_TIMEOUT_S)
        request = read_request(stream, deadline)
        if request is None:
            return None
        told = request if isinstance(request, Refused) else self._admit(stream, request, deadline)
        if isinstance(told, Refused):
            told = told.answer()
        if told is None or not isinstance(told, Answer):
            return told
        method = request.method if isinstance(request, Request) else ""
        stream.write_all(told.encode(method), deadline)
        return None

    def _admit(self, stream: Stream, request: Request, deadline: Deadline) -> Connection | Answer | Refused | None:
        """Do what a request asks for, unless a fault of this server is that it does not; None for no answer."""
        plan = self._door.admit(request) if self._door is not None else None
        if self._door is not None and plan is not None and (told := self._door.refuse(stream, plan)):
            return told if isinstance(told, Refused) else None
        return self._answer(stream, request, deadline, plan)

    def _answer(
        self, stream: Stream, request: Request, deadline: Deadline, plan: Plan | None
    ) -> Connection | Answer | Refused:
        """Do what a request asks for. plan: what is to go wrong with its connection."""
        from . import wire

        verdict = self._gate.check(request)
        if isinstance(verdict, Refused):
            return verdict
        if isinstance(verdict, KeyWanted):
            body = read_body(stream, request, deadline)
            self._lobby.heard(stream)
            return body if isinstance(body, Refused) else self._keys.mint(body)
        if self._closing.is_set() or self.sessions >= self._max_sessions:
            return Refused(status=503, code="server_busy", message="Too many sessions; try again later.")
        self._lobby.heard(stream)
        if self._door is not None and plan is not None:
            return self._door.shake_hands(stream, request, verdict, deadline, plan)
        return wire.shake_hands(stream, request, verdict, deadline)

    def _handle(self, connection: Connection) -> None:
        """Hold one session, in its own thread."""
        with self._lock:
            if self._closing.is_set():
                connection.inbox.end(Ended(code=1001, reason="The server is closing."))
            self._sessions.add(connection)
        goodbye = Ended(code=1000)
        try:
            goodbye = self._engine(connection).run()
        except ConnectionLostError:
            return  # the client is gone; there is nobody to tell
        except Exception as error:  # noqa: BLE001 - one session's fault must not be silent, nor end the others
            _log.error("a session failed: %s: %s", type(error).__name__, error)
            _log.debug("where it failed", exc_info=True)
            goodbye = Ended(code=1011, reason="internal error")
        finally:
            with self._lock:
                self._sessions.discard(connection)
            connection.close(goodbye.code or 1000, goodbye.reason)

    def _engine(self, connection: Connection) -> Engine:
        admitted = connection.admitted
        session_s = self._session_s if connection.session_s is None else connection.session_s

        def send(event: ev.ServerEvent) -> None:
            connection.send(encode(event))

        def send_beta(event: ev.ServerEvent) -> None:
            for frame in beta_shape.to_frames(event):
                connection.send(frame)

        conversation = ServerConversation(
            kind=admitted.kind,
            model=admitted.model,
            start=admitted.session,
            expires_at=int(self._clock.wall() + session_s),
            limits=self._limits,
        )

        def from_beta(event: Any) -> Any:
            return beta_shape.from_client(event, conversation.settings["type"])

        return Engine(
            conversation,
            connection.inbox,
            send_beta if admitted.beta else send,
            parts=self._parts,
            ears=self._ears,
            helpers=self._helpers,
            remote_tools=self.loopback,
            clock=self._clock,
            pace=self._pace,
            expires_at_s=self._clock.monotonic() + session_s,
            translate=from_beta if admitted.beta else None,
        )


def _faulty_door(faults: Faults | str | None, clock: Clock) -> FaultyDoor | None:
    """Return what makes connections faulty; None where nothing is to go wrong. Errors: UsageError."""
    if faults is None:
        return None
    from .faults.door import FaultyDoor  # only who asks for faults pays for them

    return FaultyDoor(faults, clock)


def _describe(threads: list[threading.Thread]) -> str:
    """Name threads and say where each one stands."""
    frames = sys._current_frames()  # noqa: SLF001 - the only way to see another thread's stack
    told = []
    for thread in threads:
        frame = frames.get(thread.ident or 0)
        where = traceback.extract_stack(frame)[-1] if frame is not None else None
        told.append(f"{thread.name} ({where.filename}:{where.lineno} {where.name})" if where else thread.name)
    return "threads of the local server did not end in time: " + ", ".join(told)
