"""Audio files in, of any kind; WAV and FLAC out.

Whatever libsndfile reads (WAV, FLAC, OGG, MP3, ...) becomes mono in the format that a session wants. A file is judged
once it was read to its end: a stated length is a promise, one that was estimated or left open is not. Everything that
can be wrong with a file is a UsageError of one line; what is odd about one that can be used is a note.
"""

from __future__ import annotations

import io
import stat
from pathlib import Path
from typing import Any, NamedTuple

from realtime_client.errors import UsageError
from realtime_client.logs import Log
from realtime_client.updates import AudioFormat

from . import g711
from .containers import closed, mp3_inside, ogg, sound_part
from .mpeg import chain
from .pcm import as_bytes
from .resample import check_rate, resample

_log = Log("audio")
_BLOCK = 4_096
_SLACK_S = 0.08  # one frame of MP3: some programs count the header's own
_LEAST_STREAM_S = 0.25  # fewer frames than this may stand in any file by chance
_CANCELLED = 0.09  # share of the power that unrelated channels keep when they are averaged
_LOUDEST_FLOAT = 16.0  # +24 dB: what goes beyond was not written in -1 to 1


class FileSound(NamedTuple):
    """Mono sound, and what is odd about the file it came from, in sentences."""

    audio: bytes
    notes: tuple[str, ...] = ()


class _Contents(NamedTuple):
    """Files that libsndfile reads to the end. cut: what is missing, '' for nothing. open_end: no end is marked."""

    pieces: tuple[bytes, ...]
    cut: str = ""
    open_end: bool = False


