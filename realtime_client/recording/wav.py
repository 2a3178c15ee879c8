"""WAV files that survive a kill.

A WAV header states sizes, and a program that dies leaves wrong ones. Here every write that reaches the file is followed
by a header that covers it, so the file opens at any moment; at most `HELD_S` of audio waits in memory. The header never
promises more than there is.
"""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path

HEADER_BYTES = 44
HELD_S = 0.2
_LARGEST = 0xFFFFFFFF - HEADER_BYTES  # the format's sizes have 32 bits: 12 hours of stereo at 24 kHz
_HEADER = struct.Struct("<4sI4s4sIHHIIHH4sI")


def header(rate_hz: int, channels: int, data_bytes: int) -> bytes:
    """Return the 44 bytes in front of PCM16 data (RIFF/WAVE, format tag 1)."""
    size = min(data_bytes, _LARGEST)
    frame = 2 * channels
    return _HEADER.pack(
        b"RIFF", size + 36, b"WAVE", b"fmt ", 16, 1, channels, rate_hz, rate_hz * frame, frame, 16, b"data", size
    )


def create_private(path: Path, *, new: bool = True) -> io.FileIO:
    """Open a file of mode 0600 for reading and writing, unbuffered. new: fail when it is there. Errors: OSError."""
    flags = os.O_RDWR | os.O_CREAT | (os.O_EXCL if new else 0) | getattr(os, "O_BINARY", 0)
    return io.FileIO(os.open(path, flags, 0o600), "r+b")


def create_with(path: Path, head: bytes) -> io.FileIO:
    """Make a private file that begins with these bytes and is never seen without them, however the program ends.

    Errors: OSError, also when the file is there.
    """
    if os.name == "nt":  # an open file cannot be renamed there
        file = create_private(path)
        write_all(file, head)
        return file
    new = path.with_name(f"{path.name}.new")
    file = create_private(new, new=False)
    try:
        file.truncate(0)
        write_all(file, head)
        _give_name(new, path)
    except BaseException:
        file.close()
        raise
    finally:
        new.unlink(missing_ok=True)
    return file


def _give_name(new: Path, path: Path) -> None:
    """Let a file have another name, which nobody else may have."""
    try:
        os.link(new, path)  # fails when it is there, unlike a rename
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        if path.exists():
            raise
        new.rename(path)


def write_all(file: io.FileIO, data: bytes | memoryview) -> None:
    """Write every byte; one write() may take only a part. Errors: OSError (disk full, ...)."""
    written = file.write(data) or 0
    while written < len(data):
        data = memoryview(data)[written:]
        written = file.write(data) or 0


