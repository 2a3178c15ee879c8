"""The order of a conversation's items, according to previous_item_id."""

from __future__ import annotations

from collections.abc import Iterator

_MOST_WAITING = 64


class ItemOrder:
    """Item ids in conversation order; the oldest are forgotten beyond `limit`.

    Events may name an item before, after or instead of its predecessor: an item whose predecessor is not there yet goes
    to the end, and moves behind it, with all that follow, when it comes. Of those that wait for the same one, the
    newest 64 move; usually there is one.
    """

    def __init__(self, limit: int = 1024) -> None:
        self._ids: list[str] = []
        self._named: dict[str, str | None] = {}  # every id here, and the predecessor it was last placed behind
        self._awaited: dict[str, dict[str, None]] = {}
        self._limit = limit

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, item_id: object) -> bool:
        return item_id in self._named

    @property
    def last(self) -> str | None:
        """The last item; None when there is none."""
        return self._ids[-1] if self._ids else None

    def place(self, item_id: str, previous_item_id: str | None) -> None:
        """Put an item behind its predecessor; `root` is the front, None the end. Placing it again changes nothing."""
        known = item_id in self._named
        if previous_item_id == item_id:
            previous_item_id = None
        if known and previous_item_id in {None, self._named[item_id]}:
            return
        if not known:
            self._ids.append(item_id)
        self._named[item_id] = previous_item_id
        if previous_item_id == "root" or previous_item_id in self._named:
            self._move(item_id, previous_item_id)
        elif previous_item_id is not None:
            waiting = self._awaited.setdefault(previous_item_id, {})
            waiting[item_id] = None
            if len(waiting) > _MOST_WAITING:
                del waiting[next(iter(waiting))]
            if len(self._awaited) > self._limit:
                del self._awaited[next(iter(self._awaited))]
        if not known:
            for follower in self._awaited.pop(item_id, ()):
                if self._named.get(follower) == item_id:
                    self._move(follower, item_id)
            if len(self._ids) > self._limit:
                del self._named[self._ids.pop(0)]

    def guess(self, item_id: str, previous_item_id: str | None) -> None:
        """Put a new item behind one that it seems to follow, until the server says where it belongs."""
        if item_id in self._named:
            return
        self.place(item_id, None)
        if previous_item_id in self._named:
            self._move(item_id, previous_item_id)

    def _move(self, item_id: str, previous_item_id: str) -> None:
        """Put an item, and the run of items that follow each other behind it, behind its predecessor."""
        start = self._index(item_id)
        end = start + 1
        while end < len(self._ids) and self._named[self._ids[end]] == self._ids[end - 1]:
            end += 1
        run = self._ids[start:end]
        if previous_item_id in run:
            return  # a cycle: it cannot follow itself
        del self._ids[start:end]
        to = 0 if previous_item_id == "root" else self._index(previous_item_id) + 1
        self._ids[to:to] = run

    def _index(self, item_id: str) -> int:
        """Searched from the end: it is nearly always among the last items."""
        back = next(n for n, known in enumerate(reversed(self._ids)) if known == item_id)
        return len(self._ids) - 1 - back

    def remove(self, item_id: str) -> None:
        """Remove an item, if it is there."""
        if item_id in self._named:
            del self._named[item_id]
            self._ids.remove(item_id)

    def previous(self, item_id: str) -> str | None:
        """The item before this one; None for the first or an unknown one."""
        if item_id not in self._named:
            return None
        index = self._index(item_id)
        return self._ids[index - 1] if index else None
