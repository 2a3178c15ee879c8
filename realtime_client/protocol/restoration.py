"""A new session of the server is told what was said: settings, then the conversation, each step once it is confirmed.

A server knows nothing of a session that is over (there is no resuming in the protocol), so the conversation is sent to
it as new items with new ids: what the user wrote and was heard to say; sound itself where nobody knows what was said in
it; answers as text, because a client cannot create the sound of an answer; calls with their results. Pure.

All messages sent here have event ids that begin with `again_`: whoever records them has their contents already.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from realtime_client import updates as up
from realtime_client.history import Entry, Text

from . import events as ev
from . import translate
from .replay import Kept, items_of
from .requests import FATAL_CODES, REFUSED_KEY, REFUSED_RATE

AGAIN = "again"
SOUND = "input:"
"""How a reference to the sound of an item begins: see `InputAudio`."""
CONFIRM_S = 2.0
"""How long a confirmation is waited for; some servers confirm nothing."""
NewId = Callable[[str], str]
_OF_THE_SESSION = FATAL_CODES | REFUSED_KEY | REFUSED_RATE


def is_again(event: ev.ClientEvent) -> bool:
    """Whether a message tells a new session what is known already."""
    event_id = event.event_id
    return event_id is not None and event_id.startswith(AGAIN)


class Names:
    """The names of items that a new session was told: there each has another one than here, or several."""

    def __init__(self) -> None:
        self._there: dict[str, list[str]] = {}
        self._here: dict[str, str] = {}
        self._old: set[str] = set()

    def add(self, here: str, there: str) -> None:
        """An entry was sent as this item, the last one so far of those that it became."""
        self._there.setdefault(here, []).append(there)
        self._here[there] = here

    def forget(self, here: str) -> list[str]:
        """An entry is told no more, or anew; returns the server's names of it."""
        items = self._there.pop(here, [])
        self._old.update(items)
        for each in items:
            del self._here[each]
        return items

    def here(self, item_id: str | None) -> str | None:
        """Our name of an item that the server names."""
        return self._here.get(item_id, item_id) if item_id else item_id

    def there(self, item_id: str) -> str:
        """The server's name of an item of ours."""
        return self._there.get(item_id, (item_id,))[-1]

    def is_told(self, item_id: str) -> bool:
        """Whether the server's item is one that was told again."""
        return item_id in self._here or item_id in self._old

    def __contains__(self, entry_id: object) -> bool:
        return entry_id in self._there


def told_again(
    entries: Iterable[Entry],
    names: Names,
    new_id: NewId,
    kept: Kept,
) -> list[ev.ConversationItemCreate]:
    """Return the messages that tell a session these entries."""
    events = []
    for entry in entries:
        for item in items_of(entry, kept):
            item.id = new_id("item")
            names.add(entry.id, item.id)
            events.append(ev.ConversationItemCreate(item=item, event_id=new_id(AGAIN)))
    return events


class Restoration:
    """One new session, from its greeting until it knows everything.

    `receive` takes its messages, `commands` holds what is to be sent, `tick` gives up waiting for a confirmation.
    settings: what the session is to be, in the wire's words, None for the server's own. entries: what it is told;
    known: all that there were, and what they said; left_out: how many did not fit. now_s: a clock. ready: it knows
    everything. refusal: why there is no session. session: what the server states of it; refused: how many entries it
    did not take. heard: what it has found out already of what was said in sounds that it was told.
    """

    def __init__(
        self,
        settings: dict[str, Any] | None,
        entries: Sequence[Entry],
        *,
        known: dict[str, str],
        left_out: int,
        new_id: NewId,
        kept: Kept,
        now_s: Callable[[], float],
    ) -> None:
        self.commands: list[ev.ClientEvent] = []
        self.names = Names()
        self.ready = False
        self.refusal: up.Update | None = None
        self.session: dict[str, Any] = {}
        self.session_id = ""
        self.confirmed = False  # the settings
        self.heard: list[ev.InputTranscriptionCompleted] = []
        self.entries = entries
        self.known = known
        self.left_out = left_out
        self._settings = settings
        self._new_id = new_id
        self._now_s = now_s
        self._items = told_again(entries, self.names, new_id, kept)
        self._unconfirmed: set[str] = set()  # event and item ids
        self._refused: set[str] = set()
        self._until_s: float | None = None
        self._greeted = False

    @property
    def refused(self) -> int:
        """How many items the server did not take."""
        return len(self._refused)

    def receive(self, event: ev.ServerEvent | ev.UnknownEvent | ev.MalformedEvent) -> None:
        """Take one message of the new session in."""
        if isinstance(event, ev.SessionCreated) and not self._greeted:
            self._greeted = True
            self.session, self.session_id = event.session, str(event.session.get("id") or "")
            self._configure()
        elif isinstance(event, ev.SessionUpdated):
            self.session = event.session
            self._tell(confirmed=True)
        elif isinstance(event, ev.ConversationItemAdded | ev.ConversationItemDone):
            self._taken(event.item.id or "")
        elif isinstance(event, ev.InputTranscriptionCompleted):
            if self.names.is_told(event.item_id) and len(self.heard) < len(self._items):
                self.heard.append(event)
        elif isinstance(event, ev.Error):
            self._complained(event.error)
        elif isinstance(event, ev.MalformedEvent) and not self._greeted:
            self.refusal = translate.STATELESS[ev.MalformedEvent](event)

    def _configure(self) -> None:
        if self._settings is None:
            self._tell(confirmed=True)
            return
        self.commands.append(ev.SessionUpdate(event_id=self._new_id(AGAIN), session=self._settings))
        self._until_s = self._now_s() + CONFIRM_S

    def _tell(self, *, confirmed: bool) -> None:
        """The settings are in force, or taken to be: now what was said."""
        if self._unconfirmed or self.ready or not self._greeted:
            return
        self.confirmed = confirmed
        self.commands += self._items
        self._unconfirmed = {event.item.id or "" for event in self._items}
        self._until_s = self._now_s() + CONFIRM_S
        self._look()

    def _taken(self, item_id: str) -> None:
        if item_id in self._unconfirmed:
            self._unconfirmed.discard(item_id)
            self._until_s = self._now_s() + CONFIRM_S
            self._look()

    def _complained(self, error: ev.ErrorDetail) -> None:
        about = next((event.item.id or "" for event in self._items if event.event_id == error.event_id), None)
        if about is not None and about in self._unconfirmed:
            self._refused.add(about)
            self._taken(about)
        elif (
            not (self._unconfirmed or self.ready) or error.code in _OF_THE_SESSION
        ):  # of the settings, or of the session
            self.refusal = translate.failure(error, error.event_id, fatal=True)

    def _look(self) -> None:
        if not self._unconfirmed:
            self.ready, self._until_s = True, None

    @property
    def due_s(self) -> float | None:
        """When `tick` should be called, in seconds of the clock; None for never."""
        return self._until_s

    def tick(self) -> None:
        """Wait no longer for what is overdue."""
        if self._until_s is None or self._now_s() < self._until_s:
            return
        if self._unconfirmed:
            self._unconfirmed.clear()
            self._look()
        else:
            self._tell(confirmed=False)


def sounds_first(entries: Iterable[Entry], sounds: Collection[str]) -> list[Entry]:
    """Let the entries of the user that have no words refer to their sound, if it is one of these: `input:ID`."""
    return [
        Entry(id=entry.id, role="user", parts=(Text(spoken=True, media=f"{SOUND}{entry.id}"),), status=entry.status)
        if entry.id in sounds and not entry.said.strip()
        else entry
        for entry in entries
    ]
