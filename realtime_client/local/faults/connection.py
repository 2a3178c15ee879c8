"""A connection of the local server to which faults happen.

All of them strike in the session's thread: when it sends, and when it looks for what its client sent. So there is no
thread more, and what is due by the time comes late when the session is busy.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable
from typing import cast

from websockets.frames import Frame, Opcode
from websockets.server import ServerProtocol

from realtime_client.client.framing import Framing, ServerFraming
from realtime_client.client.stream import Stream
from realtime_client.deadline import Clock, Deadline
from realtime_client.errors import ConnectionLostError
from realtime_client.local.engine import AFTER_EXPIRY, EXPIRED
from realtime_client.local.gate import Admitted
from realtime_client.local.inbox import Ended, Inbox, Message, Thought
from realtime_client.local.wire import Connection, new_protocol
from realtime_client.protocol import events as ev
from realtime_client.protocol.codec import encode

from .fault import Fault, Side
from .line import Line
from .messages import Passage, in_fragments, typed
from .plan import Plan
from .stream import LOOK_S, FaultyStream

_log = logging.getLogger(__name__)
_WAKE = Thought(response_id="")
_MOST_PONGS = 1_000
_WRITE_S = 30.0


class FaultyProtocol(ServerProtocol):
    """The library's rules, but for pongs. keep_pong: told what is in one; True if it is not to be sent."""

    keep_pong: Callable[[bytes], bool] | None = None

    def send_frame(self, frame: Frame) -> None:
        """Send a frame, unless it is a pong that is kept."""
        if frame.opcode is not Opcode.PONG or self.keep_pong is None or not self.keep_pong(bytes(frame.data)):
            super().send_frame(frame)


class FaultyFraming(ServerFraming):
    """The server's framing, which can answer pings late and send a message in pieces."""

    def __init__(self) -> None:
        self.rules = cast("FaultyProtocol", new_protocol(FaultyProtocol))
        super().__init__(self.rules)

    def send_pong(self, payload: bytes) -> None:
        """Answer a ping that was kept."""
        with self._lock:
            if self.is_open:
                ServerProtocol.send_frame(self.rules, Frame(Opcode.PONG, payload))
                self._note()

    def send_frames(self, frames: bytes) -> None:
        """Send what are frames already."""
        with self._lock:
            if self.is_open:
                self.outgoing.append(frames)


class FaultyInbox(Inbox):
    """An inbox in which the session's thread sees to faults while it waits."""

    def __init__(self, connection: FaultyConnection) -> None:
        super().__init__()
        self._connection = connection
        self._passed: deque[bytes] = deque()
        self._woken = False

    def wake(self) -> None:
        """Let the session's thread look what is due."""
        if not self._woken:
            self._woken = True
            self.put_result(_WAKE)

    def get(self, timeout_s: float | None) -> Message | None:
        """Return the next message as the faults let it through; None when none came in time."""
        deadline = Deadline(timeout_s, self._clock)
        while True:
            due_s = self._connection.attend()
            if self._connection.expired:
                return None  # the session finds out
            if self._connection.frozen:
                if (ended := self._freeze()) is not None:
                    return ended
                continue
            if self._passed:
                return self._passed.popleft()
            message = super().get(deadline.remaining_s() if due_s is None else deadline.at_most_s(due_s))
            if message is _WAKE:
                self._woken = False
            elif isinstance(message, bytes):
                self._passed += self._connection.received(message)
            elif message is not None or deadline.expired:
                return message

    def _freeze(self) -> Ended | None:
        """Wait a while for the end alone."""
        with self._changed:
            if self._ended is None:
                self._changed.wait(self._connection.frozen_for_s)
            return self._ended


