"""Audio files in, in whatever form; WAV out.

Whatever libsndfile reads (WAV, FLAC, OGG, MP3, ...) becomes mono in the format that a session wants. Everything that
can be wrong with a file is a UsageError of one line.
"""

from __future__ import annotations

import io
import stat
from pathlib import Path
from typing import Any

from realtime_client.errors import UsageError
from realtime_client.updates import AudioFormat

from . import g711
from .resample import check_rate, resample

_STREAMED = {0, 0x7FFFFFFF, 0xFFFFFFFF}  # sizes that a program writes when it cannot go back to the header


def transcode(audio: bytes, from_fmt: AudioFormat, to_fmt: AudioFormat) -> bytes:
    """Return audio in another format (mono; PCM16, mu-law, A-law; any rate). Errors: UsageError."""
    if from_fmt == to_fmt:
        return audio
    pcm = audio if from_fmt.encoding == "pcm16" else g711.decode(audio, from_fmt.encoding)
    if from_fmt.rate_hz != to_fmt.rate_hz:
        pcm = resample(pcm, from_fmt.rate_hz, to_fmt.rate_hz)
    return pcm if to_fmt.encoding == "pcm16" else g711.encode(pcm, to_fmt.encoding)


def read_audio(path: str | Path, fmt: AudioFormat) -> bytes:
    """Read an audio file as mono audio of this format; several channels are averaged.

    Errors: UsageError when it is missing, a directory, empty, not audio, or cut off.
    """
    path = Path(path)
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            what = "a directory" if path.is_dir() else "not a regular file"
            raise UsageError(f"{path} is {what}; an audio file is needed (WAV, FLAC, OGG, MP3)")
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"cannot read the audio file {path}: {reason}") from error
    return decode_audio(data, str(path), fmt)


def decode_audio(data: bytes, name: str, fmt: AudioFormat) -> bytes:
    """Turn the bytes of an audio file into mono audio of this format. name: for messages. Errors: UsageError."""
    if not data:
        raise UsageError(f"the audio file {name} is empty")
    _refuse_cut_wav(data, name)
    pcm, rate_hz = _decode(data, name)
    if not pcm:
        raise UsageError(f"the audio file {name} holds no sound")
    return transcode(pcm, AudioFormat("pcm16", rate_hz), fmt)


def write_wav(path: str | Path, pcm: bytes, rate_hz: int, channels: int = 1) -> None:
    """Write PCM16 as a WAV file, in place of one that is there. Errors: UsageError when it cannot be written."""
    import wave

    try:
        with Path(path).open("wb") as raw, wave.open(raw, "wb") as file:
            file.setnchannels(channels)
            file.setsampwidth(2)
            file.setframerate(rate_hz)
            file.writeframes(pcm)
    except OSError as error:
        raise UsageError(f"cannot write the audio file {path}: {error.strerror or error}") from error


def _decode(data: bytes, name: str) -> tuple[bytes, int]:
    """Read with libsndfile: mono PCM16 and its rate."""
    import soundfile

    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            rate_hz, promised = int(file.samplerate), int(file.frames)
            try:
                check_rate(rate_hz)
            except UsageError as error:
                raise UsageError(f"the audio file {name} cannot be used: {error}") from error
            samples = file.read(dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, RuntimeError, ValueError, TypeError) as error:
        raise UsageError(
            f"{name} is not an audio file that can be read (WAV, FLAC, OGG, MP3), or is damaged"
        ) from error
    # Formats without a length of their own promise the largest number there is.
    if len(samples) < promised < 1 << 62:
        raise UsageError(f"the audio file {name} is cut off: it holds {len(samples)} of {promised} samples")
    return _to_mono16(samples), rate_hz


def _to_mono16(samples: Any) -> bytes:
    import numpy as np

    mono = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1)
    mono = np.nan_to_num(mono, nan=0.0, posinf=1.0, neginf=-1.0)
    return bytes(np.clip(np.rint(mono * 32_768.0), -32_768, 32_767).astype("<i2").tobytes())


def _refuse_cut_wav(data: bytes, name: str) -> None:
    """Find a WAV whose data chunk is shorter than it says: libsndfile reads such a file without a word."""
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        return
    at = 12
    while at + 8 <= len(data):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        if data[at : at + 4] == b"data":
            there = len(data) - at - 8
            if size > there and size not in _STREAMED and size < 0xFFFFF000:
                raise UsageError(f"the audio file {name} is cut off: {there} of {size} bytes of sound are there")
            return
        at += 8 + size + (size & 1)
