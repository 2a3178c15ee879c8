"""What tells speech from other sounds: the interface of a model, whoever has one."""

from __future__ import annotations

from typing import Protocol


class SpeechModel(Protocol):
    """Rates frames of one stream of PCM16 at 16 kHz, in order; `local.vad.SileroModel` is one."""

    frame_samples: int

    def rate(self, frame: bytes) -> float:
        """Return the probability (0..1) that this frame is speech."""
        ...