class FaultyConnection(Connection):
    """A client that was let in, and what its plan has for it."""

    inbox: FaultyInbox

    def __init__(self, stream: Stream, framing: Framing, admitted: Admitted, *, plan: Plan, clock: Clock) -> None:
        assert isinstance(stream, FaultyStream)
        assert isinstance(framing, FaultyFraming)
        self._plan = plan
        self._clock = clock
        self._began_s = clock.monotonic()
        self._stream = stream
        self._framing = framing
        self._ways = {"server": Passage(), "client": Passage()}
        self._over = False
        self._no_pongs_until_s = -math.inf
        self._pong_delay_s: float | None = None
        self._pongs: deque[tuple[float, bytes]] = deque()
        self.session_s = plan.expires_s()
        self._expires_s = math.inf if self.session_s is None else self.session_s
        inbox = FaultyInbox(self)
        stream.begin(Line(plan.chance), Line(plan.chance))
        stream.on_limit = self._decide
        stream.on_bytes = inbox.wake
        framing.rules.keep_pong = self._keep_pong
        self._at_once = plan.by_itself(0.0, 0, 0)  # the session's thread does what is left of it
        self._line_faults(self._at_once)
        self._still_faults(self._at_once)
        super().__init__(stream, framing, admitted, inbox)

    @property
    def _now_s(self) -> float:
        """Seconds since the handshake."""
        return self._clock.monotonic() - self._began_s

    @property
    def expired(self) -> bool:
        """Whether the time is over that a fault has left the session."""
        return not self._over and self._now_s >= self._expires_s

    @property
    def frozen(self) -> bool:
        """Whether nothing goes on here."""
        return self._stream.frozen

    @property
    def frozen_for_s(self) -> float | None:
        """How long to wait until the next look; None for ever."""
        return self._stream.frozen_for_s

    # --- the session's thread -----------------------------------------------------------------------------------------

    def attend(self) -> float | None:
        """Do what is due; return after how many seconds to look again, None if only a message can change something."""
        self._decide()
        try:
            self._answer_pings()
            self._stream.pump()
        except (OSError, ConnectionLostError):
            self.inbox.end(Ended(), drain=True)
        now_s = self._now_s
        moments = [self._plan.next_s(now_s), self._stream.next_s - self._began_s, self._expires_s]
        if self._pongs:
            moments.append(self._pongs[0][0])
        left_s = min(moments) - now_s
        return None if left_s == math.inf else min(LOOK_S, max(0.0, left_s))

    def received(self, frame: bytes) -> list[bytes]:
        """Return what reaches the session in place of a message of its client."""
        message = typed(frame)
        struck = self._at_message("client", message.type)
        self._line_faults(struck)
        self._still_faults(struck)
        frames = self._ways["client"].pass_on(frame, struck)
        for fault in struck:
            self._strike(fault, message.event_id)
        return [] if self._over else frames

    def send(self, frame: bytes) -> None:
        """Send a text message as the faults let it through. Errors: ConnectionLostError."""
        self._decide()
        if self._over:
            return
        kind = typed(frame).type
        struck = self._at_message("server", ev.BETA_ALIASES.get(kind, kind))
        self._line_faults(struck)
        self._still_faults(struck)  # who has this message is not read any more, or gets no pongs
        size = min((fault.size for fault in struck if fault.do == "split"), default=0)
        for each in self._ways["server"].pass_on(frame, struck):
            self._put(each, size)
        for fault in struck:
            self._strike(fault, None)

    def close(self, code: int = 1000, reason: str = "") -> None:
        """As any connection; one that stands still is not waited for."""
        self._stream.wind_up()
        super().close(code, reason)

    def _put(self, frame: bytes, size: int = 0) -> None:
        if not size:
            super().send(frame)
            return
        self._framing.send_frames(in_fragments(frame, size))
        try:
            self._wire.write_out(Deadline(_WRITE_S))
        except OSError as error:
            raise ConnectionLostError(f"the connection is lost: {error}") from error

    def _answer_pings(self) -> None:
        """Send the pongs that are late enough."""
        while self._pongs and self._pongs[0][0] <= self._now_s:
            self._framing.send_pong(self._pongs.popleft()[1])
            self._wire.write_out(Deadline(_WRITE_S))

    def _keep_pong(self, payload: bytes) -> bool:
        """Whether a pong is not sent now; from the receive thread."""
        now_s = self._now_s
        if now_s < self._no_pongs_until_s:
            if self._pong_delay_s is not None and len(self._pongs) < _MOST_PONGS:
                self._pongs.append((now_s + self._pong_delay_s, payload))
                self.inbox.wake()
            return True
        return False

    # --- faults -------------------------------------------------------------------------------------------------------

    def _at_message(self, side: Side, kind: str) -> list[Fault]:
        return self._plan.at_message(side, kind, self._now_s, self._stream.sent, self._stream.received)

    def _decide(self) -> None:
        """Let strike what is due without a message."""
        now_s, stream = self._now_s, self._stream
        at_once, self._at_once = self._at_once, []
        struck = [] if self._over else self._plan.by_itself(now_s, stream.sent, stream.received)
        stream.limit = math.inf if self._over else self._plan.next_sent(now_s)
        self._line_faults(struck)
        self._still_faults(struck)
        for fault in (*at_once, *struck):
            self._strike(fault, None)

    def _line_faults(self, struck: list[Fault]) -> None:
        """Let the line be late or narrow from now on, or for one message."""
        for fault in struck:
            if fault.of != "line":
                continue
            self._log(fault)
            now_s, until_s = self._clock.monotonic(), self._until_s(fault)
            with self._stream.lines:
                line = self._stream.into if fault.side == "client" else self._stream.out
                if fault.do == "bandwidth":
                    line.limit(fault.bytes_per_s, until_s=until_s)
                elif fault.do == "drip":
                    line.limit(fault.size / max(fault.every_s, 1e-6), fault.size, until_s)
                elif fault.event:
                    line.hold(now_s + fault.delay_s + fault.jitter_s * self._plan.chance.random())
                else:
                    line.delay(fault.delay_s, fault.jitter_s, until_s)

    def _still_faults(self, struck: list[Fault]) -> None:
        """Read no more, or answer no more pings, from now on."""
        for fault in struck:
            if fault.do in ("stall-reads", "half-open"):
                self._stream.stall(self._until_s(fault))
            elif fault.do in ("no-pongs", "late-pongs"):
                self._no_pongs_until_s = self._until_s(fault) - self._began_s
                self._pong_delay_s = fault.delay_s if fault.do == "late-pongs" else None

    def _until_s(self, fault: Fault) -> float:
        """Until when it lasts, by the clock."""
        return math.inf if fault.for_s is None else self._clock.monotonic() + fault.for_s

    def _strike(self, fault: Fault, event_id: str | None) -> None:
        """Do what does not concern single messages or the line. event_id: of the message that it answers."""
        if self._over or fault.of == "line":
            return
        self._log(fault)
        if fault.do in ("close", "rst", "eof", "expire"):
            self._end(fault)
        elif fault.do == "error":
            said = fault.message or fault.error
            detail = ev.ErrorDetail(type="invalid_request_error", code=fault.error, message=said, event_id=event_id)
            self._put(encode(ev.Error(event_id="event_fault", error=detail)))
        elif fault.do == "half-open":
            self._stream.freeze()

    def _end(self, fault: Fault) -> None:
        """Let the session end, and the connection as it is to."""
        ended = Ended()
        if fault.do == "close":
            ended = Ended(code=fault.code, reason=fault.reason)
        elif fault.do == "expire":
            self._put(encode(EXPIRED))
            ended = AFTER_EXPIRY
        elif fault.do == "rst":
            self._stream.reset()
        else:
            self._stream.finish()
        self._over = True
        self.inbox.end(ended)

    def _log(self, fault: Fault) -> None:
        _log.info("connection %d: %s at %.3f s", self._plan.number, fault.told, self._now_s)