class _Decoded(NamedTuple):
    """Blocks of float32, a column a channel; of one channel in a known scale, int16 already, which is half as much.

    floats: the file holds floating-point samples, in whatever scale.
    """

    blocks: list[Any]
    rate_hz: int
    floats: bool
    cut: str


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

    What is odd about it is logged. Errors: UsageError when it is missing, a directory, empty, not audio, or cut off.
    """
    return _told(read_sound(path, fmt))


def decode_audio(data: bytes, name: str, fmt: AudioFormat) -> bytes:
    """Turn the bytes of an audio file into mono audio of this format. name: for messages. Errors: UsageError."""
    return _told(decode_sound(data, name, fmt))


def read_sound(path: str | Path, fmt: AudioFormat) -> FileSound:
    """Read as `read_audio`, with what is odd about the file. Errors: UsageError."""
    if not isinstance(fmt, AudioFormat):
        raise UsageError(f"the format must be an AudioFormat, as session.input_format, not {type(fmt).__name__}")
    path = Path(path)
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            what = "a directory" if path.is_dir() else "not a regular file"
            raise UsageError(f"{path} is {what}; an audio file is needed (WAV, FLAC, OGG, MP3)")
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"cannot read the audio file {path}: {reason}") from error
    return decode_sound(data, str(path), fmt)


def decode_sound(data: bytes, name: str, fmt: AudioFormat) -> FileSound:
    """Decode as `decode_audio`, with what is odd about the file: read to its end, and judged then.

    Errors: UsageError.
    """
    if not data:
        raise UsageError(f"the audio file {name} is empty")
    contents = _contents(data)
    notes: dict[str, None] = {}
    pieces: list[bytes] = []
    cut, seconds, rate_hz = contents.cut, 0.0, 0
    for piece in contents.pieces:
        decoded = _decode(piece, name)
        pcm = _to_mono16(decoded, name, notes)
        seconds += len(pcm) / 2 / decoded.rate_hz
        cut = cut or decoded.cut
        rate_hz = rate_hz or decoded.rate_hz
        pieces.append(pcm if decoded.rate_hz == rate_hz else resample(pcm, decoded.rate_hz, rate_hz))
    if cut:
        raise UsageError(f"the audio file {name} is cut off: {cut}; {seconds:.2f} s of sound could be read")
    if not seconds:
        raise UsageError(f"the audio file {name} holds no sound")
    if contents.open_end:
        notes[f"{name} has no end: it may be cut off; {seconds:.2f} s of sound were read"] = None
    return FileSound(transcode(b"".join(pieces), AudioFormat("pcm16", rate_hz), fmt), tuple(notes))


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


def write_audio(path: str | Path, audio: bytes, fmt: AudioFormat) -> None:
    """Write mono audio of any format as a .wav or .flac file of 16-bit PCM, in place of one that is there.

    Errors: UsageError for another ending of the name, or when it cannot be written.
    """
    path = Path(path)
    pcm = transcode(as_bytes(audio, fmt), fmt, AudioFormat("pcm16", fmt.rate_hz))
    if path.suffix.lower() == ".wav":
        write_wav(path, pcm, fmt.rate_hz)
        return
    if path.suffix.lower() != ".flac":
        raise UsageError(f"cannot write the audio file {path}: its name must end in .wav or .flac")
    import numpy as np
    import soundfile

    try:
        soundfile.write(path, np.frombuffer(pcm, "<i2"), fmt.rate_hz, format="FLAC")
    except (soundfile.SoundFileError, OSError) as error:
        raise UsageError(f"cannot write the audio file {path}: {error}") from error


def _told(sound: FileSound) -> bytes:
    for note in sound.notes:
        _log.warning(note)
    return sound.audio


# --- what is in a file ------------------------------------------------------------------------------------------------


def _contents(data: bytes) -> _Contents:
    """Return what to decode of a file, with its lengths corrected."""
    part = sound_part(data)
    if part is not None:
        there = max(0, len(data) - part.at)
        cut = "" if part.size is None or part.size <= there else f"{there} of {part.size} bytes of sound are there"
        inside = mp3_inside(data, part)
        if inside is not None:
            return _of_mp3(inside, cut) or _Contents((data,), cut)
        return _Contents((closed(data, part) if cut or part.size is None else data,), cut)
    streams = ogg(data)
    if streams is not None:
        cut = "its last page is not whole" if streams.torn else ""
        return _Contents(streams.links or (data,), cut, open_end=not streams.ended)
    if data[:1] == b"\xff" or (data[:3] == b"ID3" and b"fLaC" not in data[:65_536]):
        return _of_mp3(data, "") or _Contents((data,))
    return _Contents((data,))


def _of_mp3(data: bytes, cut: str) -> _Contents | None:
    """Return the stretches of an MP3; None where no chain of frames can be followed."""
    found = chain(data)
    for stretch in found.stretches:
        promised_s = stretch.promised_s or 0.0
        if not cut and promised_s - stretch.seconds > _SLACK_S:
            cut = f"{stretch.seconds:.2f} of {promised_s:.2f} s are there"
    if found.torn and not cut:
        cut = "its last frame is not whole"
    return _Contents(tuple(stretch.data for stretch in found.stretches), cut) if found.stretches else None


# --- libsndfile -------------------------------------------------------------------------------------------------------


class _Bytes(io.BytesIO):
    """A file that stays where it is when a damaged header leads nowhere; libsndfile then asks for the position."""

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place, if there is such a place."""
        try:
            return super().seek(offset, whence)
        except (ValueError, OverflowError):
            return self.tell()


def _decode(data: bytes, name: str) -> _Decoded:
    """Read with libsndfile to the end."""
    import soundfile

    broken = (soundfile.SoundFileError, RuntimeError, ValueError, TypeError)
    try:
        with _opened(data) as file:
            rate_hz, promised, floats = int(file.samplerate), int(file.frames), file.subtype in ("FLOAT", "DOUBLE")
            _check_rate(rate_hz, name)
            blocks, cut = _read_to_end(file, broken, compact=file.channels == 1 and not floats)
    except broken as error:
        raise UsageError(
            f"{name} is not an audio file that can be read (WAV, FLAC, OGG, MP3), or is damaged"
        ) from error
    count = sum(map(len, blocks))
    # Formats without a length of their own promise the largest number there is.
    if not cut and count < promised < 1 << 62:
        cut = f"it holds {count} of {promised} samples"
    return _Decoded(blocks, rate_hz, floats, cut)


