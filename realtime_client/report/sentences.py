"""Where each sentence of a turn is in its sound. Pure.

Nobody states where words are in the audio. The estimate assumes an even speed of speech, like the heard text of a cut
answer, but counts only the time in which there is sound, and lets a digit weigh as much as the word it is read as. Then
the borders are moved into pauses, in the way that costs least: a sentence that becomes longer or shorter than expected
costs (squared, relative to its expected length), a longer pause pays back.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from realtime_client.recording.subtitles import sentences

MOST_SENTENCES = 200
_SILENT = 14  # of 255 on the square root scale of the peaks: -50 dBFS
_SHORTEST_PAUSE_S = 0.06
_LONGEST_COUNTED_S = 0.5
_EARNS = 1.5  # a pause of that length
_NO_PAUSE_COSTS = 0.5
_CANDIDATES = 9
_SPREAD, _LEAST_SPREAD_S = 0.25, 0.15  # how much longer or shorter is not unusual
_DIGIT, _SIGN = 4.0, 0.4


@dataclass(slots=True)
class Sentence:
    """A sentence with its place in seconds."""

    text: str
    start_s: float
    end_s: float


@dataclass(slots=True)
class _Border:
    """Where a sentence may end. sounding_s: time with sound before it; at_s: the moment; cost: of choosing it."""

    sounding_s: float
    at_s: float
    cost: float


def split(text: str) -> list[str]:
    """Cut a text after its sentences. The pieces put together are the text."""
    return sentences(text, MOST_SENTENCES)


def place(text: str, start_s: float, end_s: float, peaks: npt.NDArray[np.uint8], peak_s: float) -> list[Sentence]:
    """Return the sentences of a turn that sounds from `start_s` to `end_s`.

    peaks: of the speaker's channel from the session's start on, one every `peak_s`.
    """
    pieces = split(text)
    if len(pieces) < 2:
        return [Sentence(piece, start_s, end_s) for piece in pieces]
    quiet = peaks[int(start_s / peak_s) : max(int(start_s / peak_s) + 1, int(end_s / peak_s))] < _SILENT
    sounding_s = np.concatenate(([0.0], np.cumsum(~quiet) * peak_s))
    weights = np.array([_weight(piece) for piece in pieces])
    expected_s = sounding_s[-1] * weights / weights.sum()
    pauses = _pauses(quiet, sounding_s, start_s, peak_s)
    borders = _cheapest(expected_s=expected_s, pauses=pauses, sounding_s=sounding_s, start_s=start_s, peak_s=peak_s)
    moments = [start_s, *np.maximum.accumulate(np.clip(borders, start_s, end_s)).tolist(), end_s]
    return [Sentence(piece, moments[i], moments[i + 1]) for i, piece in enumerate(pieces)]


def _weight(piece: str) -> float:
    """How long a piece of text takes to say, in letters."""
    return 1.0 + sum(1.0 if c.isalpha() or c == " " else _DIGIT if c.isdigit() else _SIGN for c in piece)


def _pauses(
    quiet: npt.NDArray[np.bool_], sounding_s: npt.NDArray[np.float64], start_s: float, peak_s: float
) -> list[_Border]:
    """Return the pauses; the border is near their end, so that no first sound is cut."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], quiet, [False])).astype(np.int8)))
    found = []
    for first, last in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        length_s = (last - first) * peak_s
        if length_s >= _SHORTEST_PAUSE_S:
            earned = _EARNS * min(length_s, _LONGEST_COUNTED_S) / _LONGEST_COUNTED_S
            found.append(_Border(float(sounding_s[first]), start_s + (first + 0.8 * (last - first)) * peak_s, -earned))
    return found


def _cheapest(
    *,
    expected_s: npt.NDArray[np.float64],
    pauses: list[_Border],
    sounding_s: npt.NDArray[np.float64],
    start_s: float,
    peak_s: float,
) -> list[float]:
    """Choose a border after each sentence but the last (dynamic programming over a few candidates); returns moments."""
    spreads = _LEAST_SPREAD_S + _SPREAD * expected_s
    best: list[tuple[float, _Border, int]] = [(0.0, _Border(0.0, start_s, 0.0), 0)]
    steps = []
    for index, guess in enumerate(np.cumsum(expected_s)[:-1].tolist()):
        near = sorted(pauses, key=lambda pause: abs(pause.sounding_s - guess))[:_CANDIDATES]
        at_s = start_s + int(np.searchsorted(sounding_s, guess)) * peak_s
        choices = []
        for border in [*near, _Border(guess, at_s, _NO_PAUSE_COSTS)]:
            costs = [
                cost
                + ((border.sounding_s - before.sounding_s - expected_s[index]) / spreads[index]) ** 2
                + (100.0 if border.at_s <= before.at_s else 0.0)
                for cost, before, _ in best
            ]
            cheapest = int(np.argmin(costs))
            choices.append((costs[cheapest] + border.cost, border, cheapest))
        steps.append(best)
        best = choices
    left = [
        cost + ((sounding_s[-1] - border.sounding_s - expected_s[-1]) / spreads[-1]) ** 2 for cost, border, _ in best
    ]
    return _walk_back([*steps[1:], best], int(np.argmin(left)))


def _walk_back(steps: list[list[tuple[float, _Border, int]]], index: int) -> list[float]:
    moments = []
    for choices in reversed(steps):
        _, border, before = choices[index]
        moments.append(border.at_s)
        index = before
    return moments[::-1]
