"""The client's small parts, each alone: keep-alive, outbox, figures, deadlines, subscriptions, signals."""

from __future__ import annotations

import math
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime_client import errors
from realtime_client import updates as up
from realtime_client.client.ahead import Ahead
from realtime_client.client.endpoint import Endpoint
from realtime_client.client.keepalive import KeepAlive
from realtime_client.client.outbox import Outbox, Ping
from realtime_client.deadline import SYSTEM_CLOCK, Deadline
from realtime_client.protocol.events import (
    ConversationItemCreate,
    InputAudioBufferAppend,
    ResponseCancel,
    ResponseCreate,
)
from realtime_client.protocol.items import user_text
from realtime_client.session.inbound import Entry, Inbound
from realtime_client.session.stats import RoundTrip, TurnClock
from realtime_client.session.subscription import Subscription
from realtime_client.session.threads import Worker, stacks

WAIT_S = 10


class HandClock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s

    def wall(self) -> float:
        return self.now_s


# --- deadlines --------------------------------------------------------------------------------------------------------


def test_deadline() -> None:
    clock = HandClock()
    deadline = Deadline(5, clock)
    assert (deadline.remaining_s(), deadline.at_most_s(2), deadline.expired) == (5, 2, False)
    clock.now_s += 4
    assert (deadline.remaining_s(), deadline.at_most_s(2), deadline.expired) == (1, 1, False)
    clock.now_s += 4
    assert (deadline.remaining_s(), deadline.at_most_s(2), deadline.expired) == (0, 0, True)
    endless = Deadline(None, clock)
    assert (endless.remaining_s(), endless.at_most_s(2), endless.expired) == (None, 2, False)
    assert Deadline(0, clock).expired


# --- keep-alive -------------------------------------------------------------------------------------------------------


class Pinger:
    """A keep-alive and the pings it sends."""

    def __init__(self, *, interval: float = 10, pong: float = 4, silence: float = 0) -> None:
        self.sent: list[bytes] = []
        self.it = KeepAlive(interval_s=interval, pong_timeout_s=pong, read_timeout_s=silence, now_s=0)

    def step(self, now_s: float, *, stalled: bool = False) -> errors.ConnectionLostError | None:
        return self.it.step(now_s, self.sent.append, lambda: None, stalled_here=stalled)


def test_pings_go_out_on_schedule_and_pongs_are_timed() -> None:
    pinger = Pinger()
    assert pinger.it.next_step_s(0) == 1  # the first one early, so that the round trip is known soon
    assert pinger.step(0.9) is None
    assert pinger.sent == []
    assert pinger.step(1) is None
    assert len(pinger.sent) == 1
    assert pinger.it.next_step_s(1) == 4
    pinger.it.pong(pinger.sent[0], 1.25)
    pinger.it.pong(pinger.sent[0], 2)  # told twice, measured once
    pinger.it.pong(b"stranger", 2)
    assert pinger.it.next_step_s(2) == 9
    assert pinger.step(11) is None
    pinger.it.pong(pinger.sent[1], 11.75)
    assert pinger.sent[0] != pinger.sent[1]
    assert pinger.it.round_trip == RoundTrip(pongs=2, last_ms=750, min_ms=250, mean_ms=500, max_ms=750)


def test_a_missed_pong() -> None:
    pinger = Pinger()
    pinger.step(10)
    assert pinger.step(13.9) is None
    error = pinger.step(14)
    assert isinstance(error, errors.PongMissedError)
    assert "no pong within 4 s" in str(error)


def test_an_old_pong_does_not_answer_a_new_ping() -> None:
    pinger = Pinger()
    pinger.step(10)
    pinger.it.pong(pinger.sent[0], 11)
    pinger.step(20)
    pinger.it.pong(pinger.sent[0], 21)
    assert pinger.step(24) is None  # but whoever answers at all is not gone
    assert isinstance(pinger.step(26), errors.PongMissedError)


