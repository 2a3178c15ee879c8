"""One conversation that meets a fault at a given moment, and the comparison of both sides' ledgers after it.

python tests/reconnect_stage.py [EVERY]     # all faults at all moments (or each EVERY-th), as a table
"""

from __future__ import annotations

import itertools
import json
import sys
import tempfile
import threading
import wave
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec
from ledger import BLOCK_MS, BLOCK_SAMPLES, TOOL, LedgerServer, block, order_of, samples_of, within
from reconnect_faults import FAULTS, MOMENTS, Case

from realtime_client import errors
from realtime_client import updates as up
from realtime_client.batch.results.summary import spread
from realtime_client.client.client import RealtimeClient
from realtime_client.client.endpoint import Endpoint
from realtime_client.protocol import events as ev
from realtime_client.protocol import session as wire
from realtime_client.recording import Recorder
from realtime_client.session.limits import Limits, Recovery

WAIT_S = 10.0
PATIENT = Limits(open_timeout_s=2, close_timeout_s=4)
WATCHFUL = Limits(open_timeout_s=2, close_timeout_s=4, ping_interval_s=0.2, pong_timeout_s=0.3, busy_timeout_s=0.6)
RECOVERY = Recovery(reconnect_s=WAIT_S)
QUIET, SPOKEN = 15, 25  # blocks before speech, and of it
ENDS = 40  # blocks of silence: more than what ends a turn
U = TypeVar("U", bound=up.Update)


class Outcome(msgspec.Struct, kw_only=True):
    """What became of a conversation. took_ms: how long there was no session, of each loss."""

    losses: int
    restored: int
    tries: int
    away_ms: list[int]
    lost_ms: int
    error: str


class Told:
    """The updates of a session, for who waits for one."""

    def __init__(self) -> None:
        self.all: list[up.Update] = []
        self._more = threading.Condition()

    def take(self, update: up.Update, _at_s: float) -> None:
        with self._more:
            self.all.append(update)
            self._more.notify_all()

    def every(self, kind: type[U]) -> list[U]:
        return [each for each in list(self.all) if isinstance(each, kind)]

    def get(self, at: int) -> up.Update:
        """The one at this place. Errors: TimeoutError."""
        with self._more:
            if not self._more.wait_for(lambda: len(self.all) > at, WAIT_S):
                raise TimeoutError(f"nothing new within {WAIT_S:g} s; the last was {self.all[-1:]}")
            return self.all[at]

    def until(self, kind: type[U], fits: Callable[[U], object] = lambda _: True) -> U:
        """The first one that fits. Errors: TimeoutError; AssertionError once the session has ended without it."""
        for at in itertools.count():
            update = self.get(at)
            if isinstance(update, kind) and fits(update):
                return update
            assert not isinstance(update, up.SessionEnded), f"ended without {kind.__name__}: {update.reason}"
        raise AssertionError


class Mic:
    """A microphone of numbered blocks. at_ms: where each block of speech begins in all that was sent."""

    def __init__(self, client: RealtimeClient) -> None:
        self._client = client
        self._next = 1
        self.at_ms: dict[int, int] = {}

    def send(self, blocks: int, *, speech: bool = True) -> None:
        for _ in range(blocks):
            if speech:
                self.at_ms[self._next] = (self._next - 1) * BLOCK_MS
            self._client.send_audio(block(self._next, speech=speech))
            self._next += 1


