"""Server side: the input audio buffer, with positions in milliseconds of all audio appended this session."""

from __future__ import annotations

from realtime_client.updates import AudioFormat

from .checks import Refusal

MIN_COMMIT_MS = 100
MAX_APPEND_BYTES = 15 * 2**20


def odd_bytes(param: str) -> Refusal:
    """Return the refusal of audio that cuts a sample."""
    return Refusal(f"Invalid '{param}': PCM of 16 bits needs an even number of bytes.", param=param)


class InputBuffer:
    """Audio that was appended and not committed yet.

    max_bytes: bound of what is kept. When `sliding`, the oldest audio makes room (the server listens by itself, and
    silence needs no keeping); otherwise an append that does not fit is refused.
    """

    def __init__(self, audio_format: AudioFormat, *, max_bytes: int) -> None:
        self._data = bytearray()
        self._format = audio_format
        self._start_ms = 0.0
        self._max_bytes = max_bytes

    @property
    def format(self) -> AudioFormat:
        """How its bytes are to be read."""
        return self._format

    @property
    def start_ms(self) -> int:
        """Position of its first sample."""
        return int(self._start_ms)

    @property
    def end_ms(self) -> int:
        """Position after its last sample: how much audio was appended this session."""
        return int(self._start_ms + self._exact_ms(len(self._data)))

    @property
    def duration_ms(self) -> int:
        """Milliseconds held now."""
        return self._format.ms(len(self._data))

    def __len__(self) -> int:
        return len(self._data)

    def _exact_ms(self, size: int) -> float:
        return size * 1000 / (self._format.rate_hz * self._format.bytes_per_sample)

    def change_format(self, audio_format: AudioFormat) -> None:
        """Take audio of another format from now on; what was not committed is dropped, positions go on."""
        if audio_format != self._format:
            self._drop(len(self._data))
            self._format = audio_format

    def append(self, audio: bytes, *, sliding: bool) -> None:
        """Add audio. Errors: Refusal when it is too much at once, cuts a sample, or does not fit."""
        if len(audio) > MAX_APPEND_BYTES:
            raise Refusal("Invalid 'audio': at most 15 MiB per event.", param="audio")
        if len(audio) % self._format.bytes_per_sample:
            raise odd_bytes("audio")
        room = self._max_bytes - len(self._data)
        if len(audio) > room and not sliding:
            raise Refusal(
                f"The input audio buffer is full ({self._max_bytes} bytes): commit or clear it.",
                code="input_audio_buffer_full",
                param="audio",
            )
        self._data += audio
        if len(self._data) > self._max_bytes:
            self._drop(len(self._data) - self._max_bytes)

    def clear(self) -> None:
        """Drop what was not committed."""
        self._drop(len(self._data))

    def drop_before(self, at_ms: int) -> None:
        """Drop what is before a position."""
        self._drop(self._offset(at_ms))

    def take(self, until_ms: int | None = None) -> bytes:
        """Take out the audio up to a position, or all of it."""
        size = len(self._data) if until_ms is None else self._offset(until_ms)
        audio = bytes(self._data[:size])
        self._drop(size)
        return audio

    def _offset(self, at_ms: int) -> int:
        samples = round((at_ms - self._start_ms) * self._format.rate_hz / 1000)
        return max(0, min(len(self._data), samples * self._format.bytes_per_sample))

    def _drop(self, size: int) -> None:
        size -= size % self._format.bytes_per_sample
        self._start_ms += self._exact_ms(size)
        del self._data[:size]