def test_a_stall_of_our_own_proves_nothing() -> None:
    pinger = Pinger(silence=6)
    pinger.step(1)
    assert pinger.step(30, stalled=True) is None
    assert pinger.step(30) is None
    assert pinger.step(35.9) is None
    assert pinger.it.next_step_s(35.9) == pytest.approx(0.1)
    pinger.it.pong(pinger.sent[0], 35.9)  # late: its ping is forgotten
    assert pinger.it.round_trip.pongs == 0


def test_silence() -> None:
    pinger = Pinger(interval=0, silence=5)
    assert pinger.it.next_step_s(1) == 4
    pinger.it.last_heard_s = 3
    assert pinger.step(7.9) is None
    error = pinger.step(8)
    assert isinstance(error, errors.ConnectionLostError)
    assert "silent for 5 s" in str(error)
    assert pinger.sent == []


def test_keep_alive_turned_off() -> None:
    pinger = Pinger(interval=0)
    assert pinger.it.next_step_s(5) is None
    assert pinger.step(10**9) is None


@given(st.lists(st.tuples(st.floats(0, 30), st.sampled_from(["step", "pong", "stall"])), max_size=40))
def test_at_most_one_ping_is_unanswered(moves: list[tuple[float, str]]) -> None:
    pinger, now, answered = Pinger(), 0.0, 0
    for delay, move in moves:
        now += delay
        if move == "pong" and pinger.sent:
            pinger.it.pong(pinger.sent[-1], now)
            answered = len(pinger.sent)
        else:
            before = len(pinger.sent)
            error = pinger.step(now, stalled=move == "stall")
            if move == "stall":
                assert error is None
                answered = len(pinger.sent)
            elif len(pinger.sent) > before:
                assert answered == before
        assert (pinger.it.next_step_s(now) or 0) >= 0


# --- outbox -----------------------------------------------------------------------------------------------------------


def audio(n: int) -> InputAudioBufferAppend:
    return InputAudioBufferAppend(audio=bytes([n]))


def in_thread(task: Callable[[], object]) -> tuple[threading.Thread, list[object]]:
    """Run a task in a thread; the list gets what it returns or raises."""
    outcome: list[object] = []

    def run() -> None:
        try:
            outcome.append(task())
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, outcome


def test_the_urgent_lane_overtakes() -> None:
    outbox = Outbox(10)
    outbox.put(audio(1), wait_s=0)
    outbox.put_now(ResponseCreate())
    outbox.put_now(ResponseCancel(), urgent=True)
    outbox.put_now(Ping(b"1"), urgent=True)
    assert outbox.get() == [ResponseCancel(), Ping(b"1"), audio(1), ResponseCreate()]
    assert outbox.high_water == 2


def test_the_outbox_keeps_order_over_many_batches() -> None:
    outbox = Outbox(1000)
    for n in range(200):
        outbox.put(audio(n), wait_s=0)
    taken: list[object] = []
    while len(taken) < 200:
        batch = outbox.get()
        assert 0 < len(batch) <= 64
        taken += batch
    assert taken == [audio(n) for n in range(200)]


def test_a_full_outbox_waits_then_fails_loudly() -> None:
    outbox = Outbox(2)
    outbox.put(audio(1), wait_s=0)
    outbox.put(audio(2), wait_s=0)
    for wait_s in (0, 0.05):
        with pytest.raises(errors.QueueFullError, match=f"2 messages wait .* waited {wait_s:g} s"):
            outbox.put(audio(3), wait_s=wait_s)
    outbox.put_now(ResponseCreate())
    outbox.check_room()
    outbox.put_now(ResponseCreate())
    with pytest.raises(errors.QueueFullError, match="4 messages wait"):
        outbox.check_room()  # no further decision
    outbox.put_now(ResponseCancel(), urgent=True)  # what one has to say still gets through
    assert len(outbox.get()) == 5
    outbox.check_room()


def test_a_server_that_makes_us_talk_and_does_not_listen() -> None:
    outbox = Outbox(2)
    with pytest.raises(errors.QueueFullError):
        for _ in range(2000):
            outbox.put_now(ResponseCancel(), urgent=True)


