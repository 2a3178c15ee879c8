"""Saying a whole utterance: in pieces, with the silence that ends the turn, at the speed of speech or faster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from realtime_client.audio.pcm import as_bytes, silence
from realtime_client.deadline import SYSTEM_CLOCK
from realtime_client.errors import UsageError
from realtime_client.updates import AudioFormat, Facts

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from .session import Session

CHUNK_MS = 100


def check_ask(text: str | None, audio: Buffer | None, facts: Facts) -> bytes | None:
    """Judge what `ask` is given; returns the audio, None for text. Errors: UsageError."""
    if (text is None) == (audio is None):
        raise UsageError("ask() needs either text or audio")
    if not facts.abilities.answers:
        raise UsageError("this session does not answer: it only writes down what it hears")
    data = None if audio is None else as_bytes(audio, facts.input_format)
    if data is not None and not data:
        raise UsageError("there is nothing to send: the audio is empty")
    return data


def pieces(audio: Buffer, fmt: AudioFormat, silence_ms: int = 0) -> Iterator[memoryview | bytes]:
    """Cut audio, and so much silence behind it, in pieces of 100 ms; nothing is copied."""
    size = fmt.bytes_per_ms * CHUNK_MS
    whole = memoryview(audio)
    for offset in range(0, len(whole), size):
        yield whole[offset : offset + size]
    for offset_ms in range(0, silence_ms, CHUNK_MS):
        yield silence(min(CHUNK_MS, silence_ms - offset_ms), fmt)


def say(session: Session, audio: Buffer, *, fast: bool, wait: Callable[[float], bool] | None = None) -> str | None:
    """Send a whole utterance and end the turn; returns the request for an answer, None where the other side makes it.

    fast: as quickly as the other end reads it; otherwise each piece has its moment on one schedule, so that delays do
    not add up. wait: sleeps so many seconds and returns whether to give up; default until the session ends.
    """
    facts, start_s = session.facts, SYSTEM_CLOCK.monotonic()
    wait = wait or session.stop.wait
    for number, piece in enumerate(pieces(audio, facts.input_format, facts.ending_silence_ms)):
        due_s = start_s + number * CHUNK_MS / 1000
        if wait(0.0 if fast else max(0.0, due_s - SYSTEM_CLOCK.monotonic())) or session.stop.is_set():
            return None
        session.send_audio(piece, in_step=fast)
    if facts.ending_silence_ms:
        return None
    session.commit()
    return session.respond()
