"""Filters and watchers on the pieces of answers, and pieces that wait for who is behind."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path
from typing import Any

import pytest
from text_server import Script, TextServer, answers, delta, ends, stream

from realtime_client import updates as up
from realtime_client.chat.breaker import MemoryStore
from realtime_client.chat.chunk_buffer import ChunkBuffer
from realtime_client.chat.hooks import Filters, Watching, filter_file
from realtime_client.chat.limits import ChatLimits, WhenFull
from realtime_client.chat.place import Place
from realtime_client.chat.session import ChatSession
from realtime_client.chat.wires import pieces as pc
from realtime_client.chat.wires.openai_chat import OpenAIChat
from realtime_client.deadline import Deadline
from realtime_client.errors import QueueFullError, ResponseFailedError, ShutdownError, UsageError
from realtime_client.session.limits import Limits

WAIT_S = 10.0


def session(server: TextServer, **more: Any) -> ChatSession:
    limits = more.pop("limits", None)
    place = Place(provider="openai", model="m", base_url=server.url, wire=OpenAIChat())
    return ChatSession([place], chat_limits=ChatLimits(**more), breakers=MemoryStore(), limits=limits)


def piece(n: int) -> pc.TextPiece:
    return pc.TextPiece("s", n, float(n), f"{n} ")


# --- filters ----------------------------------------------------------------------------------------------------------


class Sentences:
    """Holds text back until a sentence is complete."""

    def __init__(self) -> None:
        self.held = ""

    def __call__(self, text: str) -> str:
        self.held += text
        done, dot, rest = self.held.rpartition(".")
        self.held = rest if dot else self.held
        return done + dot

    def end(self) -> str:
        return self.held.upper()


def test_what_a_filter_returns_is_what_everybody_sees_and_what_is_kept():
    with TextServer(answers("The word is sec", "ret", ". Really", " so"), answers("Yes.")) as server:
        with session(server) as client:
            client.add_filter(Sentences)
            client.add_filter(lambda: lambda text: text.replace("secret", "***"))
            with client.updates(timeout_s=WAIT_S) as updates:
                client.send_text("Say it.")
                seen = list(itertools.takewhile(lambda u: not isinstance(u, up.ResponseDone), updates))
            shown = [update.text for update in seen if isinstance(update, up.TextDelta)]
            assert shown == ["The word is ***.", " REALLY SO"]
            client.ask("Sure?", timeout_s=WAIT_S)
        assert server.requests[1].json["messages"][1]["content"] == "The word is ***. REALLY SO"


@pytest.mark.parametrize("fault", [lambda text: 1 / 0, lambda text: None], ids=["raises", "no text"])
def test_a_filter_that_fails_ends_the_answer_before_anything_is_shown(fault: Any):
    with TextServer(answers("secret")) as server, session(server) as client:
        client.add_filter(lambda: fault)
        with client.updates(timeout_s=WAIT_S) as updates:
            client.send_text("Say it.")
            seen = list(itertools.takewhile(lambda u: not isinstance(u, up.ResponseDone), updates))
        failure = next(update for update in seen if isinstance(update, up.Failure))
        assert (failure.error_type, failure.action) == ("screen", "fatal")
        assert "a filter failed" in failure.message
        assert not any(isinstance(update, up.TextDelta) for update in seen)


def test_filters_follow_each_other():
    filters = Filters([Sentences, lambda: str.title])
    assert [filters.feed("it is"), filters.feed(" so. and"), filters.end()] == ["", "It Is So.", " And"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("filter = 3", "has no function"),
        ("1 / 0", "ZeroDivisionError"),
        ("def f(:", "SyntaxError"),
        (None, "there is no such file"),
    ],
)
def test_a_file_that_has_no_filter(tmp_path: Path, text: str | None, says: str):
    path = tmp_path / "mine.py"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UsageError, match=says):
        filter_file(path)


def test_a_file_with_a_filter(tmp_path: Path):
    (tmp_path / "plain.py").write_text("def filter(text):\n    return text.upper()\n")
    (tmp_path / "made.py").write_text(
        "def make_filter():\n    seen = []\n    return lambda t: f'{len(seen)}{seen.append(t) or t}'\n"
    )
    assert filter_file(tmp_path / "plain.py")()("a") == "A"
    made = filter_file(tmp_path / "made.py")
    assert [made()("a"), made()("a")] == ["0a", "0a"], "a new one for each stream"


# --- watchers ---------------------------------------------------------------------------------------------------------


def test_watchers_run_side_by_side_and_their_results_come_in_order():
    together = threading.Barrier(2)
    with TextServer(answers(*(f"{n} " for n in range(50)))) as server:
        results: dict[str, list[Any]] = {"one": [], "two": []}
        with session(server) as client:

            def one(piece: pc.Piece) -> Any:
                if piece.n == 0:
                    together.wait(WAIT_S)  # each waits for the other: both run
                return getattr(piece, "text", None)

            def two(piece: pc.Piece) -> Any:
                if piece.n == 0:
                    together.wait(WAIT_S)
                return piece.n

            client.watch(one, results["one"].append)
            client.watch(two, results["two"].append)
            client.ask("Count.", timeout_s=WAIT_S)
        assert "".join(results["one"]) == "".join(f"{n} " for n in range(50))
        assert results["two"] == sorted(results["two"])
        assert len(results["two"]) >= 50


def test_a_watcher_that_fails_is_told_no_more_and_the_answer_goes_on():
    with TextServer(answers("One ", "two.")) as server, session(server) as client:
        seen: list[pc.Piece] = []

        def fails(piece: pc.Piece) -> None:
            seen.append(piece)
            raise ValueError("no")

        client.watch(fails)
        with client.updates(timeout_s=WAIT_S) as updates:
            client.send_text("Count.")
            notice = next(update for update in updates if isinstance(update, up.Notice))
        assert notice.message == "fails failed and is told no more: ValueError: no"
        assert client.ask("Again.", timeout_s=WAIT_S).text == "One two."
        assert len(seen) == 1


@pytest.mark.parametrize(("policy", "gets", "fails"), [("drop", 3, 0), ("fail", 2, 1)])
def test_a_watcher_that_is_too_slow(policy: WhenFull, gets: int, fails: int):
    """The first piece holds it; two may wait; ten come."""
    hold, began = threading.Event(), threading.Event()
    got: list[int] = []
    failures: list[str] = []

    def slow(piece: pc.Piece) -> None:
        got.append(piece.n)
        began.set()
        assert hold.wait(WAIT_S)

    watching = Watching(slow, bool, failures.append, size=2, when_full=policy)
    watching.take([piece(0)])
    assert began.wait(WAIT_S)
    watching.take([piece(n) for n in range(1, 10)])
    hold.set()
    watching.close(Deadline(WAIT_S))
    assert not watching.worker.thread.is_alive()
    assert len(failures) == fails
    assert got[0] == 0
    if policy == "drop":
        assert (got, watching.missed) == ([0, 8, 9], 7)


def test_block_lets_the_stream_wait_for_a_watcher():
    hold = threading.Event()
    got: list[int] = []

    def slow(piece: pc.Piece) -> None:
        assert hold.wait(WAIT_S)
        got.append(piece.n)

    watching = Watching(slow, bool, print, size=2, when_full="block")
    writer = threading.Thread(target=watching.take, args=([piece(n) for n in range(10)],))
    writer.start()
    hold.set()
    writer.join(WAIT_S)
    watching.close(Deadline(WAIT_S))
    assert got == list(range(10))


def test_a_slow_watcher_is_not_given_the_rest_when_the_time_for_closing_is_over():
    hold, began = threading.Event(), threading.Event()
    got: list[int] = []

    def slow(piece: pc.Piece) -> None:
        got.append(piece.n)
        began.set()
        assert hold.wait(WAIT_S)

    watching = Watching(slow, bool, print, size=10, when_full="block")
    watching.take([piece(n) for n in range(5)])
    assert began.wait(WAIT_S)
    watching.close(Deadline(0.05))
    hold.set()
    watching.worker.thread.join(WAIT_S)
    assert not watching.worker.thread.is_alive()
    assert got == [0]


def test_a_session_that_closes_lets_its_streams_go_on_past_a_full_watcher():
    hold, began = threading.Event(), threading.Event()

    def stuck(_piece: pc.Piece) -> None:
        began.set()
        assert hold.wait(WAIT_S)

    with TextServer(answers(*(f"{n} " for n in range(50)))) as server:
        client = session(server, chunk_buffer=1, limits=Limits(close_timeout_s=1))
        client.open()
        client.watch(stuck)
        client.send_text("Count.")
        assert began.wait(WAIT_S)
        with pytest.raises(ShutdownError) as left:
            client.close()
        assert left.value.threads == ("realtime-hook-stuck",), "and no stream"
        hold.set()


def test_a_watcher_that_never_returns_does_not_hold_up_the_end():
    hold, began = threading.Event(), threading.Event()

    def stuck(_piece: pc.Piece) -> None:
        began.set()
        hold.wait(WAIT_S)

    watching = Watching(stuck, bool, print, size=1, when_full="drop")
    watching.take([piece(0)])
    assert began.wait(WAIT_S)
    watching.take([piece(1)])
    watching.close(Deadline(0.05))
    assert watching.worker.thread.is_alive(), "close() of the session names it"
    hold.set()
    watching.worker.thread.join(WAIT_S)
    assert not watching.worker.thread.is_alive()


# --- pieces that wait -------------------------------------------------------------------------------------------------


def text(n: int) -> up.TextDelta:
    return up.TextDelta(response_id="r", item_id="i", content_index=0, text=f"{n} ")


DONE = up.ResponseDone(response_id="r", status="completed")


def test_pieces_wait_while_observers_are_behind_and_stay_in_order():
    held = ChunkBuffer(10, "drop")
    assert held.pass_on([text(0)], crowded=False) == [text(0)]
    assert held.pass_on([text(1)], crowded=True) == ()
    assert held.pass_on([text(2)], crowded=True) == ()
    assert held.pass_on([DONE], crowded=True) == [text(1), text(2), DONE], "what ends an answer never waits"
    assert held.pass_on([text(3)], crowded=False) == [text(3)]


def test_the_oldest_are_dropped_and_counted():
    held = ChunkBuffer(2, "drop")
    for n in range(5):
        held.pass_on([text(n)], crowded=True)
    assert held.dropped == 3
    assert held.pass_on([], crowded=False) == [text(3), text(4)]


def test_or_it_fails():
    held = ChunkBuffer(2, "fail")
    held.pass_on([text(0), text(1)], crowded=True)
    with pytest.raises(QueueFullError, match="2 pieces"):
        held.pass_on([text(2)], crowded=True)
    assert held.pass_on([DONE], crowded=True) == [DONE]


def test_block_holds_nothing():
    held = ChunkBuffer(2, "block")
    assert held.pass_on([text(0)], crowded=True) == [text(0)]


def slow_talk(policy: WhenFull, script: Script) -> tuple[list[up.Update], ChatSession]:
    """A talk whose observer takes nothing until the server has sent everything."""
    seen: list[up.Update] = []
    sent, done = threading.Event(), threading.Event()

    def slow(update: up.Update, _at_s: float) -> None:
        if isinstance(update, up.TextDelta):
            assert sent.wait(WAIT_S)
        seen.append(update)
        if isinstance(update, up.ResponseDone):
            done.set()

    def tells(request: Any) -> None:
        script(request)
        sent.set()

    with TextServer(tells) as server:
        with session(server, chunk_buffer=5, when_full=policy, limits=Limits(inbound_queue=4)) as client:
            client.observe(slow)
            client.send_text("Count.")
            assert done.wait(WAIT_S)
    return seen, client


@pytest.mark.parametrize("policy", ["drop", "fail"])
def test_a_slow_observer_in_a_session(policy: WhenFull):
    seen, _ = slow_talk(policy, stream(*(delta(f"{n} ") for n in range(100)), ends()))
    done = next(update for update in seen if isinstance(update, up.ResponseDone))
    shown = "".join(update.text for update in seen if isinstance(update, up.TextDelta))
    if policy == "drop":
        assert done.status == "completed"
        assert done.text == "".join(f"{n} " for n in range(100)), "the end tells all of it"
        assert len(shown) < len(done.text)
    else:
        assert done.status == "failed"
        failure = next(update for update in seen if isinstance(update, up.Failure))
        assert (failure.error_type, "nobody takes them" in failure.message) == ("screen", True)


def test_a_failed_question_is_an_error_of_ask():
    with TextServer(answers("secret")) as server, session(server) as client:
        client.add_filter(lambda: lambda text: None)  # type: ignore[arg-type, return-value]
        with pytest.raises(ResponseFailedError, match="a filter failed"):
            client.ask("Say it.", timeout_s=WAIT_S)
