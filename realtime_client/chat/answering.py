"""One answer on its way: which request makes it now, what has come of it, and how its parts are joined. Pure."""

from __future__ import annotations

from realtime_client import updates as up
from realtime_client.history import Entry, Part, Text

from .chain import Way
from .continuation import Continuation
from .wires import pieces as pc


class Answering:
    """An answer that is being made, by one request after the other where that has to be.

    request_id: what asked for it. entries: the conversation that it answers. quiet: it is an alternative, of which only
    the end is told. stream: the request that runs, None between two. due_s: when the next one leaves. place: where the
    present one went.
    """

    def __init__(
        self, response_id: str, item_id: str, request_id: str, entries: tuple[Entry, ...], way: Way, *, quiet: bool
    ) -> None:
        self.response_id = response_id
        self.item_id = item_id
        self.request_id = request_id
        self.entries = entries
        self.way = way
        self.quiet = quiet
        self.place = -1
        self.source = ""
        self.stream: str | None = None
        self.due_s: float | None = None
        self.began = False  # its ResponseStarted was told
        self.usage: up.Usage | None = None
        self.calls: list[pc.CallDonePiece] = []  # complete ones: they count when the answer is over as it should be
        self.size = 0
        self.waits = False  # it was told what the server does before it answers
        self.tokens = 0  # of the conversation that was sent, estimated
        self.older = 0  # how many entries of it came before the question: they can be left out
        self.shortened = False  # it was too long for the model, and less of it was sent
        self.altered = False  # a filter has changed the text
        self._said: list[str] = []
        self._before: list[str] = []  # what requests before the present one said
        self._continuation: Continuation | None = None
        self._spent: up.Usage | None = None

    @property
    def text(self) -> str:
        """What has come of its text."""
        if len(self._said) > 1:
            self._said = ["".join(self._said)]
        return self._said[0] if self._said else ""

    def goes_on(self, *, prefilled: bool) -> Continuation | None:
        """A new request makes the rest; returns what it is told of the beginning, None where there is nothing yet."""
        self.calls = []
        if self.usage is not None:
            self._spent = self.usage if self._spent is None else self._spent + self.usage
            self.usage = None
        partial = self.text
        self._before = [partial] if partial else []
        self._continuation = Continuation(partial, prefilled=prefilled) if partial else None
        return self._continuation

    def add(self, text: str) -> str:
        """More text came; returns what of it is to be shown."""
        if self._continuation is not None:
            text = self._continuation.feed(text)
        return self._keep(text)

    def rest(self, *, broke: bool = False) -> str:
        """The text is complete, or broke off; returns what was held back of it."""
        return "" if self._continuation is None else self._keep(self._continuation.end(broke=broke))

    def _keep(self, text: str) -> str:
        if text:
            self._said.append(text)
            self.size += len(text)
        return text

    def spent(self) -> up.Usage | None:
        """What all its requests took, as far as that is known."""
        if self._spent is None:
            return self.usage
        return self._spent if self.usage is None else self._spent + self.usage

    def parts(self, read: tuple[Part, ...]) -> tuple[Part, ...]:
        """Return what the conversation keeps. read: the parts of the last request's answer.

        The parts of an answer that one request made go back as they came. Of one that several made, the text is one
        part, and what a provider wanted back with its piece of it is of no use; so it is with text that was altered.
        """
        if not (self._before or self.altered):
            return read
        others = tuple(part for part in read if not isinstance(part, Text) and part.provider_state is None)
        return (Text(text=self.text), *others) if self.text else others
