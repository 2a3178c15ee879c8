"""What is said while there is no connection: sound is kept until there is one, and recorded when it was said."""

from __future__ import annotations

import functools
import itertools
import threading
from collections.abc import Sequence
from typing import Any

from realtime_client import updates as up
from realtime_client.errors import ClosedError, QueueFullError
from realtime_client.protocol import events as ev
from realtime_client.protocol.restoration import is_again
from realtime_client.session.observers import RecorderProtocol

from .connection import Connection
from .endpoint import Endpoint
from .wired import WiredSession

_TURN_ENDS: dict[type, up.Update] = {
    ev.InputAudioBufferCommit: up.CommitSent(),
    ev.InputAudioBufferClear: up.InputCleared(),
}


class KeepingSession(WiredSession):
    """A session that may have no connection for a while.

    keep_audio_s: how much of the user's sound is kept until it is part of the conversation; 0: nothing.
    """

    def __init__(self, endpoint: Endpoint, *, keep_audio_s: float, **more: Any) -> None:
        super().__init__(endpoint, keep_audio_s=keep_audio_s, **more)
        self._present = threading.Event()  # there is a connection
        self._present.set()
        self.stop.wakes(self._present)

    @property
    def away(self) -> bool:
        """Whether the connection is lost, and another one is tried."""
        return self._conversation.away

    def _append(self, data: bytes, *, in_step: bool) -> None:
        """Send audio, or keep it until there is a connection."""
        connection, hub, conversation = self._connection, self._hub, self._conversation
        with hub.lock:
            away = conversation.away
            conversation.appended(len(data))
            conversation.keep(data)
            if away:
                self._keep_record([ev.InputAudioBufferAppend(audio=data)], self._clock.monotonic())
        if away:
            if in_step and not self.owns(threading.current_thread()):
                self._present.wait(self.limits.write_timeout_s)  # what comes faster than it is spoken can wait
            return
        try:
            connection.put(ev.InputAudioBufferAppend(audio=data))  # last, so that the send thread finds all of it done
        except (QueueFullError, ClosedError) as error:
            with hub.lock:
                lost = conversation.away or connection is not self._connection
                if not (lost and isinstance(error, ClosedError)):
                    conversation.appended(-len(data))
                    raise
                self._keep_record([ev.InputAudioBufferAppend(audio=data)], self._clock.monotonic())
            return
        if in_step:
            self._keep_step(connection, len(data) / self.input_format.bytes_per_ms)

    @property
    def in_step(self) -> bool:
        return not self.away and super().in_step

    def _keep_step(self, connection: Connection, ms: float) -> None:
        try:
            connection.keep_step(ms)
        except ClosedError:
            if not (self.away or connection is not self._connection):
                raise

    def _keep_record(self, unsent: Sequence[ev.ClientEvent], now: float) -> None:
        """Record what was to be sent of the user's sound and was not: it will be, as something recorded already."""
        if not self._hub.records:
            return
        for kind, events in itertools.groupby((event for event in unsent if not is_again(event)), type):
            if kind is ev.InputAudioBufferAppend:
                audio = b"".join(event.audio for event in events)  # type: ignore[attr-defined]
                self._hub.publish((), now, functools.partial(_kept, audio), len(audio))
            elif (meaning := _TURN_ENDS.get(kind)) is not None:
                for _ in events:
                    self._hub.publish((), now, functools.partial(_noticed, meaning))

    def _flush(self) -> None:
        if self._conversation.away:
            self._keep_record(self._conversation.commands, self._clock.monotonic())
        super()._flush()


def _noticed(update: up.Update, recorder: RecorderProtocol, at_s: float) -> None:
    recorder.noticed(update, at_s)


def _kept(audio: bytes, recorder: RecorderProtocol, at_s: float) -> None:
    recorder.kept(audio, at_s)
