"""What a sound server says about its devices and our streams, and what changed between two looks. Pure."""

from __future__ import annotations

from typing import Literal

import msgspec

from realtime_client.audio.devices import Direction

_LATELY_S = 5.0  # the default changes first, then streams are moved
_DIRECTIONS: tuple[Direction, ...] = ("input", "output")


class Side(msgspec.Struct, frozen=True):
    """One direction at one moment.

    default: name of the default device, since default_s on the monotonic clock. devices: what is there, name to
    description; no monitors. streams: where each of our streams is, by its number.
    """

    default: str = ""
    devices: dict[str, str] = {}
    streams: dict[int, str] = {}
    default_s: float = 0.0


class Snapshot(msgspec.Struct, frozen=True):
    """Both directions at one moment: `at_s` on the monotonic clock."""

    input: Side = Side()
    output: Side = Side()
    at_s: float = 0.0

    def side(self, direction: Direction) -> Side:
        """Return one direction."""
        return self.input if direction == "input" else self.output


class News(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that changed.

    kind: `moved`, a stream of ours is on another device; `left_behind`, the default changed and a stream that was on
    it did not follow; `came` and `went`, a device. device: the one that came or went, or the one to be on now, as
    people name it. gone: the device that a stream was on is not there any more. by_default: the default has changed.
    anew: the stream that moved is a new one (PortAudio opens one after an underflow, and so does a line of ours).
    since_s: when things were as before.
    """

    kind: Literal["moved", "left_behind", "came", "went"]
    direction: Direction
    device: str
    before: str = ""
    gone: bool = False
    by_default: bool = False
    anew: bool = False
    since_s: float = 0.0

    @property
    def reason(self) -> str:
        """Why a stream is elsewhere, for people."""
        if self.gone:
            return f"{self.before} is gone"
        return "the default has changed" if self.by_default else "the sound server moved it"


def compare(before: Snapshot, after: Snapshot) -> list[News]:
    """Return what changed: devices first, then our streams, at most one piece of news on those a direction."""
    news: list[News] = []
    for direction in _DIRECTIONS:
        news += _devices(direction, before.side(direction), after.side(direction))
    for direction in _DIRECTIONS:
        found = _stream(direction, before.side(direction), after.side(direction), after.at_s)
        news += [] if found is None else [msgspec.structs.replace(found, since_s=before.at_s)]
    return news


def _devices(direction: Direction, before: Side, after: Side) -> list[News]:
    came = [name for name in after.devices if name not in before.devices]
    went = [name for name in before.devices if name not in after.devices]
    return [
        *(News(kind="went", direction=direction, device=before.devices[name]) for name in went),
        *(News(kind="came", direction=direction, device=after.devices[name]) for name in came),
    ]


def _stream(direction: Direction, before: Side, after: Side, at_s: float) -> News | None:
    by_default = after.default != before.default
    lately = by_default or after.default_s > at_s - _LATELY_S
    for was, now, anew in _pairs(before.streams, after.streams):
        if was != now and now in after.devices:
            return News(
                kind="moved",
                direction=direction,
                device=after.devices[now],
                before=before.devices.get(was, was),
                gone=was not in after.devices,
                by_default=lately and now == after.default,
                anew=anew,
            )
        if was == now == before.default and by_default and after.default in after.devices:
            device = after.devices[after.default]
            return News(kind="left_behind", direction=direction, device=device, by_default=True)
    return None


def _pairs(before: dict[int, str], after: dict[int, str]) -> list[tuple[str, str, bool]]:
    """Return where each stream was and is, and whether it is another one in its place."""
    same = [(before[number], now, False) for number, now in after.items() if number in before]
    ended = [was for number, was in before.items() if number not in after]
    begun = [now for number, now in after.items() if number not in before]
    return [*same, (ended[0], begun[0], True)] if len(ended) == len(begun) == 1 else same
