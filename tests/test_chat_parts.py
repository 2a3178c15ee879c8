"""The parts under a conversation with text models: joining, breakers, figures."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from realtime_client.chat.accumulator import Accumulator
from realtime_client.chat.breaker import Breaker, BreakerPolicy, MemoryStore
from realtime_client.chat.continuation import Continuation
from realtime_client.chat.wires import pieces as pc
from realtime_client.updates import Usage

# --- joining ----------------------------------------------------------------------------------------------------------

COUNT = "One, two, three, four"


@pytest.mark.parametrize(
    ("partial", "prefilled", "comes", "joined"),
    [
        ("One, two, thr", True, "ee.", "One, two, three."),  # letter by letter
        ("One, two, thr", False, "three.", "One, two, three."),  # the last word again
        ("One, two, thr", False, "One, two, three.", "One, two, three."),  # everything again
        ("One, two, thr", True, "One, two, three.", "One, two, three."),
        ("One, two, ", False, "three.", "One, two, three."),
        ("One, two, ", False, " three.", "One, two,  three."),
        ("One, two,", False, "three.", "One, two, three."),  # words are kept apart
        ("One, two, three, four", False, "three, four, five", "One, two, three, four, five"),  # the end again
        ("One, two, three, four", False, " four, five", "One, two, three, four, five"),
        ("It is", False, "is red.", "It is red."),
        ("It is", False, "It is", "It is"),  # nothing new
        ("ha ha ", True, "ha ha", "ha ha ha ha"),  # what is meant to be there twice
        ("No", False, "No, never.", "No, never."),
        ("One, two, three, four, ", False, "One, two, three", "One, two, three, four, "),  # it came no further
        ("x", False, "", "x"),
        ("The answer is 4", False, "42.", "The answer is 42."),  # it was half a word
        ("The answer is 4", False, "five.", "The answer is 4 five."),  # another word
    ],
)
@pytest.mark.parametrize("step", [1, 3, 100])
def test_a_continuation_says_nothing_twice(partial: str, prefilled: bool, comes: str, joined: str, step: int):
    continuation = Continuation(partial, prefilled=prefilled)
    shown = [continuation.feed(comes[n : n + step]) for n in range(0, len(comes), step)]
    assert partial + "".join(shown) + continuation.end() == joined


@given(st.text("ab ,", max_size=30), st.text("ab ,", max_size=30), st.booleans())
@example(COUNT, COUNT + ", five", False)
@example("a ", "a   ", False)
def test_how_a_continuation_is_cut_makes_no_difference(partial: str, comes: str, prefilled: bool):
    whole = Continuation(partial, prefilled=prefilled)
    at_once = whole.feed(comes) + whole.end()
    pieces = Continuation(partial, prefilled=prefilled)
    assert "".join(pieces.feed(each) for each in comes) + pieces.end() == at_once


def test_the_last_word_is_made_again_unless_the_model_goes_on_by_letters():
    assert Continuation("One, two, thr", prefilled=False).sent == "One, two, "
    assert Continuation("One, two, thr", prefilled=True).sent == "One, two, thr"
    assert Continuation("One, two, ", prefilled=True).sent == "One, two,", "some models refuse a space at the end"
    assert Continuation("Unfinished", prefilled=False).sent == "Unfinished", "there is no other word"


def test_a_repetition_that_breaks_off_is_not_shown():
    continuation = Continuation("One, two, three, four, ", prefilled=False)
    assert continuation.feed("One, two, ") == ""
    assert continuation.end(broke=True) == ""
    assert continuation.end() == ""


# --- breakers ---------------------------------------------------------------------------------------------------------


def breaker(**policy: float) -> Breaker:
    return Breaker("one", MemoryStore(), BreakerPolicy(**policy))  # type: ignore[arg-type]


def test_it_opens_after_failures_in_a_row_and_closes_after_a_probe():
    one = breaker(in_a_row=3, open_s=30)
    for now in (1.0, 2.0):
        one.failed(now, "down")
    assert one.allows(2.5)
    one.failed(3.0, "down")
    assert (one.state.state, one.state.reason) == ("open", "down")
    assert not one.allows(32.9)
    assert one.allows(33.1)
    assert not one.allows(33.2), "one probe at a time"
    one.succeeded(34.0)
    assert one.state.state == "closed"
    assert one.allows(34.1)


def test_a_probe_that_fails_opens_it_again_and_one_that_is_withdrawn_lets_another_try():
    one = breaker(in_a_row=1, open_s=10)
    one.failed(0.0, "down")
    assert one.allows(11.0)
    one.released()
    assert one.allows(12.0)
    one.failed(13.0, "still down")
    assert (one.state.state, one.state.until_s) == ("open", 23.0)


def test_it_opens_by_rate_too():
    one = breaker(in_a_row=99, rate=0.5, least=10, window_s=60)
    for n in range(9):
        (one.failed(float(n), "down") if n % 2 else one.succeeded(float(n)))
    assert one.state.state == "closed"
    one.failed(9.0, "down")
    assert one.state.state == "open", "5 of 10"


def test_old_outcomes_do_not_count():
    one = breaker(in_a_row=3, window_s=60)
    one.failed(0.0, "down")
    one.failed(1.0, "down")
    one.failed(100.0, "down")
    assert one.state.state == "closed"


def test_it_stays_open_as_long_as_the_server_wants():
    one = breaker(in_a_row=1, open_s=10)
    one.failed(0.0, "too many", retry_after_s=100.0)
    assert not one.allows(99.0)
    assert one.allows(101.0)


def test_what_it_remembers_is_bounded():
    one = breaker(in_a_row=10_000, least=10_000, window_s=1e9)
    for n in range(1_000):
        one.succeeded(float(n))
    assert len(one.state.outcomes) == 100


def test_two_breakers_of_one_store_know_the_same():
    store = MemoryStore()
    one, other = (Breaker("one", store, BreakerPolicy(in_a_row=1)) for _ in range(2))
    one.failed(0.0, "down")
    assert not other.allows(1.0)


@pytest.fixture
def restless() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before_s)


@pytest.mark.usefixtures("restless")
def test_of_threads_that_ask_at_once_one_alone_sends_the_probe():
    threads, rounds = 8, 200
    store = MemoryStore()
    ready = threading.Barrier(threads, timeout=10)

    def asks(n: int) -> int:
        one = Breaker("one", store, BreakerPolicy(in_a_row=1, open_s=10))
        sent = 0
        for at_s in range(0, 20 * rounds, 20):
            if n == 0:
                one.failed(at_s, "down")
            ready.wait()
            sent += one.allows(at_s + 15)
            ready.wait()
        return sent

    with ThreadPoolExecutor(threads) as pool:
        assert sum(pool.map(asks, range(threads))) == rounds


# --- figures ----------------------------------------------------------------------------------------------------------


def text(stream: str, at_s: float, words: str = "word ") -> list[pc.Piece]:
    return [pc.TextPiece(stream, 0, at_s, words)]


def test_the_figures_of_a_stream():
    streams = Accumulator()
    streams.begin("s1", "ollama/x", 10.0)
    for n in range(20):
        streams.take(text("s1", 10.5 + n / 10))
    assert streams.text("s1") == "word " * 20
    assert streams.running() == {"s1": 12.4}
    streams.take([pc.UsagePiece("s1", 0, 12.4, Usage(output_tokens=40))])
    streams.take([pc.TimingsPiece("s1", 0, 12.4, pc.Timings(load_s=0.25, prompt_s=0.1, generate_s=2.0))])
    stats = streams.end("s1", 12.5)
    assert stats is not None
    assert (stats.pieces, stats.characters, stats.first_s, stats.total_s) == (20, 100, 0.5, 2.5)
    assert (stats.tokens, stats.tokens_per_s, stats.estimated) == (40, 20.0, False)
    assert (stats.load_s, stats.prompt_s, stats.rates) == (0.25, 0.1, [10, 10])
    assert streams.stats() == [stats]
    assert (streams.text("s1"), streams.running(), streams.end("s1", 13.0)) == ("", {}, None)


def test_without_usage_the_tokens_are_estimated():
    streams = Accumulator()
    streams.begin("s1", "openai/x", 0.0)
    for n in range(5):
        streams.take(text("s1", 1.0 + n / 4))
    stats = streams.end("s1", 2.0)
    assert stats is not None
    assert (stats.tokens, stats.tokens_per_s, stats.estimated) == (5, 5.0, True)


def test_finished_streams_are_released():
    streams = Accumulator(keep=3)
    for n in range(10):
        streams.begin(f"s{n}", "x", 0.0)
        streams.take(text(f"s{n}", 1.0))
        streams.end(f"s{n}", 2.0)
    assert [each.stream for each in streams.stats()] == ["s7", "s8", "s9"]
    assert streams.finished == 10
    streams.take(text("s9", 3.0))
    assert streams.text("s9") == "", "what comes late is not kept"


def test_streams_are_added_to_while_others_read():
    streams = Accumulator()
    failures: list[BaseException] = []
    names = [f"s{n}" for n in range(4)]
    for name in names:
        streams.begin(name, "x", 0.0)

    def add(name: str) -> None:
        try:
            for n in range(500):
                streams.take(text(name, float(n), f"{n} "))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=add, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        for name in names:
            words = streams.text(name).split()
            assert words == [str(n) for n in range(len(words))]
        streams.running()
    for thread in threads:
        thread.join(10)
    assert not failures
    assert [stats and stats.pieces for stats in (streams.end(name, 500.0) for name in names)] == [500] * 4
