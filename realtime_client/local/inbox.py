"""The one thing a session waits for: a bounded queue of what its client sent and what its helpers found out."""

from __future__ import annotations

import threading
from collections import deque

import msgspec

from realtime_client.deadline import SYSTEM_CLOCK, Clock
from realtime_client.protocol.server.remote_tools import RemoteTool

MAX_FRAMES = 256
MAX_FRAME_BYTES = 32 * 2**20


class Transcribed(msgspec.Struct, frozen=True, kw_only=True):
    """The ear's answer. text is None when it failed; message says why."""

    item_id: str
    content_index: int
    text: str | None
    message: str = ""


class Thought(msgspec.Struct, frozen=True, kw_only=True):
    """The brain has said more of an answer."""

    response_id: str


class ToolsListed(msgspec.Struct, frozen=True, kw_only=True):
    """An MCP server's answer. tools is None when it cannot be used; message says why."""

    item_id: str
    tools: tuple[RemoteTool, ...] | None
    message: str = ""


class ToolReturned(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a call of a remote tool. output is None when it failed; message says why."""

    item_id: str
    output: str | None
    message: str = ""


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """Nothing more comes. code: how to close the connection, None when the client is gone already."""

    code: int | None = None
    reason: str = ""


Result = Transcribed | Thought | ToolsListed | ToolReturned
Message = bytes | Result | Ended


class Inbox:
    """Many writers, one reader.

    When it is full (256 frames, or 32 MiB of them), `put_frame` blocks, and so, in the end, do the client's sends.
    Results of helpers always fit; their number is bounded by the work that was asked for. Once ended, it takes nothing
    and gives only the end.
    """

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._messages: deque[bytes | Result] = deque()
        self._frames = 0
        self._bytes = 0
        self._ended: Ended | None = None
        self._drain = False

    def put_frame(self, frame: bytes) -> None:
        """Add a client's frame; blocks while full; drops it once ended."""
        with self._changed:
            while not self._ended and (self._frames >= MAX_FRAMES or self._bytes >= MAX_FRAME_BYTES):
                self._changed.wait()
            if self._ended is None:
                self._messages.append(frame)
                self._frames += 1
                self._bytes += len(frame)
                self._changed.notify_all()

    def put_result(self, result: Result) -> None:
        """Add what a helper found out; drops it once ended."""
        with self._changed:
            if self._ended is None:
                self._messages.append(result)
                self._changed.notify_all()

    def end(self, ended: Ended, *, drain: bool = False) -> None:
        """Nothing more comes. The first end counts. drain: what is queued is still given first."""
        with self._changed:
            if self._ended is None:
                self._ended, self._drain = ended, drain
                self._changed.notify_all()

    def get(self, timeout_s: float | None) -> Message | None:
        """Return the next message; None when none came in time. timeout_s: None for no limit."""
        until = None if timeout_s is None else self._clock.monotonic() + timeout_s
        with self._changed:
            while True:
                if self._ended is not None and not (self._drain and self._messages):
                    return self._ended
                if self._messages:
                    return self._pop()
                left = None if until is None else until - self._clock.monotonic()
                if left is not None and left <= 0:
                    return None
                self._changed.wait(left)

    def _pop(self) -> bytes | Result:
        message = self._messages.popleft()
        if isinstance(message, bytes):
            self._frames -= 1
            self._bytes -= len(message)
            self._changed.notify_all()
        return message