def test_the_outbox_is_bounded_in_bytes() -> None:
    outbox = Outbox(1000, limit_bytes=1000)
    outbox.put(InputAudioBufferAppend(audio=bytes(5000)), wait_s=0)  # alone it may be larger
    for item in (audio(1), ConversationItemCreate(item=user_text("x"))):
        with pytest.raises(errors.QueueFullError, match="5000 bytes"):
            outbox.put(item, wait_s=0)
    with pytest.raises(errors.QueueFullError):
        outbox.wait_for_room(0)
    outbox.get()
    outbox.wait_for_room(0)
    for _ in range(10):
        outbox.put(InputAudioBufferAppend(audio=bytes(100)), wait_s=0)
    with pytest.raises(errors.QueueFullError):
        outbox.put(audio(1), wait_s=0)
    thread, outcome = in_thread(lambda: outbox.put(audio(1), wait_s=WAIT_S))
    outbox.get()
    thread.join(WAIT_S)
    assert outcome == [None]


def test_a_file_stays_close_to_what_the_server_has_read() -> None:
    ahead = Ahead(SYSTEM_CLOCK)
    marks = [mark for _ in range(80) if (mark := ahead.sent(100)) is not None]
    assert len(marks) == 16  # one every half second of eight seconds
    with pytest.raises(errors.QueueFullError, match="read nothing"):
        ahead.wait(0)
    ahead.read(b"stranger")
    thread, outcome = in_thread(lambda: ahead.wait(WAIT_S))
    for mark in marks[:5]:
        ahead.read(mark)
    assert thread.is_alive()
    ahead.read(marks[5])  # three seconds: five are left
    thread.join(WAIT_S)
    assert outcome == [None]
    ahead.sent(1000)
    thread, outcome = in_thread(lambda: ahead.wait(WAIT_S))
    ahead.end()
    thread.join(WAIT_S)
    assert isinstance(outcome[0], errors.ClosedError)


def test_a_waiting_put_goes_on_when_there_is_room() -> None:
    outbox = Outbox(1)
    outbox.put(audio(1), wait_s=0)
    thread, outcome = in_thread(lambda: outbox.put(audio(2), wait_s=WAIT_S))
    assert outbox.get() == [audio(1)]
    thread.join(WAIT_S)
    assert outcome == [None]
    assert outbox.get() == [audio(2)]


def test_close_wakes_those_who_wait() -> None:
    outbox = Outbox(1)
    taker, taken = in_thread(outbox.get)
    outbox.close()
    taker.join(WAIT_S)
    assert taken == [[]]
    full = Outbox(1)
    full.put(audio(1), wait_s=0)
    putter, outcome = in_thread(lambda: full.put(audio(2), wait_s=WAIT_S))
    full.close()
    putter.join(WAIT_S)
    assert isinstance(outcome[0], errors.ClosedError)
    assert full.get() == [audio(1)]  # what was queued before the end is still sent
    assert full.get() == []


def test_close_may_drop_what_waits() -> None:
    outbox = Outbox(5)
    outbox.put(audio(1), wait_s=0)
    outbox.put_now(Ping(b"1"), urgent=True)
    outbox.close(drop=True)
    outbox.close()
    assert outbox.get() == []
    with pytest.raises(errors.ClosedError):
        outbox.put(audio(1), wait_s=1)
    outbox.put_now(audio(1))
    assert outbox.get() == [], "what is said of itself after the end is dropped"


def test_many_writers_one_reader() -> None:
    outbox = Outbox(3)
    writers = [
        in_thread(lambda lane=lane: [outbox.put(audio(lane), wait_s=WAIT_S) for _ in range(50)]) for lane in range(4)
    ]
    taken: list[object] = []
    while len(taken) < 200:
        taken += outbox.get()
    for thread, outcome in writers:
        thread.join(WAIT_S)
        assert not isinstance(outcome[0], Exception)
    assert all(taken.count(audio(lane)) == 50 for lane in range(4))
    assert outbox.high_water <= 3


