"""The ear: speech to text, offline.

pocketsphinx brings a general model of English. It understands natural-sounding voices tolerably and formant voices
(espeak) hardly at all, so each utterance is also decoded with a grammar of what people say to a demo
(`ear_grammar`), twice: with the cepstral mean of this utterance, and with the model's own. A reading by grammar counts
if it is a complete sentence of the grammar, was spoken at a plausible pace, fills the speech, and scores about as well
as the general reading. This is a demo ear: expect wrong words for anything unusual, noisy or not English.

The decoder holds Python's interpreter lock, so the long pass is fed in short pieces: other threads run between them.
"""

from __future__ import annotations

import importlib.util
import threading
from typing import Any, ClassVar, Protocol

from . import ear_grammar
from .ear_places import a_place

RATE_HZ = 16_000
_PADDING = bytes(RATE_HZ // 4 * 2)  # the decoder wants silence around an utterance
MAX_UTTERANCE_BYTES = 60 * RATE_HZ * 2  # the general model needs about 0.1 s for each second
_PIECE_BYTES = 3_200
_FRAMES_PER_S = 100
_SCORE_SHARE = 0.95


class Ear(Protocol):
    """Speech to text. Called from the server's worker threads, at most one call at a time for each worker."""

    def transcribe(self, pcm16_16k: bytes) -> str:
        """Return what was said in this audio (PCM16 mono, 16 kHz), '' when there are no words."""
        ...

    def warm_up(self) -> None:
        """Load what the first transcription would otherwise wait for."""
        ...


class DurationEar:
    """An ear that understands nothing: it reports how long someone spoke."""

    def transcribe(self, pcm16_16k: bytes) -> str:
        """Return for example `[speech, 2.1 s]`."""
        return f"[speech, {len(pcm16_16k) / 2 / RATE_HZ:.1f} s]"

    def warm_up(self) -> None:
        """Nothing to load."""


class PocketsphinxEar:
    """pocketsphinx with its own English model. One decoder for each process (about 180 MB), loaded when first needed.

    Of an utterance longer than a minute the first minute is transcribed. How many listen at a time on this machine is
    bounded: see `ear_places`.
    """

    _lock = threading.Lock()
    _decoders: ClassVar[tuple[Any, Any] | None] = None
    _mean: ClassVar[str] = ""

    def warm_up(self) -> None:
        """Load the decoder: about half a second."""
        with self._lock:
            self._load()

    def transcribe(self, pcm16_16k: bytes) -> str:
        """Return the words, lower case, without punctuation."""
        audio = _PADDING + pcm16_16k[:MAX_UTTERANCE_BYTES] + _PADDING
        with self._lock, a_place():
            grammar, decoder = self._load()
            by_grammar = [_decode(grammar, "demo", audio)]
            mean = grammar.get_cmn(False)
            by_grammar.append(_decode(decoder, "demo", audio, self._mean))
            general = _decode(decoder, "_default", audio, mean)
        speech_s = _speech_s(audio)
        fitting = [reading for reading in by_grammar if reading is not None and _believable(reading, speech_s)]
        best = max(fitting, key=lambda reading: reading[1], default=None)
        if best is not None and (general is None or best[1] >= _SCORE_SHARE * general[1]):
            return best[0]
        return general[0] if general is not None else ""

    @classmethod
    def _load(cls) -> tuple[Any, Any]:
        """Return the process's decoders: one that normalises each utterance by itself, one with both searches.

        With neither a given mean nor the utterance's own, the result would depend on what was heard before. Called
        under the lock.
        """
        if cls._decoders is None:
            from pocketsphinx import Decoder

            grammar = Decoder(samprate=RATE_HZ, loglevel="FATAL", lm=None, cmn="batch")
            decoder = Decoder(samprate=RATE_HZ, loglevel="FATAL")
            for each in (grammar, decoder):
                each.add_jsgf_string("demo", ear_grammar.jsgf())
            cls._mean = decoder.get_cmn(False)
            cls._decoders = (grammar, decoder)
        return cls._decoders


_Reading = tuple[str, float, float]  # words, score, seconds of words


def _decode(decoder: Any, search: str, audio: bytes, mean: str | None = None) -> _Reading | None:
    """Decode an utterance; with a cepstral mean given, in pieces, else at once with its own mean."""
    decoder.activate_search(search)
    decoder.start_utt()
    if mean is None:
        decoder.process_raw(audio, full_utt=True)
    else:
        decoder.set_cmn(mean)
        for start in range(0, len(audio), _PIECE_BYTES):
            decoder.process_raw(audio[start : start + _PIECE_BYTES])
    decoder.end_utt()
    best = decoder.hyp()
    if best is None or not best.hypstr:
        return None
    frames = sum(s.end_frame - s.start_frame + 1 for s in decoder.seg() if s.word[0].isalpha())
    return str(best.hypstr), float(best.score), frames / _FRAMES_PER_S


def _speech_s(audio: bytes) -> float:
    """Return the seconds from the first to the last loud 10 ms."""
    import numpy as np

    samples = np.frombuffer(audio, dtype="<i2").astype(np.float64)
    size = RATE_HZ // _FRAMES_PER_S
    frames = samples[: len(samples) // size * size].reshape(-1, size)
    levels = np.sqrt((frames * frames).mean(axis=1))
    loud = np.nonzero(levels > max(1.0, 0.05 * float(levels.max(initial=0.0))))[0]
    return (int(loud[-1]) - int(loud[0]) + 1) / _FRAMES_PER_S if len(loud) else 0.0


def _believable(reading: _Reading, speech_s: float) -> bool:
    """Tell a sentence of the grammar from a fragment, and from words laid over other speech."""
    words, _score, words_s = reading
    letters = len(words.replace(" ", ""))
    return ear_grammar.accepts(words) and 0.025 <= words_s / letters <= 0.16 and words_s >= 0.75 * speech_s


def default_ear() -> Ear:
    """Return pocketsphinx, or the ear that only reports durations where it is not installed."""
    if importlib.util.find_spec("pocketsphinx") is None:
        return DurationEar()
    return PocketsphinxEar()
