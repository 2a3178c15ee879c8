"""Tools of a library: one that knows at once, and one that takes its time and tells how far it is."""

import time
from collections.abc import Iterator

from realtime_client.tools import Progress, tool

SHELVES = 4


@tool
def count_letters(word: str) -> int:
    """Count the letters of a word."""
    return len(word)


@tool
def search_archive(topic: str) -> Iterator[Progress | str]:
    """Search the archive for books about a topic."""
    for shelf in range(SHELVES):
        yield Progress("looking through the shelves", shelf, SHELVES)
        time.sleep(0.1)
    yield f"two books about {topic}"
