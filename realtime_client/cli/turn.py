"""One turn of a conversation: what goes in by text or by audio, and the answer followed to its end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from realtime_client import updates as up
from realtime_client.client.client import RealtimeClient
from realtime_client.deadline import SYSTEM_CLOCK, Clock, Deadline
from realtime_client.errors import RealtimeError, ResponseFailedError, TimeLimitError
from realtime_client.protocol.session import trailing_silence_ms
from realtime_client.session.stats import TurnStats

CHUNK_MS = 100
AUDIO_DELTAS = ("response.output_audio.delta", "response.audio.delta")
SPEECH_WAIT_S = 10.0
TRANSCRIPT_WAIT_S = 3.0
_SILENCE = {"ulaw": b"\xff", "alaw": b"\xd5"}


class TurnOutcome(msgspec.Struct):
    """What one turn brought. text and the rest are those of the last answer, if speech interrupted earlier ones.

    calls: how many tools it called. unreadable, unreadable_audio: messages that could not be read, and those of them
    that held sound.
    """

    text: str = ""
    heard: str = ""
    audio: bytearray = msgspec.field(default_factory=bytearray)
    status: str = ""
    reason: str | None = None
    error: str | None = None
    usage: up.Usage | None = None
    timings: TurnStats | None = None
    calls: int = 0
    unreadable: int = 0
    unreadable_audio: int = 0

    @property
    def empty(self) -> bool:
        """Whether it brought nothing at all."""
        return not (self.text.strip() or self.audio or self.calls)


class Feeder:
    """Sends audio as a microphone would, in a thread of its own.

    Each chunk has its moment on one schedule, so that delays do not add up. fast: as quickly as the server reads it.
    request: the id of the request for an answer, once it is made; None where the server answers by itself.
    """

    def __init__(self, client: RealtimeClient, audio: bytes, *, fast: bool, clock: Clock = SYSTEM_CLOCK) -> None:
        self.done = threading.Event()
        self.error: BaseException | None = None
        self.request: str | None = None
        self.fast = fast
        self._client = client
        self._audio = audio
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
        start_s = self._clock.monotonic()
        for number, chunk in enumerate(self._chunks(silence_ms)):
            due_s = start_s + number * CHUNK_MS / 1000
            wait_s = 0.0 if self.fast else max(0.0, due_s - self._clock.monotonic())
            if self._halt.wait(wait_s) or client.stop.is_set():
                return
            client.send_audio(chunk, in_step=self.fast)
        if not silence_ms:
            client.commit()
            self.request = client.respond()

    def _chunks(self, silence_ms: int) -> Iterator[memoryview | bytes]:
        """The audio, then the silence that ends the turn, in pieces of 100 ms; nothing is copied."""
        audio_format = self._client.input_format
        size = audio_format.bytes_per_ms * CHUNK_MS
        audio = memoryview(self._audio)
        for offset in range(0, len(audio), size):
            yield audio[offset : offset + size]
        quiet = _SILENCE.get(audio_format.encoding, b"\0")
        for offset_ms in range(0, silence_ms, CHUNK_MS):
            yield quiet * (audio_format.bytes_per_ms * min(CHUNK_MS, silence_ms - offset_ms))


class TurnFollower:
    """Follows the updates of one turn to its end, showing the answer's text as it comes.

    What became of it is decided by the updates in their order alone. show: takes the answer's text. tell: takes a line
    for people about something that is not part of the answer.
    """

    def __init__(
        self,
        client: RealtimeClient,
        show: Callable[[str], None],
        feeder: Feeder | None = None,
        tell: Callable[[str], None] = lambda _line: None,
    ) -> None:
        self.turn = TurnOutcome()
        self._client = client
        self._show = show
        self._tell = tell
        self._feeder = feeder
        self._request: str | None = None
        self._current: str | None = None  # the answer that is followed
        self._open: set[str] = set()  # answers that run
        self._speaking = False
        self._heard_speech = False
        self._transcripts: dict[str, str | None] = {}  # of the committed items; None while it is awaited
        self._answered = False
        self._complaint: up.Failure | None = None  # what the server said that is about no request of ours
        self._part: tuple[str, int] | None = None

    def follow(self, start: Callable[[], object], timeout_s: float) -> TurnOutcome:
        """Run `start`, then follow until the answer is complete.

        timeout_s: counts from the moment when all has been sent; a server that reads slowly takes its time before.
        Errors: TimeLimitError; ResponseFailedError; ConnectionLostError; what the feeder met with.
        """
        client = self._client
        with client.updates(timeout_s=0.5) as updates:
            start()
            deadline = Deadline(timeout_s if self._feeder is None else None)
            if self._feeder is None:
                self._request = client.last_request
            silent_since: Deadline | None = None
            while not self._complete():
                try:
                    self._take(next(updates))
                except TimeoutError:
                    pass  # the reasons to stop waiting are looked at below
                except StopIteration:
                    raise client.over() from None
                if self._fed() and silent_since is None:
                    silent_since, deadline = Deadline(SPEECH_WAIT_S), Deadline(timeout_s)
                self._give_up(silent_since, deadline, timeout_s)
            self._await_transcripts(updates)
        self.turn.heard = " ".join(text for text in self._transcripts.values() if text)
        return self.turn

    def _fed(self) -> bool:
        if self._feeder is None or not self._feeder.done.is_set():
            return False
        if self._feeder.error is not None:
            raise self._feeder.error
        if self._request is None and self._feeder.request is not None:
            self._request = self._feeder.request
            if self._complaint is not None:
                self._failed(self._complaint)  # it may have come before the request was known here
        return True

    def _complete(self) -> bool:
        fed = self._feeder is None or self._fed()
        return self._answered and fed and not self._speaking and not self._open

    def _give_up(self, silent_since: Deadline | None, deadline: Deadline, timeout_s: float) -> None:
        complaint = self._complaint
        said = f"; the server says: {complaint.message or complaint.code}" if complaint is not None else ""
        waiting_for_speech = self._request is None and silent_since is not None and silent_since.expired
        if waiting_for_speech and not (self._heard_speech or self._answered or self._open):
            raise RealtimeError(f"the server heard no speech in the audio{said}")
        if deadline.expired:
            raise TimeLimitError(f"no complete answer within {timeout_s:g} s (see --timeout){said}")

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
            except (StopIteration, RealtimeError):
                return  # the answer is there: how the session ended is no matter of this turn

    def _take(self, update: up.Update) -> None:
        match update:
            case up.TextDelta() if update.response_id == self._current:
                part = (update.item_id, update.content_index)
                self._show(update.text if self._part in (None, part) else "\n" + update.text)
                self._part = part
            case up.AudioDelta() if update.response_id == self._current:
                self.turn.audio += update.audio
            case up.ToolCall() if update.response_id == self._current:
                self.turn.calls += 1
            case up.ResponseStarted(out_of_band=False):
                self._begin(update)
            case up.ResponseDone(out_of_band=False):
                self._open.discard(update.response_id)
                if update.response_id == self._current:
                    self._finish(update)
            case up.Failure():
                self._failed(update)
            case up.Malformed():
                self.turn.unreadable += 1
                self.turn.unreadable_audio += update.event_type in AUDIO_DELTAS
            case up.Notice():
                self._tell(update.message)
            case _:
                self._hear(update)

    def _hear(self, update: up.Update) -> None:
        """What the server made of the user's audio."""
        match update:
            case up.SpeechStarted():
                self._speaking = self._heard_speech = True
            case up.SpeechStopped():
                self._speaking = self._answered = False
            case up.InputCommitted():
                self._speaking, self._heard_speech, self._answered = False, True, False
                self._transcripts.setdefault(update.item_id, None)
            case up.UserTranscript():
                self._transcripts[update.item_id] = update.text.strip()
            case up.UserTranscriptFailed():
                self._transcripts[update.item_id] = ""
            case _:
                pass

    def _begin(self, started: up.ResponseStarted) -> None:
        if self._request is not None and started.request_id != self._request:
            return  # somebody else's answer
        if self._request is not None and self._current is not None:
            self._open.discard(self._current)  # it only seemed to be ours
        self._open.add(started.response_id)
        self._current = started.response_id
        self.turn.audio.clear()
        self.turn.calls = 0
        self._answered = False

    def _failed(self, failure: up.Failure) -> None:
        ours = self._request is not None and failure.event_id == self._request
        if failure.code == up.REQUEST_CANCELLED:
            if ours:
                raise ResponseFailedError(failure.message, code=failure.code)
        elif failure.benign:
            if ours and self._current is not None:  # what began was the server's own answer: ours is still to come
                self._open.discard(self._current)
                self._current = None
        elif ours:
            raise ResponseFailedError(failure.message or failure.code or "the request was refused", code=failure.code)
        elif failure is not self._complaint:
            self._complaint = failure
            self._tell(f"the server reports: {failure.message or failure.code}")

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
