"""One turn of a conversation: what goes in by text or by audio, and the answer followed to its end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from realtime_client import updates as up
from realtime_client.client.client import RealtimeClient
from realtime_client.client.stats import TurnStats
from realtime_client.deadline import SYSTEM_CLOCK, Clock, Deadline
from realtime_client.errors import ClosedError, RealtimeError, ResponseFailedError
from realtime_client.protocol.session import trailing_silence_ms

CHUNK_MS = 100
SPEECH_WAIT_S = 5.0
TRANSCRIPT_WAIT_S = 3.0
_SILENCE = {"ulaw": b"\xff", "alaw": b"\xd5"}


class Turn(msgspec.Struct):
    """What one turn brought. text and the rest are those of the last answer, if speech interrupted earlier ones."""

    text: str = ""
    heard: str = ""
    audio: bytearray = msgspec.field(default_factory=bytearray)
    status: str = ""
    reason: str | None = None
    error: str | None = None
    usage: up.Usage | None = None
    timings: TurnStats | None = None


class Feeder:
    """Sends audio as a microphone would, in a thread of its own.

    Each chunk has its moment on one schedule, so that delays do not add up. fast: as quickly as the outbox takes it.
    """

    def __init__(self, client: RealtimeClient, audio: bytes, *, fast: bool, clock: Clock = SYSTEM_CLOCK) -> None:
        self.done = threading.Event()
        self.error: BaseException | None = None
        self._client = client
        self._audio = audio
        self._fast = fast
        self._clock = clock
        self._halt = threading.Event()

    @contextmanager
    def running(self) -> Iterator[Feeder]:
        """Feed while the block runs."""
        thread = threading.Thread(target=self._run, name="realtime-feeder")
        thread.start()
        try:
            yield self
        finally:
            self._halt.set()
            thread.join()

    def _run(self) -> None:
        try:
            self._feed()
        except BaseException as error:  # noqa: BLE001  # raised where the turn is followed
            self.error = error
        finally:
            self.done.set()

    def _feed(self) -> None:
        client = self._client
        silence_ms = trailing_silence_ms(client.settings)
        quiet = _SILENCE.get(client.input_format.encoding, b"\0")
        audio = self._audio + quiet * (client.input_format.bytes_per_ms * silence_ms)
        size = client.input_format.bytes_per_ms * CHUNK_MS
        start_s = self._clock.monotonic()
        for number, offset in enumerate(range(0, len(audio), size)):
            due_s = start_s + number * CHUNK_MS / 1000
            wait_s = 0.0 if self._fast else max(0.0, due_s - self._clock.monotonic())
            if self._halt.wait(wait_s) or client.stop.is_set():
                return
            client.send_audio(audio[offset : offset + size])
        if not silence_ms:
            client.commit()
            client.respond()


class TurnFollower:
    """Follows the updates of one turn to its end, showing the answer's text as it comes."""

    def __init__(self, client: RealtimeClient, show: Callable[[str], None], feeder: Feeder | None = None) -> None:
        self.turn = Turn()
        self._client = client
        self._show = show
        self._feeder = feeder
        self._speaking = False
        self._heard_speech = False
        self._transcripts: dict[str, str | None] = {}  # of the committed items; None while it is awaited
        self._answered = False
        self._failure: up.Failure | None = None
        self._part: tuple[str, int] | None = None

    def follow(self, start: Callable[[], object], timeout_s: float) -> Turn:
        """Run `start`, then follow until the answer is complete.

        Errors: TimeoutError as RealtimeError; ResponseFailedError; ConnectionLostError; what the feeder met with.
        """
        client = self._client
        deadline = Deadline(timeout_s)
        with client.updates(timeout_s=0.5) as updates:
            start()
            silent_since: Deadline | None = None
            while not self._complete():
                try:
                    self._take(next(updates))
                except TimeoutError:
                    pass  # the reasons to stop waiting are looked at below
                except StopIteration:
                    raise client.error or ClosedError("the session ended before the answer") from None
                if self._fed() and silent_since is None:
                    silent_since = Deadline(SPEECH_WAIT_S)
                self._give_up(silent_since, deadline, timeout_s)
            self._await_transcripts(updates)
        self.turn.heard = " ".join(text for text in self._transcripts.values() if text)
        return self.turn

    def _fed(self) -> bool:
        if self._feeder is not None and self._feeder.done.is_set():
            if self._feeder.error is not None:
                raise self._feeder.error
            return True
        return False

    def _complete(self) -> bool:
        fed = self._feeder is None or self._fed()
        return self._answered and fed and not self._speaking and not self._client.answering

    def _give_up(self, silent_since: Deadline | None, deadline: Deadline, timeout_s: float) -> None:
        if silent_since is not None and silent_since.expired and not (self._heard_speech or self._answered):
            raise RealtimeError("the server heard no speech in the audio")
        failure, fed = self._failure, self._feeder is None or self._fed()
        if failure is not None and fed and not self._answered and not self._client.answering:
            raise ResponseFailedError(failure.message, code=failure.code)
        if deadline.expired:
            raise RealtimeError(f"no complete answer within {timeout_s:g} s (see --timeout)")

    def _await_transcripts(self, updates: Any) -> None:
        """Transcripts of the user's audio come when they come; wait a little for those still due."""
        if not member(self._client.settings, "audio", "input", "transcription"):
            return
        deadline = Deadline(TRANSCRIPT_WAIT_S)
        while None in self._transcripts.values() and not deadline.expired:
            try:
                self._take(next(updates))
            except TimeoutError:
                continue
            except StopIteration:
                return

    def _take(self, update: up.Update) -> None:
        turn = self.turn
        match update:
            case up.SpeechStarted():
                self._speaking = self._heard_speech = True
            case up.InputCommitted():
                self._speaking, self._heard_speech, self._answered = False, True, False
                self._transcripts.setdefault(update.item_id, None)
            case up.UserTranscript():
                self._transcripts[update.item_id] = update.text.strip()
            case up.UserTranscriptFailed():
                self._transcripts[update.item_id] = ""
            case up.ResponseStarted(out_of_band=False):
                turn.audio.clear()
                self._answered = False
            case up.TextDelta():
                part = (update.item_id, update.content_index)
                self._show(update.text if self._part in (None, part) else "\n" + update.text)
                self._part = part
            case up.AudioDelta():
                turn.audio += update.audio
            case up.Failure(benign=False):
                self._failure = update
            case up.ResponseDone(out_of_band=False):
                self._finish(update)
            case _:
                pass

    def _finish(self, done: up.ResponseDone) -> None:
        turn = self.turn
        turn.text, turn.status, turn.reason, turn.error = done.text, done.status, done.reason, done.error
        turn.usage = done.usage
        turns = self._client.stats().turns
        turn.timings = next((t for t in reversed(turns) if t.response_id == done.response_id), None)
        self._answered = True


def member(node: Any, *keys: str) -> Any:
    """Return a member at some depth of JSON objects, None where there is none."""
    for key in keys:
        node = node.get(key) if isinstance(node, dict) else None
    return node