# --- inbound queue ----------------------------------------------------------------------------------------------------


def entry(name: str, size: int = 1) -> Entry:
    return Entry(None, (up.Notice(message=name),), 0.0, size)


def names(entries: list[Entry]) -> list[str]:
    return [update.message for each in entries for update in each.updates]


def has_gone_to_sleep(inbound: Inbound) -> None:
    until = time.monotonic() + WAIT_S
    while not inbound._asleep:
        assert time.monotonic() < until


def test_what_can_wait_wakes_the_reader_with_the_fifth_or_with_anything_else() -> None:
    inbound = Inbound(100, 100)
    for item in "abcd":
        inbound.put_now(entry(item), quietly=True)
    assert inbound._quiet == 4
    inbound = Inbound(100, 100)
    taken: list[Entry] = []
    some = threading.Condition()

    def read() -> None:
        while (item := inbound.get()) is not None:
            with some:
                taken.append(item)
                some.notify()

    def has(*items: str) -> None:
        with some:
            assert some.wait_for(lambda: names(taken) == list(items), WAIT_S), taken

    reader = threading.Thread(target=read)
    reader.start()
    inbound.put_now(entry("first"))
    has("first")
    has_gone_to_sleep(inbound)
    for item in "abcd":
        inbound.put_now(entry(item), quietly=True)
    assert inbound._asleep, "four do not wake the reader"
    assert names(taken) == ["first"]
    inbound.put_now(entry("e"), quietly=True)
    has("first", *"abcde")
    inbound.put_now(entry("f"), quietly=True)
    inbound.put_now(entry("g"))
    has("first", *"abcdefg")
    inbound.put_now(entry("h"), quietly=True)
    inbound.put_now(None)
    inbound.put_now(entry("after the end"))
    reader.join(WAIT_S)
    assert names(taken) == ["first", *"abcdefgh"]


@pytest.mark.parametrize(("limit", "limit_bytes"), [(2, 1000), (1000, 20)])
def test_a_full_inbound_queue_lets_its_writers_wait(limit: int, limit_bytes: int) -> None:
    """It takes what is decided in its order, and lets go by the first entry taken, or when the reader leaves."""
    for let_go in (lambda inbound: inbound.get(timeout=WAIT_S), lambda inbound: inbound.leave()):
        inbound = Inbound(limit, limit_bytes)
        inbound.put_now(entry("a", 10))
        assert not inbound.crowded
        inbound.wait_for_room()
        inbound.put_now(entry("b", 10))
        assert inbound.crowded
        waiting = [in_thread(inbound.wait_for_room) for _ in range(3)]
        let_go(inbound)
        for thread, _ in waiting:
            thread.join(WAIT_S)
            assert not thread.is_alive()


@pytest.mark.parametrize(("limit", "limit_bytes"), [(2, 1000), (1000, 20)])
def test_what_can_wait_does_not_wait_in_a_full_queue(limit: int, limit_bytes: int) -> None:
    """Whoever sends it waits for room next."""
    inbound = Inbound(limit, limit_bytes)
    reader, _ = in_thread(inbound.get)
    has_gone_to_sleep(inbound)
    inbound.put_now(entry("a", 10), quietly=True)
    assert inbound._asleep
    inbound.put_now(entry("b", 10), quietly=True)
    writer, _ = in_thread(inbound.wait_for_room)
    for thread in (reader, writer):
        thread.join(WAIT_S)
        assert not thread.is_alive()


def test_an_inbound_queue_that_nobody_empties_has_an_end() -> None:
    inbound = Inbound(2, 10**9)
    with pytest.raises(errors.QueueFullError, match="no observer takes them"):
        for number in range(3_000):
            inbound.put_now(entry(str(number)))
    assert inbound.qsize() == 2 * 2 + 1024, "twice the limit, and what calls that must not wait may add"


