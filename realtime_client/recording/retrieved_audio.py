"""The sound of items that the server shows again: a file of its own, unless its turn's file is the same."""

from __future__ import annotations

from pathlib import Path

from realtime_client.updates import AudioFormat, Media

from .assistant_audio import AssistantAudio
from .folder import RETRIEVED
from .journal_line import AudioPlace
from .user_audio import UserAudio
from .wav import WavWriter


class RetrievedAudio:
    """Writes the files in `retrieved/`."""

    def __init__(self, folder: Path, user: UserAudio, assistant: AssistantAudio) -> None:
        self._folder = folder
        self._user = user
        self._assistant = assistant
        self._count = 0

    def keep(self, media: Media) -> AudioPlace:
        """Return where the sound is. Errors: OSError."""
        from realtime_client.audio.files import transcode

        fmt = self._user.format if media.who == "user" else self._assistant.format
        pcm = transcode(media.audio, fmt, AudioFormat("pcm16", fmt.rate_hz))
        pcm = pcm[: len(pcm) & ~1]
        known = self._assistant.same_sound(media.item_id, pcm)
        if known is not None:
            return AudioPlace(known, 0, len(pcm))
        (self._folder / RETRIEVED).mkdir(mode=0o700, exist_ok=True)
        self._count += 1
        name = f"{RETRIEVED}/{self._count:04}.wav"
        wav = WavWriter(self._folder / name, fmt.rate_hz)
        try:
            wav.write(pcm)
        finally:
            wav.close()
        return AudioPlace(name, 0, len(pcm))