class WavWriter:
    """One PCM16 file, written as the sound arrives. held_s: how much may wait in memory.

    later: there is no file before `begin`; until then it takes nothing but silence. Errors of every method: OSError.
    """

    def __init__(
        self, path: Path, rate_hz: int, channels: int = 1, *, held_s: float = HELD_S, later: bool = False
    ) -> None:
        self.path = path
        self.rate_hz = rate_hz
        self.frame_bytes = 2 * channels
        self.data_bytes = 0
        self.closed = False
        self._channels = channels
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._hold_bytes = int(held_s * rate_hz) * self.frame_bytes
        self._handle: io.FileIO | None = None
        self.begun = False
        if not later:
            self.begin()

    def begin(self) -> None:
        """Make the file, if it is not there yet, with the silence so far."""
        if self.begun:
            return
        self._handle = create_with(self.path, header(self.rate_hz, self._channels, 0))
        self.begun = True
        if self.data_bytes:
            self._handle.truncate(HEADER_BYTES + self.data_bytes)
            self._patch()

    @property
    def _file(self) -> io.FileIO:
        """The open file; opened again if it was let go of."""
        if self._handle is None:
            self._handle = create_private(self.path, new=False)
        return self._handle

    @property
    def frames(self) -> int:
        """Samples per channel so far."""
        return self.data_bytes // self.frame_bytes

    def write(self, pcm: bytes) -> None:
        """Append whole frames."""
        self._pending.append(pcm)
        self._pending_bytes += len(pcm)
        self.data_bytes += len(pcm)
        if self._pending_bytes >= self._hold_bytes:
            self.flush()

    def write_silence(self, frames: int) -> None:
        """Append silence; costs no disk where the file system has sparse files."""
        self.flush()
        self.data_bytes += frames * self.frame_bytes
        if not self.begun:
            return
        self._file.truncate(HEADER_BYTES + self.data_bytes)
        self._patch()

    def flush(self) -> None:
        """Write everything to the file, then update the header."""
        if not self._pending:
            return
        data = self._pending[0] if len(self._pending) == 1 else b"".join(self._pending)
        self._pending, self._pending_bytes = [], 0
        try:
            self._file.seek(HEADER_BYTES + self.data_bytes - len(data))
            write_all(self._file, data)
        except OSError:  # disk full: what did fit is sound, too
            there = self._file.seek(0, os.SEEK_END) - HEADER_BYTES
            self.data_bytes = there // self.frame_bytes * self.frame_bytes
            self._patch()
            raise
        self._patch()

    def read(self, offset: int, size: int) -> bytes:
        """Return bytes of the audio data; fewer at its end."""
        if offset + size > self.data_bytes - self._pending_bytes:
            self.flush()
        self._file.seek(HEADER_BYTES + offset)
        return self._file.read(max(0, min(size, self.data_bytes - offset))) or b""

    def overwrite(self, offset: int, pcm: bytes) -> None:
        """Replace bytes of the audio data that are there already."""
        self.flush()
        self._file.seek(HEADER_BYTES + offset)
        write_all(self._file, pcm)

    def truncate(self, data_bytes: int) -> None:
        """Forget everything after so many bytes of audio data."""
        self.flush()
        self.data_bytes = min(self.data_bytes, data_bytes)
        self._patch()  # first the header: it must never promise more than there is
        self._file.truncate(HEADER_BYTES + self.data_bytes)

    def close(self) -> None:
        """Finish the file. Idempotent."""
        if self.closed:
            return
        self.closed = True
        self.rest()

    def rest(self) -> None:
        """Finish the file for now; the next call that needs it opens it again. Few files can be open at once."""
        try:
            self.flush()
        finally:
            if self._handle is not None:
                self._handle.close()
                self._handle = None

    def _patch(self) -> None:
        self._file.seek(0)
        write_all(self._file, header(self.rate_hz, self._channels, self.data_bytes))


def repair_wav(path: Path) -> bool:
    """Make the header of a file written here fit its length. Returns whether it had to. Errors: OSError."""
    with create_private(path, new=False) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        head = file.read(HEADER_BYTES) or b""
        rate_hz, channels = 24_000, 1
        if len(head) == HEADER_BYTES and head[:4] == b"RIFF":
            channels, rate_hz = struct.unpack_from("<HI", head, 22)
        frame = 2 * max(1, channels)
        data_bytes = max(0, size - HEADER_BYTES) // frame * frame
        wanted = header(rate_hz, channels, data_bytes)
        if head == wanted and size == HEADER_BYTES + data_bytes:
            return False
        file.seek(0)
        write_all(file, wanted)
        file.truncate(HEADER_BYTES + data_bytes)
        return True


def to_flac(wav: Path) -> Path:
    """Write the same sound as FLAC beside the WAV, then remove the WAV; returns the new path.

    At every moment one of the two is there. Errors: OSError, soundfile.SoundFileError (the WAV stays).
    """
    import soundfile

    flac, part = wav.with_suffix(".flac"), wav.with_suffix(".part")
    try:
        with (
            create_private(part, new=False) as out,
            soundfile.SoundFile(wav) as source,
            soundfile.SoundFile(out, "w", source.samplerate, source.channels, "PCM_16", format="FLAC") as sink,
        ):
            for block in source.blocks(65_536, dtype="int16"):
                sink.write(block)
        part.replace(flac)
    finally:
        part.unlink(missing_ok=True)
    wav.unlink()
    return flac
