"""The recorder: takes every frame and update of a session, and keeps the folder up to date.

One thread calls it (the session's audio thread), in the order things happened. Nothing here waits, and no memory grows
with the session. Nothing a server sends ends it: a message that trips it up is written down as it came, its effects are
left out, and one warning and a note in session.json say so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from realtime_client import updates as up
from realtime_client.deadline import SYSTEM_CLOCK, Clock
from realtime_client.errors import RecordingError
from realtime_client.escape import one_line
from realtime_client.logs import Log

from .assistant_audio import AssistantAudio, FlacMaker
from .folder import CONVERSATION, JOURNAL, make_folder
from .journal import Journal
from .journal_line import AudioPlace
from .losses import LossNotes
from .masking import Masker
from .retrieved_audio import RetrievedAudio
from .stereo import Stereo
from .summary import SessionSummary
from .transcript_files import TranscriptFiles
from .transcripts import Transcript
from .turns import Turn
from .user_audio import UserAudio

_SETTLE_S = 0.5
_TURN_ENDS_PER_S = 32  # with more than that, the files wait for the next half second
_T = TypeVar("_T")
_TURN_ENDS = {
    up.ItemDone, up.ResponseDone, up.InputCommitted, up.UserTranscript, up.Interrupted, up.ItemAdded, up.ConnectionLost,
}  # fmt: skip


class Recorder:
    """Records one session into one folder; see `create`.

    Errors: RecordingError once, from the call that could not write to the disk; by then everything that could be
    finished is finished. Later calls do nothing. degraded: how many things could not be recorded in full for a reason
    other than the disk.
    """

    def __init__(
        self,
        folder: Path,
        *,
        settings: dict[str, Any],
        secrets: Sequence[str] = (),
        flac: bool = False,
        clock: Clock = SYSTEM_CLOCK,
        continues: str = "",
    ) -> None:
        self.folder = folder
        self._clock = clock
        self._closed = False
        self._masker = Masker(secrets)
        self._summary = SessionSummary(folder, settings, self._masker, clock, continues)
        self._start_s = self._settled_s = self._summary.started_s
        self._journal = Journal(folder / JOURNAL, self._masker, clock, self._start_s)
        self._at_s = self._start_s
        self._stereo = Stereo(folder / CONVERSATION, self._note)
        self._transcript = Transcript(TranscriptFiles(folder, self._masker), self._note_turn)
        self._losses = LossNotes(self._transcript)
        self._flac = FlacMaker(folder, self._transcript.changed, self._note, wanted=flac)
        self._user = UserAudio(folder, self._stereo, self._transcript, self._flac)
        self._assistant = AssistantAudio(folder, self._stereo, self._flac, self._transcript.changed)
        self._retrieved = RetrievedAudio(folder, self._user, self._assistant)
        self._settles = (0, 0)  # in this second
        self.degraded = 0
        self._log = Log("recorder")
        self._on_update: dict[type[up.Update], Callable[[Any], Any]] = {
            up.SessionStarted: self._configure,
            up.SessionChanged: self._configure,
            up.SpeechStarted: lambda u: self._user.speech_started(u, self._at_s),
            up.SpeechStopped: lambda u: self._user.speech_stopped(u, self._at_s),
            up.InputCommitted: lambda u: self._user.committed(u, self._at_s),
            up.InputTimedOut: lambda u: self._user.timed_out(u, self._at_s),
            up.AudioDelta: self._audio_delta,
            up.AudioDone: lambda u: self._assistant.done(u.item_id, u.content_index),
            up.ItemAdded: self._item_added,
            up.ItemDone: lambda u: self._assistant.done(u.item_id),
            up.ResponseDone: lambda u: self._assistant.response_done(u.response_id),
            up.Interrupted: self._assistant.cut,
            up.Failure: lambda u: self._user.commit_refused() if u.code == up.NOTHING_TO_COMMIT else None,
            up.Captured: lambda u: self._user.captured(u.at_ms, u.at_s - self._start_s),
            up.SpeakerAttached: self._speaker_attached,
            up.Audible: lambda u: self._assistant.heard(u, self._stereo.timeline.position(u.at_s - self._start_s)),
            up.ItemDeleted: lambda u: self._user.forgotten(u.item_id, self._at_s),
            up.ConnectionLost: self._connection_lost,
            up.Restored: self._restored,
            up.CommitSent: lambda _: self._user.commit_sent(self._at_s),
            up.InputCleared: lambda _: self._user.clear_sent(self._at_s),
        }
        self._summary.write(self._start_s)
        if continues:
            self._transcript.note(f"continues {continues}", self._start_s)

    @classmethod
    def create(
        cls,
        base_dir: Path,
        *,
        settings: dict[str, Any],
        secrets: Sequence[str] = (),
        flac: bool = False,
        clock: Clock = SYSTEM_CLOCK,
        continues: str = "",
    ) -> Recorder:
        """Begin a recording in a new folder under `base_dir`; `.folder` says which.

        settings: what is in force, for session.json. secrets: values that no file may hold. flac: finished turns
        become FLAC. continues: the name of the recording with which the session goes on. Errors: RecordingError when
        the folder cannot be made or written.
        """
        folder = make_folder(Path(base_dir), clock.wall())
        try:
            return cls(folder, settings=settings, secrets=secrets, flac=flac, clock=clock, continues=continues)
        except OSError as error:
            raise RecordingError(f"cannot record into {folder}: {error.strerror or error}") from error

    # --- what happens -------------------------------------------------------------------------------------------------

    def received(self, frame: bytes, media: Sequence[up.Media], updates: Sequence[up.Update], at_s: float) -> None:
        """Take a frame of the server, the sound in it, and what it meant."""
        if self._closed:
            return
        try:
            self._attempt(self._move_to, at_s)
            if media and media[0].live:
                self._received_live(frame, media, updates)
                return
            places = [self._attempt(self._retrieved.keep, each) or _nowhere(each) for each in media]
            self._write("in", frame, media, places, updates)
            for update in updates:
                self._hear(update)
        except OSError as error:
            self._fail(error)

    def sent(self, frame: bytes, media: Sequence[up.Media], updates: Sequence[up.Update], at_s: float) -> None:
        """Take a frame of the client, after it has left, the sound in it, and what it meant."""
        if self._closed:
            return
        try:
            self._attempt(self._move_to, at_s)
            again = up.SentAgain in map(type, updates)
            keep = _nowhere if again else self._sent_sound
            places = [self._attempt(keep, each) or _nowhere(each) for each in media]
            self._write("out", frame, media, places, updates)
            if not (again or (media and media[0].live)):  # there is nothing more to say about a microphone block
                for update in updates:
                    self._hear(update)
        except OSError as error:
            self._fail(error)

    def kept(self, audio: bytes, at_s: float) -> None:
        """Take sound that is sent later, and then again: as `updates.SentAgain`."""
        if self._closed:
            return
        try:
            self._attempt(self._move_to, at_s)
            self._attempt(lambda: self._journal.kept(self._user.append(audio, self._at_s), self._at_s))
        except OSError as error:
            self._fail(error)

    def noticed(self, update: up.Update, at_s: float) -> None:
        """Take an update that no frame brought."""
        if self._closed:
            return
        try:
            self._attempt(self._move_to, at_s)
            self._attempt(self._journal.noticed, update, self._at_s)
            self._hear(update)
        except OSError as error:
            self._fail(error)

    def close(self, *, ended: str, stats: dict[str, Any]) -> None:
        """Finish all files. ended: how the session ended. stats: figures for session.json. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._at_s = max(self._at_s, self._clock.monotonic())
        self._stereo.timeline.move_to(self._at_s - self._start_s)
        errors = self._finish()
        state = "failed" if errors else "ended"
        errors += _try(lambda: self._write_end(state, ended, stats, errors))
        if errors:
            raise self._error(errors[0]) from errors[0]

    # --- inside -------------------------------------------------------------------------------------------------------

    def _attempt(self, step: Callable[..., _T], *given: Any) -> _T | None:
        """Do one thing. Except for the disk, nothing that goes wrong with it may end the session. Errors: OSError."""
        try:
            return step(*given)
        except OSError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a server can cause
            self._degrade(error)
            return None

    def _degrade(self, error: Exception) -> None:
        """Go on without what could not be recorded, and say so once."""
        self.degraded += 1
        self._summary.degraded = self.degraded
        if self.degraded > 1:
            return
        why = one_line(f"{type(error).__name__}: {error}", 200)
        self._summary.note(f"Not all of this session is recorded as it was; what came is in {JOURNAL}. First: {why}")
        self._log.warning("a message could not be recorded in full; the session goes on", error=why, folder=self.folder)

    def _move_to(self, at_s: float) -> None:
        """Time has passed: write what has become due."""
        self._at_s = max(self._at_s, at_s)
        self._stereo.timeline.move_to(at_s - self._start_s)
        self._user.pause()
        self._stereo.write_due()
        self._transcript.position = self._stereo.timeline.now
        if at_s - self._settled_s >= _SETTLE_S:
            self._settle()

    def _settle(self) -> None:
        """Look after turns that are over."""
        self._settled_s = self._at_s
        self._assistant.let_go()
        fresh = self._transcript.settle(self._at_s)
        if fresh:
            self._journal.flush(self._at_s)
        if (fresh or self._summary.changed) and self._summary.due(self._at_s):
            self._count()
            self._summary.write(self._at_s)

    def _hear(self, update: up.Update) -> None:
        kind = type(update)
        handler = self._on_update.get(kind)
        if handler is not None:
            self._attempt(handler, update)
        self._attempt(self._transcript.hear, update, self._at_s)
        self._attempt(self._summary.hear, update, self._at_s - self._start_s)
        if kind in _TURN_ENDS and self._may_settle():
            self._attempt(self._settle)
            self._journal.flush(self._at_s)

    def _may_settle(self) -> bool:
        """Not for every message of a flood."""
        second, count = int(self._at_s), 0
        if self._settles[0] == second:
            count = self._settles[1]
        self._settles = second, count + 1
        return count < _TURN_ENDS_PER_S

    def _received_live(self, frame: bytes, media: Sequence[up.Media], updates: Sequence[up.Update]) -> None:
        """Take more of an answer's sound; its line has to say where it went."""
        place = None
        for update in updates:
            if type(update) is up.AudioDelta:
                place = self._attempt(self._audio_delta, update)
            else:
                self._hear(update)
        self._write("in", frame, media, [place or _nowhere(media[0])], updates)

    def _sent_sound(self, media: up.Media) -> AudioPlace:
        if media.live:
            return self._user.append(media.audio, self._at_s)
        return self._user.item(media.audio, media.item_id, self._at_s)

    def _write(
        self,
        direction: str,
        frame: bytes,
        media: Sequence[up.Media],
        places: Sequence[AudioPlace],
        updates: Sequence[up.Update],
    ) -> None:
        """Write the line of a message."""
        try:
            if updates and type(bad := updates[-1]) is up.Malformed:
                self._journal.bad_frame(direction, frame, bad, updates, self._at_s)
            else:
                self._journal.frame(direction, frame, self._at_s, media=media, places=places, updates=updates)
        except OSError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a server can cause
            self._degrade(error)
            self._journal.text(direction, frame, repr(error), self._at_s)

    def _audio_delta(self, update: up.AudioDelta) -> AudioPlace:
        turn = self._transcript.turn(update.item_id, "assistant", update.response_id)
        return self._assistant.delta(update, turn)

    def _item_added(self, update: up.ItemAdded) -> None:
        self._user.confirmed(update.item_id)
        if update.local and update.role == "user":
            self._stereo.run_ahead()  # whoever types has heard what there was to hear, or has interrupted it
            self._transcript.position = self._stereo.timeline.now

    def _connection_lost(self, update: up.ConnectionLost) -> None:
        if not update.goes_on:
            self._assistant.play_out()
        self._losses.lost(update, self._at_s)

    def _restored(self, update: up.Restored) -> None:
        self._user.restored()
        self._losses.restored(update, self._at_s)

    def _speaker_attached(self, update: up.SpeakerAttached) -> None:
        self._stereo.told = update.attached

    def _configure(self, update: up.SessionStarted | up.SessionChanged) -> None:
        facts = update.facts
        self._transcript.transcribes = facts.transcribes
        self._transcript.makers.configure(facts, started=isinstance(update, up.SessionStarted))
        if isinstance(update, up.SessionStarted):
            self._user.session_begins(self._at_s)
        self._assistant.format = facts.output_format
        self._user.configure(facts.input_format, manual=facts.turn_end == "manual", at_s=self._at_s)

    def _note(self, event: dict[str, Any]) -> None:
        self._journal.note(event, self._at_s)

    def _note_turn(self, turn: Turn) -> None:
        """So that recover.py can make the transcript without understanding the wire."""
        line = turn.line()
        if not turn.done:
            line["text"] = line["heard"] = ""
        event = {
            "type": "turn",
            "done": turn.done,
            "after": turn.after,
            "received_ms": turn.received_ms,
            "line": line,
        }
        if turn.gone:
            event["gone"] = True
        if event != turn.noted:
            turn.noted = event
            self._note(event)

    # --- the end ------------------------------------------------------------------------------------------------------

    def _count(self) -> None:
        self._summary.count(
            turns=self._transcript.count,
            user_audio_s=self._user.seconds,
            assistant_audio_s=self._assistant.seconds,
        )

    def _finish(self) -> list[Exception]:
        """Finish file by file; one that fails does not keep the others from it. Returns the failures."""
        at_s = self._at_s
        steps: list[Callable[[], None]] = [
            lambda: self._user.close(at_s),
            self._assistant.close,
            self._stereo.close,
            self._assistant.close,
            lambda: self._transcript.close(at_s),
            lambda: self._journal.close(at_s),
        ]
        errors = [error for step in steps for error in _try(step)]
        if errors:
            errors += _try(self._user.abandon) + _try(self._assistant.abandon)
        return errors

    def _write_end(self, state: str, ended: str, stats: dict[str, Any], errors: list[Exception]) -> None:
        self._count()
        notes = [*self._flac.failed, *(f"could not be written: {_reason(error)}" for error in errors)]
        self._summary.end(state, ended, stats, notes, self._at_s)

    def _fail(self, error: OSError) -> None:
        """Finish what can be finished, then raise."""
        self._closed = True
        errors: list[Exception] = [error, *self._finish()]
        _try(lambda: self._write_end("failed", "recording failed", {}, errors))
        raise self._error(error) from error

    def _error(self, error: Exception) -> RecordingError:
        return RecordingError(
            f"the recording in {self.folder} had to stop: {_reason(error)} (what was said before is kept)"
        )


def _try(step: Callable[[], None]) -> list[Exception]:
    """Run one step; returns its failure, if any."""
    try:
        step()
    except Exception as error:  # noqa: BLE001 - one file that fails must not keep the others from being finished
        return [error]
    return []


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return f"internal error: {one_line(repr(error), 200)}"


def _nowhere(media: up.Media) -> AudioPlace:
    """For sound that is in no file."""
    return AudioPlace(None, 0, len(media.audio))
