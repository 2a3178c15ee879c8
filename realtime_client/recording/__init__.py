"""What lands on disk: sound, transcript and every event of a session, written as it happens."""

from __future__ import annotations

from .folder import audio_path
from .recorder import Recorder
from .recover import RecoverReport, recover

__all__ = ["Recorder", "RecoverReport", "audio_path", "recover"]
