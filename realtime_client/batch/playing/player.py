"""Playing the steps of one case into an open session. One thread does it all: it speaks and waits.

While it waits it looks after what has a moment of its own: the microphone's blocks. It wakes for news of the session,
for the next such moment, and a few times a second to see whether it is to stop. Tools run elsewhere (`opened`).
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable

from realtime_client import updates as up
from realtime_client.batch.faults import FloodError, NoSpeechError, NotReachedError, StoppedError, answer_error
from realtime_client.batch.scenario import After, Case, Step, seconds
from realtime_client.changes import Changes
from realtime_client.deadline import SYSTEM_CLOCK, Clock, Deadline
from realtime_client.errors import ClosedError, RealtimeError, TimeLimitError
from realtime_client.session.session import Session

from .listener import Part, PatientListener, ScriptedListener
from .microphone import ScriptedMicrophone
from .sound import AUDIBLE, StepSound, make_clip
from .turn import PlayedTurn
from .watch import Watch

TRANSCRIPT_WAIT_S = 3.0
SPEECH_WAIT_S = 5.0
SETTLE_S = 1.0
_LOOK_S = 0.25
_TELL_S = 0.2
_TICK_S = 0.01
_AT_MS_SLACK = 300


class Player:
    """Plays one case. session: open. watch: observes it already. listener: a patient one: nobody listens in real time.

    news: set when something came. stop: set from outside to end soon.
    """

    def __init__(
        self,
        session: Session,
        watch: Watch,
        case: Case,
        *,
        listener: ScriptedListener | PatientListener,
        news: threading.Event,
        stop: threading.Event | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._session = session
        self._watch = watch
        self._case = case
        self._scenario = case.scenario
        self._listener = listener
        self._news = news
        self._stop = stop
        self._clock = clock
        self._fast = isinstance(listener, PatientListener)
        self._tail_ms = session.facts.ending_silence_ms
        speaks = any(getattr(step, kind) is not None for step in case.scenario.turns for kind in AUDIBLE)
        live = speaks and bool(self._tail_ms) and not self._fast
        self.microphone = ScriptedMicrophone(
            session.input_format,
            functools.partial(session.send_audio, in_step=True) if self._fast else session.send_audio,
            live=live,
            captured=self._captured,
            clock=clock,
        )
        self._told = Deadline(_TELL_S, clock)
        if not self._fast and "audio" in session.facts.modalities:
            session.tell(up.SpeakerAttached(attached=True))

    def play(self) -> None:
        """Play all steps.

        Errors: ConnectionLostError, TimeLimitError and its like when it cannot be played to its end; UsageError for an
        audio file or a voice that cannot be used.
        """
        try:
            steps = self._scenario.turns
            for n, step in enumerate(steps):
                following = steps[n + 1].after if n + 1 < len(steps) else None
                self._play(n + 1, step, following)
            self._wait(lambda: not self._session.answering, Deadline(SETTLE_S, self._clock))
            for turn in self._watch.turns:
                self._refuse_failed(turn)
        except ClosedError:
            raise self._why_over() from None
        finally:
            with contextlib.suppress(RealtimeError):  # the session may be over
                self._tell_played()

    # --- what the recording wants to know -----------------------------------------------------------------------------

    def _captured(self, at_ms: int, at_s: float) -> None:
        """The microphone begins a new stretch: its sound counts from when it was due, however late it leaves."""
        self._session.tell(up.Captured(at_ms=at_ms, at_s=at_s))

    def _tell_played(self) -> None:
        """Report what was heard since the last time."""
        self._told = Deadline(_TELL_S, self._clock)
        if isinstance(self._listener, PatientListener):
            return
        for (item_id, index), from_s, to_s, at_s in self._listener.played():
            heard = up.Audible(
                item_id=item_id, content_index=index, from_ms=from_s * 1000, to_ms=to_s * 1000, at_s=at_s
            )
            self._session.tell(heard)

    # --- one step -----------------------------------------------------------------------------------------------------

    def _play(self, n: int, step: Step, following: After | None) -> None:
        limit_s = seconds(step.timeout or self._scenario.timeout)
        if step.after is None:
            self._until_quiet(limit_s)
        turn = PlayedTurn(n, step, self._clock.monotonic())
        clip = self._clip(turn)  # made before the step begins, because a voice takes time
        turn.began_s = self._clock.monotonic()
        self._watch.begin(turn)
        if step.text is not None:
            self._type(turn, step.text)
        elif clip is not None:
            self._speak(turn, clip, limit_s)
        else:
            self._pause(step)
            turn.sent_s = self._clock.monotonic()
        if following is not None:
            self._await(following, turn, limit_s)
        elif turn.waits:
            self._until_answered(turn, limit_s)
        elif clip is not None:
            self._until_taken(turn, limit_s)

    def _clip(self, turn: PlayedTurn) -> StepSound | None:
        step = turn.step
        turn.said = step.text or step.speak or step.audio or step.dtmf or step.silence or step.pause or ""
        turn.spoken = turn.kind in ("speak", "audio", "dtmf")
        return make_clip(step, self._case, self._session.input_format) if turn.kind in AUDIBLE else None

    def _type(self, turn: PlayedTurn, text: str) -> None:
        turn.base_s = self._clock.monotonic()
        turn.request = self._session.send_text(text).request_id
        turn.sent_s = self._clock.monotonic()

    def _speak(self, turn: PlayedTurn, clip: StepSound, limit_s: float) -> None:
        """Send sound, and end the turn by hand where the server does not."""

        def began(at_s: float) -> None:
            turn.voice_s = at_s

        def ended(at_s: float) -> None:
            turn.base_s = at_s

        turn.voice_end_ms = self.microphone.sent_ms + clip.voice_end_ms
        manual = not self._tail_ms
        if manual and turn.step.after is not None and turn.waits:
            self._session.interrupt("speech")  # like the push-to-talk key
            self._session.clear_input()
        if self._fast:
            heard_out = turn.waits or turn.step.expect is not None  # in real time, the silence simply flows on
            self.microphone.play_fast(clip, self._tail_ms if heard_out else 0, began, ended)
        else:
            self.microphone.play(clip, began, ended)
            length_s = self._session.input_format.ms(len(clip.audio)) / 1000
            if not self._wait(lambda: not self.microphone.speaking, Deadline(length_s + limit_s, self._clock)):
                raise TimeLimitError(f"turn {turn.n}: its sound could not be sent within {length_s + limit_s:g} s")
        if manual and turn.waits:
            self._session.commit()
            turn.base_s = self._clock.monotonic()
            turn.request = self._session.respond()
        turn.sent_s = self._clock.monotonic()

    def _pause(self, step: Step) -> None:
        assert step.pause is not None
        if self._fast and step.expect is None:
            return  # nobody waits for anything; with an expectation it is about what comes in that time
        self.microphone.muted = True
        try:
            self._wait(lambda: False, Deadline(seconds(step.pause), self._clock))
        finally:
            self.microphone.muted = False

    # --- waiting for the server ---------------------------------------------------------------------------------------

    def _until_quiet(self, limit_s: float) -> None:
        """Wait until nobody is speaking: the step begins when a polite person would."""
        if not self._wait(self._quiet, Deadline(limit_s, self._clock), self._listening_s):
            raise TimeLimitError(f"the answer before was not over within {limit_s:g} s")

    def _quiet(self) -> bool:
        return not (self._session.answering or self._pending()) and self._listening_s() <= 0

    def _pending(self) -> bool:
        """Whether something is owed that the session's gate does not know about: by the server, or by a tool."""
        watch = self._watch
        return bool(watch.open_calls or (self._tail_ms and watch.owes_answer))

    def _listening_s(self) -> float:
        return 0.0 if isinstance(self._listener, PatientListener) else self._listener.remaining_s()

    def _until_answered(self, turn: PlayedTurn, limit_s: float) -> None:
        """Wait until the server has nothing more to say to a turn, and until that was heard."""
        speech_until = Deadline(SPEECH_WAIT_S + self._tail_ms / 1000, self._clock)
        deadline = Deadline(limit_s, self._clock)

        def over() -> bool:
            self._give_up(turn, speech_until)
            return self._answered(turn)

        if not self._wait(over, deadline, lambda: self._settling_s(turn)):
            raise TimeLimitError(f"turn {turn.n}: no complete answer within {limit_s:g} s")
        self._refuse_failed(turn)
        transcripts = Deadline(TRANSCRIPT_WAIT_S, self._clock)
        if self._session.facts.transcribes:
            self._wait(lambda: None not in turn.transcripts.values(), transcripts)
        heard = Deadline(self._listening_s() + limit_s, self._clock)
        self._wait(lambda: self._listening_s() <= 0, heard, self._listening_s)

    def _refuse_failed(self, turn: PlayedTurn) -> None:
        """Errors: see `answer_error`, for an answer that the server failed to give, unless the scenario expects it."""
        wanted = {getattr(expect, "status", None) for expect in (turn.step.expect, self._scenario.expect)}
        for reply in turn.kept():
            if reply.status == "failed" and "failed" not in wanted:
                message = reply.error or reply.reason or "no reason given"
                raise answer_error(f"turn {turn.n}: the answer failed: {message}", reply.reason, turn.failure)

    def _answered(self, turn: PlayedTurn) -> bool:
        # Looked at twice: what was found at the end of the sound came before the server said that it got there.
        return self._all_said(turn) and self._heard_out(turn) and self._all_said(turn)

    def _all_said(self, turn: PlayedTurn) -> bool:
        """Whether the server has answered what it has found so far."""
        if self._session.answering or self._pending():
            return False
        if not turn.replies:
            return self._may_stay_unanswered(turn)
        return all(reply.done_s is not None for reply in turn.replies)

    def _may_stay_unanswered(self, turn: PlayedTurn) -> bool:
        """An error that the scenario expects also ends a turn."""
        return turn.failure is not None and _expects_error(self._scenario.expect, turn.step.expect)

    def _heard_out(self, turn: PlayedTurn) -> bool:
        """Whether the server will find no more speech in what was sent. It may be behind what was sent at once."""
        if self._settling_s(turn) > 0:
            return False
        return not self._fast or self._end_found(turn) or self._taken_in(turn)

    def _end_found(self, turn: PlayedTurn) -> bool:
        """Whether the end that the server found is the end of a turn's speech."""
        by_voice = self._tail_ms and turn.spoken and turn.base_s is not None
        return not by_voice or self._watch.stopped_at_ms >= turn.voice_end_ms - _AT_MS_SLACK

    def _settling_s(self, turn: PlayedTurn) -> float:
        """How long the server may still find more speech in what was sent: it may take a pause for the end."""
        if turn.base_s is None or self._end_found(turn):
            return 0.0
        return turn.base_s + self._tail_ms / 1000 + SETTLE_S - self._clock.monotonic()

    def _give_up(self, turn: PlayedTurn, speech_until: Deadline) -> None:
        """Raise what makes further waiting useless."""
        failure = turn.failure
        idle = not (turn.replies or self._session.answering or self._pending())
        if failure is not None and idle and not self._may_stay_unanswered(turn):
            raise answer_error(f"turn {turn.n}: {failure.message or failure.code}", failure.code, failure)
        silent = not (turn.replies or turn.transcripts or self._watch.speech_open or turn.stopped_s)
        if self._tail_ms and turn.spoken and silent and speech_until.expired and self._taken_in(turn):
            raise NoSpeechError(f"turn {turn.n}: the server heard no speech in the audio")

    def _taken_in(self, turn: PlayedTurn) -> bool:
        """Whether the server has listened to what was sent, or says so, since it may be slow. Asks it once a turn."""
        if turn.confirms_at is None:
            turn.confirms_at = self._watch.confirmed + 1
            self._session.change(Changes())
        return self._watch.confirmed >= turn.confirms_at

    def _until_taken(self, turn: PlayedTurn, limit_s: float) -> None:
        """Wait until the server has taken in a turn's sound, so that what it makes of it is seen in that turn.

        In real time only where somebody wants to know, and for as long as silence ends a turn. When not in real time,
        the server answers an empty change of settings when it gets there.
        """
        if not self._fast:
            if turn.step.expect is not None and self._tail_ms:
                self._wait(lambda: False, Deadline(self._tail_ms / 1000, self._clock))
            return
        before = self._watch.confirmed
        self._session.change(Changes())
        if not self._wait(lambda: self._watch.confirmed > before, Deadline(limit_s, self._clock)):
            raise TimeLimitError(f"the server did not take in what was sent within {limit_s:g} s")

    def _await(self, after: After, turn: PlayedTurn, limit_s: float) -> None:
        """Wait for the moment at which the next step begins."""
        deadline = Deadline(limit_s, self._clock)
        if after.event is not None:
            kind = after.event
            if not self._wait(lambda: kind in turn.events, deadline):
                raise TimeLimitError(f"turn {turn.n + 1}: {kind} did not come within {limit_s:g} s")
        elif after.heard is not None:
            self._await_heard(seconds(after.heard) * 1000, turn, deadline)
        elif after.time is not None:
            assert turn.sent_s is not None
            self._wait_until(turn.sent_s + seconds(after.time))
        if after.plus is not None:
            self._wait_until(self._clock.monotonic() + seconds(after.plus))

    def _await_heard(self, wanted_ms: float, turn: PlayedTurn, deadline: Deadline) -> None:
        def missing_s() -> float:
            return (wanted_ms - self._heard_ms(turn)) / 1000

        def reached() -> bool:
            if missing_s() <= 0:
                return True
            self._give_up(turn, deadline)
            if turn.replies and self._answered(turn) and self._listening_s() <= 0 and missing_s() > 0:
                heard = self._heard_ms(turn)
                raise NotReachedError(
                    f"turn {turn.n + 1}: the answer was over after {heard:.0f} ms, before {wanted_ms:.0f} ms were heard"
                )
            return False

        if not self._wait(reached, deadline, lambda: max(missing_s(), _TICK_S)):
            raise TimeLimitError(f"turn {turn.n + 1}: {wanted_ms:.0f} ms of the answer were not heard in time")
        if isinstance(self._listener, PatientListener):
            self._listener.stop_at(self._parts_ms(turn), wanted_ms)

    def _heard_ms(self, turn: PlayedTurn) -> float:
        """How much of a turn's answers was heard; where nobody listens, how much arrived."""
        parts = self._parts_ms(turn)
        if isinstance(self._listener, PatientListener):
            return sum(parts.values())
        return self._listener.so_far_ms(list(parts))

    def _parts_ms(self, turn: PlayedTurn) -> dict[Part, float]:
        """What has arrived of a turn's answers: parts and their lengths in ms, in order."""
        per_ms = self._session.output_format.bytes_per_ms
        with self._watch.lock:
            return {part: size / per_ms for reply in turn.replies for part, size in reply.parts.items()}

    # --- the loop -----------------------------------------------------------------------------------------------------

    def _wait_until(self, at_s: float) -> None:
        self._wait(lambda: False, Deadline(at_s - self._clock.monotonic(), self._clock))

    def _wait(
        self, done: Callable[[], bool], deadline: Deadline, wakes_in_s: Callable[[], float] = lambda: _LOOK_S
    ) -> bool:
        """Tend the session until `done`; False at the deadline. wakes_in_s: when time alone may make it done.

        Errors: ConnectionLostError when the session is over; StoppedError.
        """
        while True:
            self._news.clear()
            if self._watch.flood:
                raise FloodError(f"the server sends {self._watch.flood}")
            if done():
                return True
            self._tend()
            if done():
                return True
            if deadline.expired:
                return False
            wait_s = min(_LOOK_S, self.microphone.due_in_s())
            hint_s = wakes_in_s()
            if hint_s > 0:
                wait_s = min(wait_s, hint_s)
            self._news.wait(max(0.0, deadline.at_most_s(wait_s)))

    def _tend(self) -> None:
        if self._stop is not None and self._stop.is_set():
            raise StoppedError("stopped before its end")
        if self._watch.ended or self._session.stop.is_set():
            raise self._why_over()
        self.microphone.tend()
        if self._told.expired:
            self._tell_played()

    def _why_over(self) -> Exception:
        return self._session.over()


def _expects_error(*expectations: object) -> bool:
    """Whether an `error` is among the events that are expected."""
    for expect in expectations:
        events = getattr(expect, "event", None) or []
        for event in events if isinstance(events, list) else [events]:
            if event.name in ("error", "failure"):
                return True
    return False
