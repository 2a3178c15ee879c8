"""The order of a conversation's items, as previous_item_id tells it."""

from __future__ import annotations

from collections.abc import Iterator


class ItemOrder:
    """Item ids in conversation order; the oldest are forgotten beyond `limit`.

    Events may name an item before, after or instead of its predecessor, so placing is idempotent: an item that is
    placed again moves only if its predecessor is known and it does not follow it yet.
    """

    def __init__(self, limit: int = 4096) -> None:
        self._ids: list[str] = []
        self._known: set[str] = set()
        self._limit = limit

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, item_id: object) -> bool:
        return item_id in self._known

    def place(self, item_id: str, previous_item_id: str | None) -> None:
        """Put an item behind its predecessor; `root` is the front, None or an unknown one the end."""
        if item_id in self._known:
            if previous_item_id == item_id or (previous_item_id not in self._known and previous_item_id != "root"):
                return
            self._ids.remove(item_id)
        if previous_item_id == "root":
            self._ids.insert(0, item_id)
        elif previous_item_id in self._known and previous_item_id != item_id:
            # Searched from the end: the predecessor is nearly always the last item.
            back = next(n for n, known in enumerate(reversed(self._ids)) if known == previous_item_id)
            self._ids.insert(len(self._ids) - back, item_id)
        else:
            self._ids.append(item_id)
        self._known.add(item_id)
        if len(self._ids) > self._limit:
            self._known.discard(self._ids.pop(0))

    def remove(self, item_id: str) -> None:
        """Take an item out; one that is not there is no error."""
        if item_id in self._known:
            self._known.discard(item_id)
            self._ids.remove(item_id)

    def previous(self, item_id: str) -> str | None:
        """The item before this one; None for the first or an unknown one."""
        if item_id not in self._known:
            return None
        index = self._ids.index(item_id)
        return self._ids[index - 1] if index else None