class Stage:
    """A conversation. vad: the server ends the spoken turns."""

    def __init__(self, client: RealtimeClient, server: LedgerServer, *, vad: bool) -> None:
        self.client, self.server, self._vad = client, server, vad
        self.told = Told()
        client.observe(self.told.take)
        self.mic = Mic(client)
        self.history: list[tuple[str, str]] = []
        self.asked_by_hand = 0
        self._read = 0
        self._hello = ""

    def begin(self) -> None:
        """Two finished turns, typed and spoken."""
        self._hello = self.type("hello")
        self.speak()
        self.end_turn()

    def type(self, text: str) -> str:
        """A typed turn."""
        item_id = self.client.send_text(text).item_id
        self.answered(("user", text), ("assistant", f"ok {text}"))
        return item_id

    def answered(self, *said: tuple[str, str]) -> None:
        """Wait for the last of this, and ask for it again where that is told to be up to us."""
        self.history += said
        while True:
            update = self.told.get(self._read)
            self._read += 1
            assert not isinstance(update, up.SessionEnded), f"ended without {said[-1]}: {update.reason}"
            if isinstance(update, up.ResponseDone) and (update.status, update.text) == ("completed", said[-1][1]):
                return
            if self._is_given_up(update):
                self.asked_by_hand += 1
                self.client.respond()

    def _is_given_up(self, update: up.Update) -> bool:
        """Whether an answer was lost twice, which nobody asks for a third time."""
        if isinstance(update, up.ResponseDone) and update.reason == "connection_lost":
            return all(each.response_id != update.response_id for each in self.told.every(up.AnswerFollows))
        return isinstance(update, up.Failure) and update.code == up.REQUEST_LOST

    def speak(self) -> None:
        self._from = self.mic._next + (QUIET if self._vad else 0)
        if self._vad:
            self.mic.send(QUIET, speech=False)
        self.mic.send(SPOKEN)

    def end_turn(self) -> None:
        """Until the spoken turn is answered."""
        words = f"mic {self._from}-{self.mic._next - 1}"
        if self._vad:
            self.mic.send(ENDS, speech=False)
        else:
            self.client.commit()
            self.client.respond()
        self.answered(("user", words), ("assistant", f"ok {words}"))

    def strike(self) -> None:
        """Send what the faults wait for."""
        self.client.send_event(ev.ConversationItemRetrieve(item_id=self._hello))

    # --- the moments --------------------------------------------------------------------------------------------------

    @property
    def moments(self) -> dict[str, Callable[[], None]]:
        calls = (self.strike, self.speaking, self.speaking, self.streaming, self.tool)
        return dict(zip(MOMENTS, calls, strict=True))

    def speaking(self) -> None:
        self.speak()
        self.strike()
        self.mic.send(SPOKEN)
        self.end_turn()

    def streaming(self) -> None:
        sent = self.client.send_text("long story")
        self.told.until(up.ResponseStarted, lambda began: began.request_id == sent.request_id)
        self.strike()
        self.answered(("user", "long story"), ("assistant", "long long story"))

    def tool(self) -> None:
        self.client.send_text("use it")
        call = self.told.until(up.ToolCall)
        self.strike()
        self.client.send_tool_result(call.call_id, "found")
        told = [("call", f"{call.call_id} {call.arguments}"), ("output", f"{call.call_id} found")]
        self.answered(("user", "use it"), *told, ("assistant", "done found"))

    def end(self) -> None:
        """One turn more."""
        self.type("last")


# --- what must be true after it ---------------------------------------------------------------------------------------


def run(case: Case, moment: str, folder: Path) -> Outcome:
    """Hold the conversation, and compare. Errors: AssertionError, TimeoutError."""
    before = _resources()
    vad = moment == "speaking, server_vad"
    listening = wire.AudioInput(
        transcription=wire.Transcription(model="ledger"), turn_detection=wire.ServerVad() if vad else None
    )
    config = wire.RealtimeConfig(audio=wire.Audio(input=listening), tools=[wire.FunctionTool(name=TOOL)])
    recorder = Recorder.create(folder, settings={})
    with LedgerServer(faults=case.spec) as server:
        client = RealtimeClient(
            Endpoint(url=server.url, proxy=None),
            session=config,
            recorder=recorder,
            recovery=RECOVERY,
            limits=WATCHFUL if case.silent else PATIENT,
        )
        stage = Stage(client, server, vad=vad)
        ended = _hold(stage, moment, silent=case.silent)
        outcome = _outcome(stage, ended)
        _check_fate(case, stage, ended)
        if ended is None:
            _check_ledgers(stage)
        _check_recording(recorder.folder, stage, whole=ended is None)
    _check_resources(before)
    return outcome


