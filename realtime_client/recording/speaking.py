"""A turn of the user that is being spoken, and its file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .look_back import LookBack
from .turns import Turn
from .wav import WavWriter

_COPY_BYTES = 1 << 18


@dataclass(slots=True, eq=False)
class Speaking:
    """A turn that is being spoken; byte positions in the input. Errors of every method: OSError.

    first: where it begins. filled: up to where its file is written. last: where it ends, None while that is not known.
    confirmed: the server has made it an item, though its commit is not seen yet. after: where the turn before ends.
    """

    turn: Turn
    name: str
    wav: WavWriter
    first: int
    filled: int
    last: int | None = None
    confirmed: bool = False
    after: int = 0

    def fill(self, look_back: LookBack) -> None:
        """Write what has arrived and is not yet in its file."""
        end = look_back.end if self.last is None else min(self.last, look_back.end)
        while self.filled < end:
            piece = look_back.read(self.filled, min(end, self.filled + _COPY_BYTES))
            self.wav.write(piece)
            self.filled += len(piece)

    def discard(self, folder: Path) -> None:
        """Remove its file: it is written anew."""
        self.wav.close()
        for name in self.turn.files:
            (folder / name).unlink(missing_ok=True)
        self.turn.files.clear()
