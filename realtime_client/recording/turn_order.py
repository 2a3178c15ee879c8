"""Where a turn stands: behind the item that it follows. Pure."""

from __future__ import annotations

from collections import OrderedDict

from .turns import Turn


def place(turn: Turn, after: str, turns: list[Turn], kept: OrderedDict[str, Turn], moved: dict[str, str]) -> bool:
    """Put one of `turns` behind the item `after`; returns whether it was moved there.

    kept: turns before those, which no longer change by themselves. moved: gets what has to change there later.
    """
    index = next((i for i, before in enumerate(turns) if before.item_id == after), None)
    if index is None:
        return after in kept and _behind_kept(turn, after, turns, kept, moved)
    if turns[index] is turn or _follows(turns[index + 1 :], turn):
        return False
    before = turns[index]
    turns.remove(turn)
    turns.insert(turns.index(before) + 1, turn)
    return True


def _follows(behind: list[Turn], turn: Turn) -> bool:
    """Tell whether nothing before this turn has a place of its own."""
    for other in behind:
        if other is turn:
            return True
        if other.after:
            return False
    return False


def _behind_kept(
    turn: Turn, after: str, turns: list[Turn], kept: OrderedDict[str, Turn], moved: dict[str, str]
) -> bool:
    """Take a place among what no longer changes: if it is not the last, the files change later."""
    ids = list(kept)
    behind = [kept[item_id] for item_id in ids[ids.index(after) + 1 :]]
    if _follows([*behind, *turns], turn):
        return False
    if not any(other.after for other in behind):
        turns.remove(turn)
        turns.insert(0, turn)
        return True
    if turn.item_id:
        moved[turn.item_id] = after
    return False
