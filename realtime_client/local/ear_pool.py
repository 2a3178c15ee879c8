"""Worker threads that transcribe, shared by all sessions of a server."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable

from realtime_client.audio.g711 import decode
from realtime_client.audio.resample import resample
from realtime_client.deadline import Deadline
from realtime_client.updates import AudioFormat

from .ear import RATE_HZ, Ear

_log = logging.getLogger(__name__)
Answer = Callable[[str | None, str], None]
_Job = tuple[bytes, AudioFormat, Answer]


class EarPool:
    """A bounded queue in front of an ear.

    When it is full, `submit` answers at once that the ear is busy. Threads start with the first job.
    """

    def __init__(self, ear: Ear, *, workers: int = 1, capacity: int = 64) -> None:
        self._ear = ear
        self._jobs: queue.Queue[_Job | None] = queue.Queue(capacity)
        self._workers = workers
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._warm = False

    def warm_up(self) -> None:
        """Load the ear in the background; does nothing the second time, or when the queue is full."""
        with self._lock:
            if self._warm:
                return
            self._warm = True
        self._enqueue((b"", AudioFormat(), lambda _text, _message: None))

    def submit(self, audio: bytes, audio_format: AudioFormat, answer: Answer) -> None:
        """Transcribe in the background. answer(text, "") or answer(None, message) is called once, from any thread."""
        if not self._enqueue((audio, audio_format, answer)):
            answer(None, "too much speech is waiting to be transcribed")

    def _enqueue(self, job: _Job) -> bool:
        with self._lock:
            if self._closing.is_set():
                return False
            if not self._threads:
                self._start()
            try:
                self._jobs.put_nowait(job)
            except queue.Full:
                return False
        return True

    def _start(self) -> None:
        for number in range(self._workers):
            thread = threading.Thread(target=self._work, name=f"realtime-ear-{number}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _work(self) -> None:
        while not self._closing.is_set():
            job = self._jobs.get()
            if job is None:
                return
            audio, audio_format, answer = job
            try:
                text = self._hear(audio, audio_format)
            except Exception as error:  # noqa: BLE001 - a foreign ear may raise anything; the session must hear of it
                _log.warning("transcription failed: %s", error)
                answer(None, f"the ear failed: {type(error).__name__}")
            else:
                answer(text, "")

    def _hear(self, audio: bytes, audio_format: AudioFormat) -> str:
        if not audio:
            self._ear.warm_up()
            return ""
        pcm = audio if audio_format.encoding == "pcm16" else decode(audio, audio_format.encoding)
        return self._ear.transcribe(resample(pcm, audio_format.rate_hz, RATE_HZ))

    def close(self, deadline: Deadline) -> list[threading.Thread]:
        """End the workers after their current job; return those that did not end in time."""
        with self._lock:
            self._closing.set()
            threads, self._threads = self._threads, []
        while True:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                break
            if job is not None:
                job[2](None, "the server is closing")
        for _ in threads:
            self._jobs.put_nowait(None)
        for thread in threads:
            thread.join(deadline.remaining_s())
        return [thread for thread in threads if thread.is_alive()]
