"""What a conversation has to know in order to go on in another session of a server. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from realtime_client import updates as up
from realtime_client.history import Entry, History, Replay, replay

from . import events as ev
from .answers import forget_oldest
from .gate import Lost
from .input_audio import InputAudio
from .items import Item
from .restoration import AGAIN, SOUND, Names, NewId, sounds_first, told_again

_MOST = 1024


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What is left to send to a session that goes on, and what became of the rest; see `updates.Restored`."""

    commands: list[ev.ClientEvent]
    audio_bytes: int
    lost_audio: tuple[up.LostAudio, ...]
    sent_late: tuple[str, ...]
    unknown: tuple[str, ...]
    asked_again: str | None
    late: int


class Recovering:
    """The names of items in the present session, what it has not confirmed, and what became of what was under way.

    away: there is no session: what is decided meanwhile is sent to the next one. names: of the items that the present
    one was told.
    """

    def __init__(self, history: History, new_id: NewId) -> None:
        self.away = False
        self.names = Names()
        self._history = history
        self._new_id = new_id
        self._unconfirmed: dict[str, str] = {}  # our items, and their types
        self._unknown: list[str] = []
        self._again: str | None = None

    # --- while there is a session -------------------------------------------------------------------------------------

    def own(self, item: Item) -> None:
        """This client sends an item."""
        self._unconfirmed[item.id or ""] = item.type
        forget_oldest(self._unconfirmed, _MOST)

    def confirmed(self, item_id: str) -> None:
        """The server has it."""
        self._unconfirmed.pop(item_id, None)

    def renamed(self, event: ev.ClientEvent) -> ev.ClientEvent:
        """A message with the names that the server knows."""
        if isinstance(event, ev.ConversationItemCreate) and event.previous_item_id is not None:
            return msgspec.structs.replace(event, previous_item_id=self.names.there(event.previous_item_id))
        if isinstance(event, ev.ConversationItemDelete | ev.ConversationItemTruncate | ev.ConversationItemRetrieve):
            return msgspec.structs.replace(event, item_id=self.names.there(event.item_id))
        return event

    # --- from one session to the next ---------------------------------------------------------------------------------

    def chosen(
        self, entries: Sequence[Entry], sound: InputAudio, *, most_tokens: int, open_calls: Sequence[str] = ()
    ) -> Replay:
        """Choose what a new session is told of the conversation."""
        kept = [entry.id for entry in entries if entry.role == "user" and sound.of_item(entry.id)]
        whole = [entry for entry in sounds_first(entries, kept) if entry.as_heard.parts]  # others have nothing to tell
        return replay(whole, most_tokens=most_tokens, open_calls=open_calls)

    def media(self, sound: InputAudio, reference: str) -> str | bytes | None:
        """What an entry refers to."""
        if reference.startswith(SOUND):
            return sound.of_item(reference.removeprefix(SOUND)) or None
        return self._history.media(reference)

    def lost(self, lost: Lost, unknown: Iterable[str]) -> None:
        """The present session is over."""
        self.away = True
        self._again = lost.again
        approvals = [each for each, kind in self._unconfirmed.items() if kind == "mcp_approval_response"]
        for each in approvals:
            del self._unconfirmed[each]
        self._unknown = [*unknown, *approvals]

    def moved(self) -> None:
        """Others go on, who are asked for what was under way."""
        self.away, self._again = True, None
        self._unconfirmed.clear()

    def restored(self, names: Names, known: dict[str, str], now: Sequence[Entry], sound: InputAudio) -> Told:
        """A new session goes on. known: the entries that there were when it was told, and what they said then.

        Returns what is left to send.
        """
        self.away, self.names = False, names
        late = [entry.as_heard for entry in now if entry.id not in known]
        commands: list[ev.ClientEvent] = []
        for entry in now:
            if entry.role == "assistant" and entry.as_heard.said != known.get(entry.id) and entry.id in names:
                commands += self._told_anew(entry.as_heard, sound)
        commands += told_again(late, names, self._new_id, lambda reference: self.media(sound, reference))
        for each in sorted(known.keys() - {entry.id for entry in now}):
            commands += self._deleted(names.forget(each))
        pieces, lost_audio = sound.again()
        for piece in pieces:
            event_id = self._new_id(AGAIN)
            commands.append(
                ev.InputAudioBufferCommit(event_id=event_id)
                if piece is None
                else ev.InputAudioBufferAppend(audio=piece, event_id=event_id)
            )
        told = Told(
            commands=commands,
            audio_bytes=sum(len(piece) for piece in pieces if piece is not None),
            lost_audio=tuple(lost_audio),
            sent_late=tuple(self._unconfirmed),
            unknown=tuple(self._unknown),
            asked_again=self._again,
            late=len(late),
        )
        self._unconfirmed.clear()
        self._unknown, self._again = [], None
        return told

    def _told_anew(self, entry: Entry, sound: InputAudio) -> list[ev.ClientEvent]:
        """An answer was cut after the new session was told of it: what was heard takes its place."""
        before = self.names.forget(entry.id)
        anew = told_again([entry], self.names, self._new_id, lambda reference: self.media(sound, reference))
        for event, place in zip(anew, [before[-1], *(event.item.id for event in anew)], strict=False):
            event.previous_item_id = place
        return [*anew, *self._deleted(before)]

    def _deleted(self, items: Iterable[str]) -> list[ev.ClientEvent]:
        return [ev.ConversationItemDelete(item_id=each, event_id=self._new_id(AGAIN)) for each in items]