# --- figures ----------------------------------------------------------------------------------------------------------


def delta(response: str = "r1", size: int = 10) -> up.AudioDelta:
    return up.AudioDelta(response_id=response, item_id="i", content_index=0, audio=bytes(size))


def words(response: str = "r1") -> up.TextDelta:
    return up.TextDelta(response_id=response, item_id="i", content_index=0, text="x")


def test_a_voice_turn_is_timed_from_the_end_of_speech() -> None:
    clock = TurnClock()
    clock.take(up.SpeechStopped(item_id="u", at_ms=1), 10.0)
    clock.take(up.ResponseStarted(response_id="r1"), 10.1)
    clock.take(words(), 10.2)
    clock.take(delta(), 10.3)
    clock.take(delta(), 10.4)
    clock.take(words(), 10.4)
    clock.take(up.ResponseDone(response_id="r1", status="completed"), 11.0)
    (turn,) = clock.turns
    assert (turn.first_text_ms, turn.first_audio_ms, turn.speech_to_audio_ms, turn.total_ms) == (200, 300, 300, 1000)
    assert (turn.audio_chunks, turn.audio_bytes, turn.text_chunks, turn.status) == (2, 20, 2, "completed")
    assert not turn.interrupted


def test_a_typed_turn_is_timed_from_its_request() -> None:
    clock = TurnClock()
    clock.take(up.SpeechStopped(item_id="u", at_ms=1), 1.0)
    clock.take(up.ResponseStarted(response_id="r0"), 1.1)
    clock.asked(5.0)
    clock.take(up.ResponseStarted(response_id="r1"), 5.1)
    clock.take(delta(), 5.5)
    clock.take(
        up.Interrupted(response_id="r1", item_id="i", content_index=0, heard_ms=1, received_ms=2, cause="typed"), 5.6
    )
    clock.take(up.ResponseDone(response_id="r1", status="cancelled"), 6.0)
    turn = clock.turns[1]
    assert (turn.first_audio_ms, turn.speech_to_audio_ms, turn.total_ms) == (500, None, 1000)
    assert (turn.interrupted, turn.status) == (True, "cancelled")


def test_turns_of_strange_servers_do_not_pile_up() -> None:
    clock = TurnClock(keep=10)
    clock.take(delta("never started"), 0.0)
    clock.take(up.ResponseDone(response_id="never started", status="completed"), 0.0)
    for n in range(1000):
        clock.take(up.ResponseStarted(response_id=f"r{n}"), float(n))
    assert clock.turn_count == 1000
    assert [turn.response_id for turn in clock.turns] == [f"r{n}" for n in range(990, 1000)]
    assert len(clock._open) <= 64


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=30))
def test_round_trip_figures(measured: list[float]) -> None:
    figures = RoundTrip()
    for ms in measured:
        figures.add(ms)
    assert (figures.pongs, figures.last_ms) == (len(measured), measured[-1])
    assert (figures.min_ms, figures.max_ms) == (min(measured), max(measured))
    assert math.isclose(figures.mean_ms or 0, sum(measured) / len(measured), abs_tol=1e-3)


# --- subscriptions ----------------------------------------------------------------------------------------------------


def subscription(limit: int = 3, failure: Exception | None = None) -> tuple[Subscription, list[str]]:
    removed: list[str] = []
    return Subscription(limit, lambda: removed.append("x"), lambda: failure, timeout_s=0.01), removed


def test_a_reader_that_lags_behind_gets_what_it_has_then_an_error() -> None:
    reader, removed = subscription()
    for n in range(5):
        reader.offer(words(f"r{n}"), 0.0)
    assert removed
    assert next(reader).response_id == "r0"
    reader.offer(words("r5"), 0.0)  # there is room, and a gap before it
    assert [next(reader).response_id for _ in range(2)] == ["r1", "r2"]
    with pytest.raises(errors.QueueFullError, match="more than 3 updates behind"):
        next(reader)


