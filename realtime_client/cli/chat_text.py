"""Text models in a chat: asking again, other answers, images, and what is shown of their work beside the answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from realtime_client import updates as up
from realtime_client.cli.images import MOST_BYTES, read_image
from realtime_client.cli.screen import Screen
from realtime_client.errors import UsageError
from realtime_client.escape import one_line
from realtime_client.session.session import Session

if TYPE_CHECKING:
    from realtime_client.chat.session import ChatSession

_AGAIN_HELP = """\
  .retry [N]     ask again for the last answer, or for N of them at once
  .branches [K]  list the answers that stand where the last one does; or choose
                 one of them
  .edit TEXT     say your last message in other words, and ask again
"""
_IMAGE_HELP = f"""\
  .image FILE    show an image (PNG, JPEG, GIF or WebP, at most {MOST_BYTES // 2**20} MiB) with
                 your next message
"""
_MOST_IMAGES = 8
_STAGES = {
    "loading": "loading the model",
    "prompt": "reading the prompt",
    "response.mcp_call.in_progress": "the model's server runs a tool",
}
_BREAKERS = {"open": "is left alone for a while", "half_open": "is tried again", "closed": "answers again"}

Ask = Callable[[Callable[[], object]], None]


class ChatText:
    """What a chat has of text models. ask: does what asks for an answer, and has the chat wait for it."""

    def __init__(self, session: Session, screen: Screen, ask: Ask) -> None:
        self._session = session
        self._screen = screen
        self._ask = ask
        self._images: list[str] = []
        self._stage = ""  # of the model's work, as far as it is shown
        self._failed = False
        self._noticed = ""  # the last notice, which often says who goes on
        self._last_item = ""
        self._alternatives: up.Alternatives | None = None
        self.shows: dict[type[up.Update], Callable[[Any], None]] = {
            up.ThinkingDelta: lambda _update: self._at("thinking", "[thinking ...]"),
            up.Progress: self._progress,
            up.Notice: self._notice,
            up.AnswerSource: self._source,
            up.BreakerChanged: self._breaker,
            up.Alternatives: self._beside,
            up.ItemDeleted: self._deleted,
        }

    @property
    def again(self) -> ChatSession | None:
        """The session, where an answer can be asked for again; None as long as a realtime model answers."""
        writes = hasattr(self._session, "retry") and not self._session.facts.abilities.audio_in
        return cast("ChatSession", self._session) if writes else None

    @property
    def help(self) -> str:
        """The lines that list the commands which this session can do."""
        images = _IMAGE_HELP if self._session.facts.abilities.images_in else ""
        return (_AGAIN_HELP if self.again is not None else "") + images

    @property
    def commands(self) -> list[str]:
        """The names of all commands."""
        return list(_COMMANDS)

    # What is shown

    def started(self) -> None:
        """An answer begins."""
        self._stage, self._failed = "", False

    def done(self, update: up.ResponseDone) -> None:
        """An answer is over."""
        self._last_item = update.item_ids[-1] if update.item_ids else self._last_item
        self._failed = update.status == "failed"

    def _notice(self, update: up.Notice) -> None:
        """Show a notice."""
        self._noticed = update.message
        self._screen.notice(f"[{one_line(update.message)}]")

    def _at(self, stage: str, line: str) -> None:
        """Tell what the model does, once: it is told anew with each piece."""
        if stage != self._stage:
            self._stage = stage
            self._screen.aside(line)

    def _progress(self, update: up.Progress) -> None:
        words = _STAGES.get(update.what)
        if words is not None:
            more = f": {one_line(update.text, 60)}" if update.text else ""
            self._at(update.what, f"[{words}{more} ...]")

    def _source(self, update: up.AnswerSource) -> None:
        if update.source not in self._noticed:
            self._screen.aside(f"[{one_line(update.source)} from here on]")

    def _breaker(self, update: up.BreakerChanged) -> None:
        why = f": {one_line(update.reason)}" if update.reason and update.state == "open" else ""
        self._screen.aside(f"[{one_line(update.source)} {_BREAKERS.get(update.state, update.state)}{why}]")

    def _beside(self, update: up.Alternatives) -> None:
        before, self._alternatives = self._alternatives, update
        grown = before is None or before.item_id != update.item_id or len(before.texts) < len(update.texts)
        if grown:
            self._screen.aside(f"[{len(update.texts)} answers stand here; .branches lists them]")

    def _deleted(self, _update: up.ItemDeleted) -> None:
        """What was said to a text model goes with an answer that failed."""
        if self._failed and self.again is not None:
            self._failed = False
            self._screen.aside("[what you said is taken back; .retry asks again, .edit TEXT says it otherwise]")

    # What the person says

    def take(self, word: str, rest: str) -> bool:
        """Do a command; False if it is none of ours. Errors: UsageError."""
        command = _COMMANDS.get(word)
        if command is None:
            return False
        command(self, rest)
        return True

    def send(self, text: str) -> None:
        """Say something, with the images that wait."""
        if not self._images:
            self._session.send_text(text)  # shown when the session reports it
            return
        self._session.send_text(text, images=tuple(self._images))
        self._images.clear()

    def _chat(self, word: str) -> ChatSession:
        chat = self.again
        if chat is None:
            raise UsageError(f"{word} is for text models: an answer of a realtime model stands as it is")
        return chat

    def _retry(self, rest: str) -> None:
        chat = self._chat(".retry")
        answers = _number(rest or "1", ".retry N: N is how many answers to ask for at once")
        self._ask(lambda: chat.retry(answers))

    def _edit(self, rest: str) -> None:
        chat = self._chat(".edit")
        if not rest:
            raise UsageError(".edit TEXT: TEXT is what to say in place of your last message")
        self._ask(lambda: chat.edit(rest))

    def _branches(self, rest: str) -> None:
        chat, beside = self._chat(".branches"), self._alternatives
        if beside is None or beside.item_id != self._last_item:
            raise UsageError("the last answer stands alone; .retry asks for another one")
        if not rest:
            rows = (f"{'*' if n == beside.chosen else ' '} {n + 1}  {_first(t)}" for n, t in enumerate(beside.texts))
            self._screen.notice("\n".join(rows))
            return
        number = _number(rest, ".branches K: K is the number of an answer")
        chat.choose(number - 1, beside.item_id)
        self._screen.notice(f"[answer {number} stands in the conversation from here on]")
        self._screen.write(beside.texts[number - 1])
        self._screen.end_line()

    def _image(self, rest: str) -> None:
        if not self._session.facts.abilities.images_in:
            raise UsageError(f"{self._session.model or 'the model'} takes no images")
        if not rest:
            raise UsageError(".image FILE: FILE is the image to show with your next message")
        if len(self._images) >= _MOST_IMAGES:
            raise UsageError(f"{_MOST_IMAGES} images wait for your next message already")
        self._images.append(read_image(Path(rest)))
        waiting = f"{len(self._images)} images go" if len(self._images) > 1 else f"{one_line(rest, 200)} goes"
        self._screen.notice(f"[{waiting} with your next message]")


_COMMANDS: dict[str, Callable[[ChatText, str], None]] = {
    ".retry": ChatText._retry,  # noqa: SLF001
    ".branches": ChatText._branches,  # noqa: SLF001
    ".edit": ChatText._edit,  # noqa: SLF001
    ".image": ChatText._image,  # noqa: SLF001
}


def _number(text: str, usage: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise UsageError(usage)
    return int(text)


def _first(text: str) -> str:
    """The first line of an answer."""
    lines = [line for line in text.splitlines() if line.strip()]
    return one_line(lines[0], 70) + (" ..." if len(lines) > 1 else "") if lines else "(no text)"
