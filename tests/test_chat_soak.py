"""Thousands of turns with text models whose servers go wrong at random, with a fixed seed, while the user cancels,
interrupts and asks again: every answer ends once, nothing of it is said twice, and nothing is left over.

`scripts/soak` runs it for REALTIME_SOAK_SECONDS, 600 there; here some hundred turns.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from text_server import DONE, Request, Script, TextServer, answers, delta, drops, refuses, sse, stream, usage

from realtime_client import updates as up
from realtime_client.chat.breaker import BreakerState, Found, MemoryStore
from realtime_client.chat.continuation import INSTRUCTION
from realtime_client.chat.limits import ChatLimits
from realtime_client.chat.place import Place
from realtime_client.chat.session import ChatSession
from realtime_client.chat.wires.openai_chat import OpenAIChat
from realtime_client.errors import UsageError

SECONDS = float(os.environ.get("REALTIME_SOAK_SECONDS") or 0)
PART_S = 40.0  # a test is not to run for long
PARTS = max(2, round(SECONDS / PART_S))
TURNS = 100  # of one session
WAIT_S = 30.0
MOST_GROWTH_KIB = 24 * 1024
LIMITS = ChatLimits(
    retries=2, retry_delay_s=0.001, first_byte_s=5.0, silence_s=0.3, grace_s=0.05, history_entries=40, chunk_buffer=20
)


def right(n: int) -> str:
    """The answer to question n: no word of it comes twice."""
    return " ".join(f"{n}.{k}" for k in range(1 + n * 7 % 30)) + " "


# --- a server that goes wrong -----------------------------------------------------------------------------------------


class Moody:
    """What a server does with each request, drawn from its own numbers."""

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self.done: Counter[str] = Counter()

    def __call__(self, request: Request) -> None:
        messages = request.json["messages"]
        asked = [each["content"] for each in messages if each["role"] == "user" and each["content"] != INSTRUCTION]
        whole = right(int(asked[-1].split()[-1]))
        goes_on = messages[-1]["content"] == INSTRUCTION
        said = messages[-2]["content"] if goes_on else ""
        with self._lock:
            rest = self._random.choice([whole[len(said) :], whole, whole[_last_words(said) :]]) if goes_on else whole
            name, script = self._mood(rest)
            if name == "empty" and goes_on:  # which would mean that nothing is missing
                name, script = "well", answers(rest)
            self.done[name] += 1
        if not request.json["stream"] and name in ("well", "oddly", "cut", "nonsense", "error", "silence"):
            name, script = "in one piece", answers(rest)
        script(request)

    def _mood(self, text: str) -> tuple[str, Script]:
        pieces = self._pieces(text)
        some = pieces[: self._random.randrange(len(pieces) + 1)]
        end = [delta(finish="stop"), usage(), DONE]
        busy = refuses(self._random.choice([408, 429, 500, 503, 529]), b"", retry_after_ms="1")
        moods: dict[str, tuple[int, Script]] = {
            "well": (40, stream(*pieces, *end)),
            "oddly": (8, stream(b"\xef\xbb\xbf: hm\r\n\r\n", *self._split(b"".join([*pieces, *end])))),
            "cut": (8, stream(*some, drops)),
            "at an end that is none": (4, stream(*some)),
            "reset": (4, stream(*some, lambda request: request.drop(reset=True))),
            "gone": (4, drops),
            "nonsense": (5, stream(*some, b'data: {"choices": [{"delta"\n\n', *end)),
            "error": (5, stream(*some, sse({"error": {"message": "overloaded", "type": "server_error"}}))),
            "busy": (8, busy),
            "refused": (4, refuses(400, {"error": {"message": "not this"}})),
            "empty": (2, stream(*end)),
            "silence": (1, stream(*some, lambda request: request.wait_gone())),
            "without its figures": (4, stream(*pieces, delta(finish="stop"), lambda request: request.wait_gone())),
        }
        name = self._random.choices(list(moods), [weight for weight, _ in moods.values()])[0]
        return name, moods[name][1]

    def _pieces(self, text: str) -> list[bytes]:
        """Whole words: what is cut within a word, a model that is told to go on makes anew."""
        words, pieces = text.split(" ")[:-1], []
        while words:
            size = self._random.randint(1, 6)
            pieces.append(delta("".join(f"{word} " for word in words[:size])))
            words = words[size:]
        return pieces

    def _split(self, data: bytes) -> list[bytes]:
        parts = []
        while data:
            size = self._random.randint(1, 400)
            parts.append(data[:size])
            data = data[size:]
        return parts


def _last_words(said: str) -> int:
    """Where the last three words of a text begin."""
    words = said.split(" ")
    return len(" ".join([*words[:-4], ""])) if len(words) > 4 else 0


class Forgiving(MemoryStore):
    """Breakers that never open: the others of a chain would make all the answers."""

    def update(self, key: str, change: Callable[[BreakerState], tuple[BreakerState, Found]]) -> Found:
        del key
        return change(BreakerState())[1]


# --- what must be true ------------------------------------------------------------------------------------------------


class Ledger:
    """Follows a session, and notes what must not be."""

    def __init__(self) -> None:
        self.open: dict[str, str] = {}
        self.requests: set[str] = set()  # whose answer began, or never will
        self.ends: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._ended: set[str] = set()

    def observe(self, update: up.Update, _at_s: float) -> None:
        if isinstance(update, up.ResponseStarted):
            self._check(update.response_id not in self.open and update.response_id not in self._ended, "begun twice")
            self.open[update.response_id] = ""
            self.requests.add(update.request_id or "")
        elif isinstance(update, up.TextDelta):
            self._check(update.response_id in self.open, f"a piece of no answer: {update}")
            self.open[update.response_id] = self.open.get(update.response_id, "") + update.text
        elif isinstance(update, up.ResponseDone):
            self._check(update.response_id in self.open, f"ended twice, or never begun: {update}")
            self._ended.add(update.response_id)
            self._end(update, self.open.pop(update.response_id, ""))
        elif isinstance(update, up.Failure):
            self._check(bool(update.message) and "\n" not in update.message, f"not a line: {update}")
            if update.code == up.REQUEST_CANCELLED:
                self.requests.add(update.event_id or "")

    def _end(self, done: up.ResponseDone, shown: str) -> None:
        self.ends[done.status] += 1
        self._check(done.text == shown, f"{done.text!r} is not what was shown: {shown!r}")
        n = int(shown.partition(".")[0] or 0)
        whole = right(n) if shown else ""
        fits = whole.strip() == shown.strip() if done.status == "completed" else whole.startswith(shown.rstrip())
        self._check(fits, f"{done.status}: {shown!r} is not {whole!r}")

    def _check(self, fine: bool, what: str) -> None:
        if not fine:
            self.wrong.append(what)


def rss_kib() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


# --- the user ---------------------------------------------------------------------------------------------------------


def act(client: ChatSession, dice: random.Random, n: int) -> list[str | None]:
    """Do one thing; returns the requests that were made."""
    question = f"Question {n}"
    match dice.choices(["ask", "several", "again", "edit", "twice"], [70, 8, 8, 6, 8])[0]:
        case "several":
            return [client.send_text(question, answers=3).request_id]
        case "again":
            return [client.retry()]
        case "edit":
            return [client.edit(question).request_id]
        case "twice":
            return [client.send_text(question).request_id, client.respond()]
    return [client.send_text(question).request_id]


def turn(client: ChatSession, dice: random.Random, n: int) -> list[str | None]:
    """One turn to its end, whatever that is."""
    asked: list[str | None] = []
    patience = dice.choices([None, 0, 1, 3], [70, 8, 12, 10])[0]  # pieces until the user has enough of it
    with client.updates(timeout_s=WAIT_S) as updates:
        try:
            asked = act(client, dice, n)
        except UsageError:  # nothing was said yet
            return []
        pieces = 0
        while client.answering:
            if patience is not None and pieces >= patience:
                if dice.random() < 0.5:
                    client.cancel()
                else:
                    asked.append(client.send_text(f"Question {n}").request_id)
                patience = None
                continue
            pieces += isinstance(next(updates), up.TextDelta)
    return asked


def talk(servers: list[TextServer], dice: random.Random, first: int, ends_s: float | None) -> tuple[int, Ledger]:
    """One session with many turns, closed in the midst of one; returns how many there were."""
    places = [Place(provider="openai", model=f"m{n}", base_url=s.url, wire=OpenAIChat()) for n, s in enumerate(servers)]
    ledger, asked, n = Ledger(), [], first
    client = ChatSession(places, chat_limits=LIMITS, breakers=Forgiving())
    client.observe(ledger.observe)
    with client:
        for n in range(first, first + TURNS):
            asked += turn(client, dice, n)
            assert not ledger.wrong, ledger.wrong
            for server in servers:
                with server._came:
                    server._requests.clear()  # it keeps all of them
            if ends_s is not None and time.monotonic() > ends_s:
                break
        asked.append(client.send_text(f"Question {n}").request_id)
        before = time.monotonic()
    assert time.monotonic() - before < 2
    assert ledger.wrong == []
    assert ledger.open == {}
    assert {request for request in asked if request} <= ledger.requests
    engine = client._engine
    assert (engine._running, engine.conversation.answers.running, engine.conversation.answers._streams) == ({}, {}, {})
    assert engine.streams.running() == {}
    assert len(engine.conversation.history.in_order()) <= LIMITS.history_entries
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("realtime-")]
    return n + 1, ledger


@pytest.mark.parametrize("part", range(PARTS))
def test_whatever_servers_and_users_do_every_answer_ends_once(part: int) -> None:
    dice = random.Random(f"user {part}")
    moods = [Moody(f"server {part} {n}") for n in range(1 + part % 2)]  # with one server to fall back on, and with none
    ends_s = time.monotonic() + PART_S if SECONDS else None
    ends: Counter[str] = Counter()
    memory, n = 0, 0
    servers = [TextServer(mood) for mood in moods]
    with ExitStack() as stack:
        for server in servers:
            stack.enter_context(server)
        while n == 0 or (ends_s is not None and time.monotonic() < ends_s):
            n, ledger = talk(servers, dice, n, ends_s)
            ends += ledger.ends
            memory = memory or rss_kib()
        assert rss_kib() - memory < MOST_GROWTH_KIB
    assert ends["completed"] > n // 3
    assert ends["cancelled"] > n // 20
    if n >= TURNS:
        assert len(moods[0].done) > 10  # what the servers did
