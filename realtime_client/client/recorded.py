"""What a recorder gets of the wire: the frame, the sound in it, what it meant. Called by the audio thread."""

from __future__ import annotations

from collections.abc import Sequence

from realtime_client import updates as up
from realtime_client.protocol import events as ev
from realtime_client.protocol.media import meaning_of, media_of
from realtime_client.session.observers import RecorderProtocol

AnyEvent = ev.Event | ev.UnknownEvent | ev.MalformedEvent


def received(
    events: Sequence[AnyEvent],
    frames: Sequence[bytes],
    meant: Sequence[Sequence[up.Update]],
    recorder: RecorderProtocol,
    at_s: float,
) -> None:
    """Give a recorder what arrived together."""
    for event, frame, updates in zip(events, frames, meant, strict=True):
        recorder.received(frame, media_of(event, frame), updates, at_s)


def sent(events: Sequence[ev.ClientEvent], frames: Sequence[bytes], recorder: RecorderProtocol, at_s: float) -> None:
    """Give a recorder what left together."""
    for event, frame in zip(events, frames, strict=True):
        recorder.sent(frame, media_of(event, frame), meaning_of(event), at_s)