def _hold(stage: Stage, moment: str, *, silent: bool) -> errors.RealtimeError | None:
    """Talk to the end; returns the error that the session ended with."""
    began = False
    try:
        with stage.client:
            stage.begin()
            began = True
            stage.moments[moment]()
            if silent:
                stage.told.until(up.Restored)
            stage.end()
    except (errors.RealtimeError, AssertionError) as error:
        if not began or stage.client.error is None:
            raise
        if isinstance(error, AssertionError) and not stage.told.every(up.SessionEnded):
            raise
        return stage.client.error
    return None


def _outcome(stage: Stage, ended: errors.RealtimeError | None) -> Outcome:
    restored = stage.told.every(up.Restored)
    return Outcome(
        losses=sum(each.goes_on for each in stage.told.every(up.ConnectionLost)),
        restored=len(restored),
        tries=len(stage.told.every(up.Reconnecting)),
        away_ms=[each.away_ms for each in restored],
        lost_ms=sum(lost.end_ms - lost.start_ms for each in restored for lost in each.lost_audio),
        error=type(ended).__name__ if ended is not None else "",
    )


def _check_fate(case: Case, stage: Stage, ended: errors.RealtimeError | None) -> None:
    """It went on, or ended as it should."""
    lost, restored = stage.told.every(up.ConnectionLost), stage.told.every(up.Restored)
    assert stage.server._door is not None
    connections = stage.server._door.book._connections
    if case.ends:
        assert type(ended).__name__ == case.ends, f"ended with {ended!r}, not {case.ends}"
        assert connections == case.connections, f"{connections} connections were tried"
        return
    assert ended is None, f"ended with {ended!r}"
    assert 0 <= len(lost) - len(restored) <= 1, f"{len(lost)} times lost, {len(restored)} times restored"
    if case.heals is not None:
        assert bool(restored) == case.heals, f"{len(restored)} times restored"
    if not restored:
        assert connections == 1, f"{connections} connections, and none was lost"
    ours = {each.item_id for each in stage.told.every(up.ItemAdded)} | {
        each.item_id for each in stage.told.every(up.ItemDone)
    }
    for each in restored:
        assert each.refused == each.left_out == 0, f"not told: {each}"
        assert set(each.sent_late) <= ours, f"sent late, and not ours: {set(each.sent_late) - ours}"


def _check_ledgers(stage: Stage) -> None:
    """The surviving session has all that was said, once, in order; no message was sent twice."""
    survivor = stage.client.session_id
    book = next(each for each in stage.server.books if each.conversation.settings["id"] == survivor)
    told = _without_broken(book.history)
    assert told == stage.history, f"the surviving session knows {told}, not {stage.history}"
    for each in stage.server.books:
        twice = [event_id for event_id, times in each.messages.items() if times > 1]
        assert not twice, f"sent twice: {twice}"
    ids = Counter(event_id for each in stage.server.books for event_id in each.messages)
    assert max(ids.values()) == 1, f"sent to two sessions: {[each for each, times in ids.items() if times > 1]}"
    lost = [(lost.start_ms, lost.end_ms) for each in stage.told.every(up.Restored) for lost in each.lost_audio]
    spoken = Counter(dict.fromkeys(stage.mic.at_ms, BLOCK_SAMPLES))
    _check_samples(book.heard + within(lost, stage.mic.at_ms), spoken, f"the user's blocks; {lost} reported as lost")


def _check_samples(found: Counter[int], wanted: Counter[int], what: str) -> None:
    missing, more = wanted - found, found - wanted
    assert not missing, f"{what}: missing {dict(missing)}"
    assert not more, f"{what}: too often {dict(more)}"