def _read_to_end(file: Any, broken: tuple[type[Exception], ...], *, compact: bool) -> tuple[list[Any], str]:
    """Return blocks of samples, and what is missing, '' for nothing. compact: as int16."""
    file.seekable = lambda: False  # else soundfile seeks after each block, which confuses decoders
    blocks: list[Any] = []
    try:
        while len(block := file.read(_BLOCK, dtype="float32", always_2d=True)):
            blocks.append(_int16(block) if compact else block)
    except broken:
        return blocks, "the rest is missing or damaged"
    return blocks, ""


def _opened(data: bytes) -> Any:
    """Open with libsndfile; an MP3 that begins in the middle of a frame is opened at its first whole one."""
    import soundfile

    try:
        return soundfile.SoundFile(_Bytes(data))
    except soundfile.SoundFileError:
        stretches = chain(data).stretches
        if len(stretches) != 1 or stretches[0].seconds < _LEAST_STREAM_S:
            raise
        return soundfile.SoundFile(_Bytes(stretches[0].data))


def _check_rate(rate_hz: int, name: str) -> None:
    try:
        check_rate(rate_hz)
    except UsageError as error:
        raise UsageError(f"the audio file {name} cannot be used: {error}") from error


# --- one channel ------------------------------------------------------------------------------------------------------


def _to_mono16(decoded: _Decoded, name: str, notes: dict[str, None]) -> bytes:
    import numpy as np

    if not decoded.blocks:
        return b""
    if decoded.blocks[0].dtype == np.int16:
        return b"".join(decoded.blocks)
    samples = np.nan_to_num(np.concatenate(decoded.blocks), nan=0.0, posinf=1.0, neginf=-1.0)
    mono = (
        _scaled(_one_channel(samples, name, notes), name, notes)
        if decoded.floats
        else _one_channel(samples, name, notes)
    )
    return bytes(_int16(mono).tobytes())


def _int16(samples: Any) -> Any:
    """Return float samples in -1 to 1 as 16-bit integers, clipped."""
    import numpy as np

    return np.clip(np.rint(np.nan_to_num(samples) * 32_768.0), -32_768, 32_767).astype("<i2")


def _one_channel(samples: Any, name: str, notes: dict[str, None]) -> Any:
    """Average the channels; where they are each other's opposite, so that little is left, take the louder one."""
    import numpy as np

    if samples.shape[1] == 1:
        return samples[:, 0]
    mono = samples.mean(axis=1)
    power = np.mean(np.square(samples, dtype=np.float64), axis=0)
    if np.mean(np.square(mono, dtype=np.float64)) >= _CANCELLED * power.sum() / samples.shape[1] ** 2:
        return mono
    if not power.any():
        return mono
    louder = int(power.argmax())
    notes[f"the channels of {name} cancel each other out (opposite phase): channel {louder + 1} alone is taken"] = None
    return samples[:, louder]


def _scaled(mono: Any, name: str, notes: dict[str, None]) -> Any:
    """Return floating-point sound in -1 to 1, in whatever scale it was written. Errors: UsageError."""
    import numpy as np

    peak = float(np.abs(mono).max(initial=0.0))
    if peak <= _LOUDEST_FLOAT:
        return mono
    if peak > 32_768:
        raise UsageError(
            f"the audio file {name} cannot be used: its floating-point samples reach {peak:g}, and full scale is 1; "
            "save it as 16-bit PCM"
        )
    notes[f"the floating-point samples of {name} reach {peak:g}: they are taken in the scale of 16-bit sound"] = None
    return mono / 32_768.0
