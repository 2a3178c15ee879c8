"""The voice: text to speech, offline.

espeak-ng (GPL-3, through the extra `local`) is a formant synthesiser: robotic, quick and multilingual. Without it a
plain synthetic voice of tones takes its place, so that the audio path is exercised; it cannot be understood.
"""

from __future__ import annotations

import ctypes
import importlib.util
import logging
import math
import re
import threading
from collections.abc import Iterator
from typing import Any, ClassVar, Protocol

from realtime_client.errors import UsageError

from .sentences import sentences

_log = logging.getLogger(__name__)


class Voice(Protocol):
    """Text to speech. Called from session threads; several at a time."""

    rate_hz: int

    def speak(self, text: str, *, voice: str = "marin", speed: float = 1.0) -> Iterator[bytes]:
        """Yield PCM16 mono at `rate_hz`, phrase by phrase. Closing the iterator stops the work.

        voice: one of the protocol's names, unknown ones get the default. speed: 0.25 to 1.5, 1 is normal.
        """
        ...


# name: espeak voice, pitch (0..99, 50 is normal), words a minute
_ESPEAK = {
    "alloy": ("en-us", 50, 165),
    "ash": ("en-us+m3", 35, 160),
    "ballad": ("en-gb+m1", 45, 145),
    "coral": ("en-us+f2", 60, 165),
    "echo": ("en-us+m2", 30, 150),
    "sage": ("en-us+f4", 50, 155),
    "shimmer": ("en-us+f3", 75, 170),
    "verse": ("en-gb+m5", 40, 170),
    "marin": ("en-gb", 50, 160),
    "cedar": ("en-gb+m7", 25, 150),
}
_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


class EspeakVoice:
    """espeak-ng. One engine for each process, locked for one phrase at a time (a few milliseconds)."""

    _lock = threading.Lock()
    _library: ClassVar[Any] = None
    _callback: ClassVar[Any] = None  # kept alive for the library
    _audio = bytearray()
    _rate_hz: ClassVar[int] = 22_050

    def __init__(self) -> None:
        with self._lock:
            self._load()
        self.rate_hz = self._rate_hz

    def speak(self, text: str, *, voice: str = "marin", speed: float = 1.0) -> Iterator[bytes]:
        """Yield one piece of PCM16 for each phrase."""
        for phrase in sentences(text):
            yield self._synthesise(phrase, *_ESPEAK.get(voice, _ESPEAK["marin"]), speed)

    def speak_as(self, text: str, voice: str) -> bytes:
        """Return a whole text as PCM16. voice: one of the protocol's names, or one of espeak-ng's (`de`, `en-us+f3`).

        Errors: UsageError for a voice that espeak-ng does not have.
        """
        if voice in _ESPEAK:
            return b"".join(self.speak(text, voice=voice))
        with self._lock:
            self._initialise(self._library)
            try:
                if self._library.espeak_SetVoiceByName(voice.encode()):
                    raise UsageError(f"espeak-ng has no voice {voice!r}")
                return b"".join(self._sound(phrase, voice, 50, 160) for phrase in sentences(text))
            finally:
                self._initialise(self._library)  # one language leaves traces in the sound of the next; takes 1.5 ms

    @classmethod
    def _load(cls) -> None:
        if cls._library is not None:
            return
        import espeakng_loader

        library = ctypes.CDLL(espeakng_loader.get_library_path())
        cls._callback = _Callback(cls._collect)
        cls._rate_hz = cls._initialise(library)
        cls._library = library

    @classmethod
    def _initialise(cls, library: Any) -> int:
        """Begin, or begin anew; returns the sample rate."""
        import espeakng_loader

        if cls._library is not None:
            library.espeak_Terminate()
        # 2: synchronous retrieval; 0x8000: do not end the process when the data are missing.
        rate_hz = int(library.espeak_Initialize(2, 0, espeakng_loader.get_data_path().encode(), 0x8000))
        if rate_hz <= 0:
            raise OSError("espeak-ng does not find its data")
        library.espeak_SetSynthCallback(cls._callback)
        return rate_hz

    @classmethod
    def _collect(cls, samples: Any, count: int, _events: Any) -> int:
        if samples and count > 0:
            cls._audio += ctypes.string_at(samples, count * 2)
        return 0

    @classmethod
    def _synthesise(cls, phrase: str, name: str, pitch: int, words_per_minute: int, speed: float) -> bytes:
        with cls._lock:
            return cls._sound(phrase, name, pitch, round(words_per_minute * speed))

    @classmethod
    def _sound(cls, phrase: str, name: str, pitch: int, words_per_minute: int) -> bytes:
        """Synthesise; the caller holds the lock."""
        data, library = phrase.encode(), cls._library
        cls._audio.clear()
        library.espeak_SetVoiceByName(name.encode())
        library.espeak_SetParameter(1, max(80, min(450, words_per_minute)), 0)
        library.espeak_SetParameter(3, pitch, 0)
        # position 0 by character, to the end; flags 1: UTF-8.
        library.espeak_Synth(data, ctypes.c_size_t(len(data) + 1), 0, 1, 0, 1, None, None)
        return bytes(cls._audio)


class ToneVoice:
    """A plain synthetic voice: one tone for each syllable, with an envelope like speech."""

    rate_hz = 24_000
    _SYLLABLE_MS = 170
    _PAUSE_MS = 220

    def speak(self, text: str, *, voice: str = "marin", speed: float = 1.0) -> Iterator[bytes]:
        """Yield one piece of PCM16 for each phrase; its length goes with the text."""
        base_hz = 110 + 12 * (sum(voice.encode()) % 12)
        for phrase in sentences(text):
            yield self._phrase(phrase, base_hz, max(0.25, speed))

    def _phrase(self, phrase: str, base_hz: float, speed: float) -> bytes:
        import numpy as np

        count = sum(max(1, len(re.findall(r"[aeiouyäöü]+", word.lower()))) for word in phrase.split())
        size = round(self._SYLLABLE_MS / speed * self.rate_hz / 1000)
        time_s = np.arange(size) / self.rate_hz
        envelope = np.sin(np.linspace(0, math.pi, size)) ** 0.6
        pieces = []
        for index in range(count):
            pitch = base_hz * (1 + 0.12 * math.sin(index * 2.3)) * (1 - 0.15 * index / count)
            wave = sum(np.sin(2 * math.pi * pitch * k * time_s) / k for k in range(1, 6))
            pieces.append(envelope * wave * 5_000)
        pieces.append(np.zeros(round(self._PAUSE_MS / speed * self.rate_hz / 1000)))
        return np.concatenate(pieces).astype("<i2").tobytes()


def default_voice() -> Voice:
    """Return espeak-ng, or the tones where espeakng_loader is not installed or cannot be loaded."""
    if importlib.util.find_spec("espeakng_loader") is None:
        return ToneVoice()
    try:
        return EspeakVoice()
    except (ImportError, OSError, RuntimeError) as error:
        _log.warning("espeak-ng cannot be loaded (%s): answers are tones", error)
        return ToneVoice()
