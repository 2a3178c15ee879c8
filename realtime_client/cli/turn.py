"""One turn on the command line: what goes in by text or by audio, and the answer followed to its end."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from typing import Self

from realtime_client import updates as up
from realtime_client.deadline import Deadline
from realtime_client.errors import ConnectionLostError, RealtimeError, ResponseFailedError, TimeLimitError
from realtime_client.session.answer import Answer, TurnFollower
from realtime_client.session.session import Session
from realtime_client.session.subscription import Subscription
from realtime_client.session.utterance import say

SPEECH_WAIT_S = 10.0
TRANSCRIPT_WAIT_S = 3.0


class Feeder:
    """Says an utterance in a thread of its own. request: the id of the request for an answer, once it is made."""

    def __init__(self, session: Session, audio: bytes, *, fast: bool) -> None:
        self.done = threading.Event()
        self.error: BaseException | None = None
        self.request: str | None = None
        self._halt = threading.Event()
        self._say = functools.partial(say, session, audio, fast=fast, wait=self._halt.wait)
        self._thread = threading.Thread(target=self._run, name="realtime-feeder", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._halt.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            self.request = self._say()
        except BaseException as error:  # noqa: BLE001  # raised where the turn is followed
            self.error = error
        finally:
            self.done.set()


class TurnWaiter:
    """Waits for one turn, and knows when to give up.

    show: takes the answer's text. tell: takes a line for people about something that is not part of the answer. watch:
    gets every update, before it counts. timeout_s: counts from the moment when all has been sent; a slow reader's time
    does not count.
    """

    def __init__(
        self,
        session: Session,
        timeout_s: float,
        show: Callable[[str], object],
        tell: Callable[[str], object],
        watch: Callable[[up.Update], object] = bool,
    ) -> None:
        self._session = session
        self._watch = watch
        self._timeout_s = timeout_s
        self._turn = TurnFollower(
            None, session.output_format, show=show, tell=tell, tools_run=session.tooling is not None
        )

    @property
    def error(self) -> RealtimeError | None:
        """What the answer failed with, where that is more than its status says."""
        return self._turn.error

    def type(self, text: str, images: Sequence[str] = ()) -> Answer:
        """Say something in writing, and return the answer, whole or not. Errors: those of `Session.ask`."""
        with self._session.updates(timeout_s=0.5) as updates:
            self._turn.request = self._session.send_text(text, images=images).request_id
            return self._follow(updates, Deadline(self._timeout_s))

    def speak(self, feeder: Feeder) -> Answer:
        """Say what the feeder has, and return the answer. Errors: as above, and those that the feeder met."""
        with self._session.updates(timeout_s=0.5) as updates, feeder:
            while not self._fed(feeder):
                self._take_one(updates)
            return self._follow(updates, Deadline(self._timeout_s), Deadline(SPEECH_WAIT_S))

    def _fed(self, feeder: Feeder) -> bool:
        if not feeder.done.is_set():
            return False
        if feeder.error is not None:
            raise feeder.error
        if feeder.request is not None:
            self._turn.asked(feeder.request)
        return True

    def _follow(self, updates: Subscription, deadline: Deadline, speech: Deadline | None = None) -> Answer:
        """Take updates until the answer is complete. speech: when the server must have heard some."""
        while not self._turn.complete:
            self._take_one(updates)
            away = self._turn.away  # then nobody can hear speech yet
            speech = Deadline(SPEECH_WAIT_S) if away and speech is not None else speech
            self._give_up(deadline, None if away else speech)
        self._await_transcripts(updates)
        return self._turn.answer(self._session.timings(self._turn.response_id))

    def _take_one(self, updates: Subscription) -> None:
        try:
            update = next(updates)
            self._watch(update)
            self._turn.take(update)
        except TimeoutError:
            pass  # the reasons to stop waiting are checked between updates
        except StopIteration:
            raise self._session.over() from None
        except ResponseFailedError as error:
            if error.code == up.REQUEST_LOST:
                raise ConnectionLostError(str(error)) from error
            raise

    def _give_up(self, deadline: Deadline, speech: Deadline | None) -> None:
        turn = self._turn
        said = f"; the server says: {turn.complaint.message or turn.complaint.code}" if turn.complaint else ""
        if turn.request is None and speech is not None and speech.expired and not (turn.heard_speech or turn.begun):
            raise RealtimeError(f"the server heard no speech in the audio{said}")
        if deadline.expired and not turn.complete:
            raise TimeLimitError(f"no complete answer within {self._timeout_s:g} s (see --timeout){said}")

    def _await_transcripts(self, updates: Subscription) -> None:
        """Transcripts of the user's audio come at any time; wait a little for those still due."""
        if not self._session.facts.transcribes:
            return
        deadline = Deadline(TRANSCRIPT_WAIT_S)
        while self._turn.awaits_transcript and not deadline.expired:
            try:
                self._turn.take(next(updates))
            except TimeoutError:
                continue
            except (StopIteration, RealtimeError):
                return  # the answer is there: how the session ended does not concern this turn