def test_a_full_reader_learns_of_the_end() -> None:
    reader, _ = subscription()
    for n in range(3):
        reader.offer(words(f"r{n}"), 0.0)
    reader.end()
    assert [next(reader).response_id for _ in range(3)] == ["r0", "r1", "r2"]
    with pytest.raises((StopIteration, errors.QueueFullError)):
        next(reader)


def test_a_reader_waits_no_longer_than_asked() -> None:
    reader, removed = subscription()
    with pytest.raises(TimeoutError, match="no update in time"):
        next(reader)
    with pytest.raises(TimeoutError):
        list(reader.until(Deadline(0)))
    with reader:
        pass
    assert removed


def test_closing_a_reader_wakes_it() -> None:
    reader = Subscription(3, lambda: None, lambda: None, timeout_s=None)
    thread, outcome = in_thread(lambda: list(reader))
    reader.close()
    thread.join(WAIT_S)
    assert outcome == [[]]
    reader.offer(words(), 0.0)
    assert not reader._updates, "nobody wants it"
    reader.offer(words(), 0.0)
    assert list(reader) == []


def test_a_time_limit_is_ours_and_pythons() -> None:
    reader, _ = subscription()
    with pytest.raises(errors.RealtimeError) as caught:
        next(reader)
    assert isinstance(caught.value, TimeoutError)
    assert isinstance(caught.value, errors.TimeLimitError)


def every_error() -> list[errors.RealtimeError]:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    return [
        *(kind("sounds", "aec") if kind is errors.MissingExtraError else kind("what is wrong") for kind in kinds),
        errors.RateLimitedError("x", retry_after_s=3),
        errors.SessionRefusedError("x", code="y"),
        errors.ConnectionLostError("x", close_code=1011),
        errors.SessionEndedError("x", close_code=4000, code="z"),
        errors.ShutdownError("x", threads=("a", "b")),
    ]


@pytest.mark.parametrize("error", every_error(), ids=lambda error: type(error).__name__)
def test_errors_can_be_pickled(error: errors.RealtimeError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)
    assert isinstance(error, errors.RealtimeError)


def test_the_end_is_final_and_tells_why() -> None:
    reader, _ = subscription(failure=errors.ConnectionLostError("gone"))
    reader.offer(words(), 0.0)
    reader.end()
    assert next(reader)
    with pytest.raises(errors.ConnectionLostError, match="gone"):
        next(reader)
    assert list(reader) == []


# --- workers, endpoints -----------------------------------------------------------------------------------------------


