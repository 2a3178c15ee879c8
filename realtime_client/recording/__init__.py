"""What lands on disk: sound, transcript and every event of a session, written as it happens."""

from __future__ import annotations

from .recorder import Recorder, audio_path
from .recover import RecoverReport, recover

__all__ = ["Recorder", "RecoverReport", "audio_path", "recover"]
