"""The user's audio in the server's input buffer, as far as the client counts it."""

from __future__ import annotations

from realtime_client.errors import UsageError
from realtime_client.updates import AudioFormat

from . import events as ev

MIN_COMMIT_MS = 100


class InputAudio:
    """How much was appended since the last commit, and whose commits are on their way."""

    def __init__(self) -> None:
        self._held_bytes = 0
        self._own_commits = 0  # asked for, not confirmed

    def appended(self, size_bytes: int) -> None:
        """Count audio that was appended."""
        self._held_bytes += size_bytes

    def require_enough(self, audio: AudioFormat) -> None:
        """Errors: UsageError below 100 ms, which servers refuse to commit."""
        held_ms = audio.ms(self._held_bytes)
        if held_ms < MIN_COMMIT_MS:
            raise UsageError(f"only {held_ms} ms of audio to commit: at least {MIN_COMMIT_MS} ms are needed")

    def sent(self, event: ev.ClientEvent) -> None:
        """Take note of a message about the buffer."""
        if isinstance(event, ev.InputAudioBufferAppend):
            self._held_bytes += len(event.audio)
        elif isinstance(event, ev.InputAudioBufferCommit | ev.InputAudioBufferClear):
            self._held_bytes = 0
            self._own_commits += isinstance(event, ev.InputAudioBufferCommit)

    def committed(self) -> bool:
        """The server has committed; returns whether this client asked for it."""
        if not self._own_commits:
            return False
        self._own_commits -= 1
        return True