def test_a_worker_keeps_its_exception_and_tells_it_once() -> None:
    told: list[BaseException] = []
    worker = Worker("realtime-test", lambda: 1 // 0, told.append)
    worker.start()
    worker.thread.join(WAIT_S)
    assert isinstance(worker.error, ZeroDivisionError)
    assert told == [worker.error]


def test_where_a_thread_stands() -> None:
    release = threading.Event()
    worker = Worker("realtime-test", lambda: release.wait(WAIT_S), lambda _error: None)
    worker.start()
    try:
        assert stacks([worker.thread]).startswith("realtime-test: ")
        assert "wait (threading.py:" in stacks([worker.thread])
    finally:
        release.set()
        worker.thread.join(WAIT_S)
    assert stacks([worker.thread]) == ""


def test_an_endpoint_never_shows_a_key() -> None:
    endpoint = Endpoint(
        url="wss://127.0.0.1/v1?model=m&api-key=sk-secret", headers={"Authorization": "Bearer sk-secret"}
    )
    for shown in (repr(endpoint), str(endpoint), endpoint.label, f"{endpoint}"):
        assert "secret" not in shown
    assert endpoint.label == "wss://127.0.0.1/v1"


# --- signals ----------------------------------------------------------------------------------------------------------

posix = pytest.mark.skipif(not hasattr(signal, "sigwait"), reason="POSIX signals")


def run_signals(body: str) -> str:
    """Run a program with signals(); returns what it printed."""
    program = "import os, signal, sys, threading\nfrom realtime_client.session.signals import signals\n"
    done = subprocess.run(
        [sys.executable, "-c", program + textwrap.dedent(body)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        cwd=Path(__file__).parent.parent,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


@posix
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_once_and_twice(name: str) -> None:
    out = run_signals(f"""
        seen, first, second = [], threading.Event(), threading.Event()
        def on(which, count):
            seen.append((which.name, count, threading.current_thread().name))
            (first if count == 1 else second).set()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
        with signals(on):
            os.kill(os.getpid(), signal.{name})
            assert first.wait(10)
            os.kill(os.getpid(), signal.{name})
            assert second.wait(10)
        print(seen, signal.pthread_sigmask(signal.SIG_BLOCK, []) == before, threading.active_count())
    """)
    expected = [(name, 1, "realtime-signals"), (name, 2, "realtime-signals")]
    assert out == f"{expected} True 1\n"


@posix
def test_afterwards_a_signal_has_its_usual_effect() -> None:
    out = run_signals("""
        with signals(lambda which, count: None):
            pass
        try:
            signal.raise_signal(signal.SIGINT)
            print("nothing")
        except KeyboardInterrupt:
            print("interrupted")
    """)
    assert out == "interrupted\n"


@posix
def test_many_signals_while_the_main_thread_waits() -> None:
    """The handlers of old: an Event set in a handler while the main thread is inside Event.wait can deadlock."""
    out = run_signals("""
        stop, count = threading.Event(), []
        def on(which, number):
            count.append(number)
            told.release()
            if number == 500:
                stop.set()
        told = threading.Semaphore(0)
        def send():
            for _ in range(500):
                os.kill(os.getpid(), signal.SIGINT)
                assert told.acquire(timeout=10)
        with signals(on):
            sender = threading.Thread(target=send)
            sender.start()
            while not stop.wait(0.001):
                pass
            sender.join(10)
        print(len(count), count[-1])
    """)
    assert out == "500 500\n"


@posix
def test_an_exception_leaves_signals_as_they_were() -> None:
    out = run_signals("""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
        try:
            with signals(lambda which, count: None):
                raise ValueError("x")
        except ValueError:
            print(signal.pthread_sigmask(signal.SIG_BLOCK, []) == before, threading.active_count())
    """)
    assert out == "True 1\n"


@posix
def test_a_signal_too_late_kills_nobody() -> None:
    """Ctrl-C at the very end: the work is done, and the exit code says so."""
    out = run_signals("""
        class Late:
            pass
        def on(which, count):
            raise AssertionError("nobody listens any more")
        import realtime_client.session.signals as module
        real = module._discard_pending
        def discard(wanted):
            os.kill(os.getpid(), signal.SIGTERM)
            real(wanted)
        module._discard_pending = discard
        with signals(on):
            pass
        print("done")
    """)
    assert out == "done\n"


@posix
def test_a_failing_callback_does_not_stop_the_signals() -> None:
    """Whatever the callback does, the second Ctrl-C still arrives."""
    out = run_signals("""
        threading.excepthook = lambda args: None
        second = threading.Event()
        def on(which, count):
            if count == 1:
                raise ValueError("x")
            second.set()
        with signals(on):
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGTERM)
            print(second.wait(5))
    """)
    assert out == "True\n"


def test_pings_keep_their_interval_while_pongs_come() -> None:
    """A long pong limit does not slow the pings down: the thread sleeps to the next ping, not to the limit."""
    keep_alive = KeepAlive(interval_s=0.05, pong_timeout_s=5, read_timeout_s=0, now_s=0.0)
    pings = 0
    now = 0.0
    while now < 1.0:
        step_s = keep_alive.next_step_s(now)
        assert step_s is not None
        now += step_s
        payloads: list[bytes] = []
        assert keep_alive.step(now, payloads.append, lambda: None, stalled_here=False) is None
        for payload in payloads:
            pings += 1
            keep_alive.pong(payload, now + 0.01)
    assert 18 <= pings <= 21