def _without_broken(history: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Leave out what came of answers that were asked for again: an answer before another one that begins with it."""
    return [
        each
        for each, after in itertools.zip_longest(history, history[1:])
        if not (
            each[0] == "assistant" and after is not None and after[0] == "assistant" and after[1].startswith(each[1])
        )
    ]


def _check_recording(folder: Path, stage: Stage, *, whole: bool) -> None:
    """Each finished turn is in the transcript once, each sample received, and each of the microphone, in the sound."""
    lines = [json.loads(line) for line in (folder / "transcript.jsonl").read_text(encoding="utf-8").splitlines()]
    texts = Counter(
        (each["who"], each.get("text")) for each in lines if each.get("status") == "completed" or each["who"] == "user"
    )
    done = {each.text for each in stage.told.every(up.ResponseDone) if each.status == "completed" and each.text}
    for text in sorted(done):
        assert texts["assistant", text] == 1, f"{text!r} is {texts['assistant', text]} times in the transcript"
    for who, text in stage.history if whole else ():
        if who in {"user", "assistant"}:
            assert texts[who, text] == 1, f"{who}: {text!r} is {texts[who, text]} times in the transcript"
    files = {each["audio"]: each for each in lines if each.get("audio")}
    kept = [number for name, each in files.items() if each["who"] == "assistant" for number in _order(folder / name)]
    received = order_of(b"".join(each.audio for each in stage.told.every(up.AudioDelta)))
    assert kept == received, f"received {received}, recorded {kept}"
    with wave.open(str(folder / "conversation.wav")) as sound:
        both = sound.readframes(sound.getnframes())
    left = b"".join(both[at : at + 2] for at in range(0, len(both), 4))
    _check_samples(
        samples_of(left), Counter(dict.fromkeys(stage.mic.at_ms, BLOCK_SAMPLES)), "the user's blocks in the recording"
    )


def _order(path: Path) -> list[int]:
    with wave.open(str(path)) as sound:
        return order_of(sound.readframes(sound.getnframes()))


# --- what may be left over --------------------------------------------------------------------------------------------


def _resources() -> tuple[set[threading.Thread], int]:
    folder = Path("/proc/self/fd")
    return set(threading.enumerate()), sum(1 for _ in folder.iterdir()) if folder.exists() else 0


def _check_resources(before: tuple[set[threading.Thread], int]) -> None:
    threads, files = _resources()
    left = [each.name for each in threads - before[0] if each.is_alive()]
    assert not left, f"threads left over: {left}"
    assert files <= before[1], f"{files - before[1]} descriptors left over"


# --- all of them ------------------------------------------------------------------------------------------------------


def main(every: int) -> int:
    """Run the matrix, print its table; returns how many failed."""
    rows = {moment: Row() for moment in MOMENTS}
    for case, moment in [(case, moment) for case in FAULTS for moment in MOMENTS][::every]:
        with tempfile.TemporaryDirectory() as folder:
            try:
                rows[moment].add(case, run(case, moment, Path(folder)))
            except Exception as error:
                rows[moment].failed += 1
                sys.stdout.write(f"{case.name}, {moment}: {type(error).__name__}: {error}\n")
    heads = ("moment", "faults", "restored", "held", "ended", "failed", "away, ms: p50", "p95", "max")
    lines = [heads, *((moment, *row.told) for moment, row in rows.items())]
    sys.stdout.writelines(
        f"{first:<22}{''.join(f'{each:>{len(head) + 2}}' for each, head in zip(rest, heads[1:], strict=True))}\n"
        for first, *rest in lines
    )
    return sum(row.failed for row in rows.values())


class Row:
    """A moment's line of the table."""

    def __init__(self) -> None:
        self.restored = self.held = self.ended = self.failed = 0
        self.away_ms: list[float] = []

    @property
    def told(self) -> tuple[object, ...]:
        total = self.restored + self.held + self.ended + self.failed
        away = spread(self.away_ms)
        times = ("-", "-", "-") if away is None else (round(away.p50), round(away.p95), round(away.max))
        return total, self.restored, self.held, self.ended, self.failed, *times

    def add(self, case: Case, outcome: Outcome) -> None:
        self.ended += bool(case.ends)
        self.restored += bool(outcome.restored and not case.ends)
        self.held += not (outcome.restored or case.ends)
        self.away_ms += outcome.away_ms


if __name__ == "__main__":
    sys.exit(bool(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1)))
