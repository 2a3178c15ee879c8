"""The push-to-talk key in a terminal: held where the terminal reports releases, tapped everywhere. Pure.

Most terminals say only that a key was pressed. Those with the keyboard protocol of kitty can say more: asked with
`CSI ? u` they answer `CSI ? FLAGS u`; after `CSI > 2 u` ("report event types") what came before still comes as it did,
repeats and releases come as `CSI CODE ; MODIFIERS : EVENT u` (or with another last letter), where EVENT is 2 for a
repeat and 3 for a release, and `CSI < u` ends it. See "Comprehensive keyboard handling in terminals".
"""

from __future__ import annotations

import re

from realtime_client.deadline import SYSTEM_CLOCK, Clock
from realtime_client.talk.turns import TalkKey

ASK, ENABLE, DISABLE = "\x1b[?u", "\x1b[>2u", "\x1b[<u"
HELD_S = 0.4  # pressed for longer than this, the key is held, not tapped

_REPORT = re.compile(r"\x1b\[(?:\?(?P<flags>\d*)u|(?P<code>\d*);(?P<modifiers>\d*):(?P<event>\d)(?P<last>[A-Zu~]))")
_BARE_F = re.compile(r"\x1b\[(?P<last>[PQS])")
_UNFINISHED = re.compile(r"\x1b\[[?\d;:]*\Z")
_RELEASE = "3"


class KeyReports:
    """Takes the reports of the keyboard protocol out of what a terminal sends; the rest stays as if there were none.

    `answered` becomes True when the terminal answers `ASK`. Until then nothing is held back.
    """

    def __init__(self) -> None:
        self.answered = False
        self._rest = ""

    def feed(self, text: str) -> tuple[str, int]:
        """Return the text for the editor, and how often the talk key was released in it."""
        text, self._rest = self._rest + text, ""
        releases = 0

        def replace(found: re.Match[str]) -> str:
            nonlocal releases
            if found["flags"] is not None:
                self.answered = True
                return ""
            if found["event"] == _RELEASE:
                releases += _is_talk_key(found)
                return ""
            return _as_pressed(found)

        text = _REPORT.sub(replace, text)
        if self.answered:
            text = _BARE_F.sub(lambda found: f"\x1bO{found['last']}", text)
            if unfinished := _UNFINISHED.search(text):
                text, self._rest = text[: unfinished.start()], unfinished[0]
        return text, releases


def _is_talk_key(found: re.Match[str]) -> bool:
    """Tell whether it is F2 (`1...Q`, `12...~`) or Ctrl-Space (code 32 or 64; Ctrl may be let go first)."""
    return (found["code"], found["last"]) in (("1", "Q"), ("", "Q"), ("12", "~"), ("32", "u"), ("64", "u"))


def _as_pressed(found: re.Match[str]) -> str:
    """Return a press or repeat as it comes without the protocol. Keys of text repeat as text, not here."""
    if _is_talk_key(found) or found["last"] == "u":
        return ""
    code, modifiers = found["code"] or "1", found["modifiers"] or "1"
    if modifiers != "1":
        return f"\x1b[{code};{modifiers}{found['last']}"
    if found["last"] == "~":
        return f"\x1b[{code}~"
    return f"\x1b{'O' if found['last'] in 'PQS' else '['}{found['last']}"


class TalkSwitch:
    """What presses and releases of the key mean: a tap switches, a held key talks as long as it is held."""

    def __init__(self, key: TalkKey, clock: Clock = SYSTEM_CLOCK) -> None:
        self._key = key
        self._clock = clock
        self._began_s: float | None = None

    def press(self) -> None:
        """The key goes down, or was tapped as far as the terminal can tell."""
        if self._key.pressed:
            self._key.release()
            self._began_s = None
        else:
            self._key.press()
            self._began_s = self._clock.monotonic()

    def release(self) -> None:
        """The key goes up: if it was held, the turn ends."""
        began_s, self._began_s = self._began_s, None
        if began_s is not None and self._key.pressed and self._clock.monotonic() - began_s >= HELD_S:
            self._key.release()
