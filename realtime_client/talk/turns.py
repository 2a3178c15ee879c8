"""Who ends a spoken turn: the server, by silence or by meaning, or the user, by a key."""

from __future__ import annotations

import enum

from realtime_client.changes import Changes, TurnEnd


class TurnMode(enum.StrEnum):
    """How a turn of the user ends."""

    SERVER_VAD = "server_vad"
    SEMANTIC_VAD = "semantic_vad"
    PUSH_TO_TALK = "ptt"


_TURN_ENDS: dict[TurnMode, TurnEnd] = {
    TurnMode.SERVER_VAD: "server_vad",
    TurnMode.SEMANTIC_VAD: "semantic_vad",
    TurnMode.PUSH_TO_TALK: "manual",
}


def changes_for(mode: TurnMode) -> Changes:
    """Return the change of session that a mode needs."""
    return Changes(turn_end=_TURN_ENDS[mode])


class TalkKey:
    """The push-to-talk key: what to do with the microphone's blocks while it is pressed and afterwards.

    `press` and `release` may come from any thread; `step` is asked once a block, by the microphone's thread, so that
    what was said until the release is sent before the commit. Pure.
    """

    def __init__(self) -> None:
        self.pressed = False
        self._open = False

    def press(self) -> None:
        """The user wants to speak."""
        self.pressed = True

    def release(self) -> None:
        """The user is done."""
        self.pressed = False

    def step(self) -> tuple[bool, bool, bool]:
        """What to do with the next block: (a turn begins here, the block is to be sent, the turn ends after it)."""
        pressed, was_open = self.pressed, self._open
        self._open = pressed
        return pressed and not was_open, pressed or was_open, was_open and not pressed
