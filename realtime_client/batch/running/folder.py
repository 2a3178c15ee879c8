"""The folder of one run: who may write it, what is done already, and what is written at the end.

results.jsonl is the truth: a case is finished when its line is whole. Each line is one write, so it survives the death
of this program; it is on the disk within a second, so a power cut costs no more than that.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import msgspec

from realtime_client.batch.result import CSV, JUNIT, RESULTS, RUN, SESSIONS, SUMMARY, CaseResult, RunInfo
from realtime_client.batch.results.junit import junit_xml
from realtime_client.batch.results.results import csv_table, encode_line, read_results, read_run
from realtime_client.batch.results.summary import Summary, summary
from realtime_client.batch.scenario import Case
from realtime_client.deadline import SYSTEM_CLOCK, Clock
from realtime_client.errors import RecordingError, UsageError
from realtime_client.lock import hold
from realtime_client.logs import Log
from realtime_client.recording.folder import JOURNAL, SESSION, iso, replace_file
from realtime_client.recording.recover import recover

_log = Log("run")
LOCK = "run.lock"
_SYNC_S = 1.0


def fingerprint(cases: Sequence[Case]) -> str:
    """Return what tells sets of cases apart: SHA-256 of scenarios and values, not of where the files are."""
    digest = hashlib.sha256()
    for case in cases:
        parts = [case.id, case.scenario, case.row, case.repeat, case.values]
        digest.update(msgspec.json.encode(parts, order="deterministic"))
    return digest.hexdigest()


class RunFolder:
    """A run's folder while it is written. One process at a time has it; see `create` and `resume`.

    info: what run.json says. done: ids of the cases that have a result, or, at the start of a resumed run, a verdict.
    torn: damaged lines of results.jsonl that were left out.
    """

    def __init__(self, path: Path, lock: int, info: RunInfo, clock: Clock) -> None:
        self.path = path
        self.info = info
        self.done: set[str] = set()
        self.torn = 0
        self._lock = lock
        self._clock = clock
        self._earlier_s = info.duration_s
        self._began_s = self._synced_s = clock.monotonic()
        self._file = -1

    @classmethod
    def create(cls, path: Path, info: RunInfo, clock: Clock = SYSTEM_CLOCK) -> Self:
        """Begin a run in a new folder. Errors: UsageError when there is a run in it already; RecordingError."""
        lock = _locked(path)
        try:
            if (path / RUN).exists() or (path / RESULTS).exists():
                raise UsageError(f"{path} holds a run already: go on with it by --resume, or name another folder")
            info.started = iso(clock.wall())
            return cls(path, lock, info, clock).begin()
        except BaseException:
            os.close(lock)
            raise

    @classmethod
    def resume(cls, path: Path, info: RunInfo, clock: Clock = SYSTEM_CLOCK) -> Self:
        """Go on with the run in a folder; it becomes a new run when there is none. Errors are played again.

        Errors: UsageError when the run there is of other scenarios or against another endpoint; RecordingError.
        """
        lock = _locked(path)
        try:
            before = read_run(path / RUN)
            if before is None:
                info.started = iso(clock.wall())
                return cls(path, lock, info, clock).begin()
            _check_same(path, before, info)
            before.resumed += 1
            before.state, before.ended = info.state, ""
            folder = cls(path, lock, before, clock)
            results, folder.torn = read_results(path / RESULTS)
            folder.done = {result.case for result in results if result.status != "error"}
            folder.finish_abandoned(results)
            return folder.begin()
        except BaseException:
            os.close(lock)
            raise

    def begin(self) -> Self:
        """Open results.jsonl; done by `create` and `resume`."""
        try:
            (self.path / SESSIONS).mkdir(mode=0o700, exist_ok=True)
            replace_file(self.path / RUN, _pretty(self.info))
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
            self._file = os.open(self.path / RESULTS, flags, 0o600)
            _drop_torn_line(self._file)
        except OSError as error:
            raise _cannot_write(self.path, error) from error
        return self

    def add(self, result: CaseResult) -> None:
        """Write a finished case; a second result of the same case is left out. Errors: RecordingError."""
        if result.case in self.done:
            return
        line = encode_line(result)
        try:
            written = os.write(self._file, line)
            if written < len(line):  # the disk is full: part of a line is worse than none
                os.ftruncate(self._file, os.fstat(self._file).st_size - written)
                raise _cannot_write(self.path, OSError("the disk is full"))
            self.done.add(result.case)
            if self._clock.monotonic() - self._synced_s >= _SYNC_S:
                os.fsync(self._file)
                self._synced_s = self._clock.monotonic()
        except OSError as error:
            raise _cannot_write(self.path, error) from error

    def finish(self, state: str, junit: Path | None = None) -> Summary:
        """Write everything that is made from the results. junit: a second place for junit.xml.

        Errors: RecordingError.
        """
        results, _ = read_results(self.path / RESULTS)
        self.finish_abandoned(results)
        info = self.info
        info.state, info.ended = state, iso(self._clock.wall())
        info.duration_s = round(self._earlier_s + self._clock.monotonic() - self._began_s, 3)
        whole = summary(info, results)
        info.totals = {"passed": whole.all.passed, "failed": whole.all.failed, "error": whole.all.errors}
        xml = junit_xml(info, results)
        try:
            os.fsync(self._file)
            replace_file(self.path / SUMMARY, _pretty(whole))
            replace_file(self.path / CSV, csv_table(results).encode())
            replace_file(self.path / JUNIT, xml)
            replace_file(self.path / RUN, _pretty(info))
        except OSError as error:
            raise _cannot_write(self.path, error) from error
        if junit is not None:
            try:
                junit.parent.mkdir(parents=True, exist_ok=True)
                junit.write_bytes(xml)
            except OSError as error:
                raise RecordingError(
                    f"cannot write {junit}: {error.strerror}; the same is in {self.path / JUNIT}"
                ) from error
        return whole

    def close(self) -> None:
        """Release the folder; idempotent."""
        for descriptor in (self._file, self._lock):
            if descriptor >= 0:
                os.close(descriptor)
        self._file = self._lock = -1

    def finish_abandoned(self, results: Sequence[CaseResult]) -> None:
        """Finish and name the sessions that no result mentions: killed in the middle, lost, or tried again."""
        known = {result.recording for result in results}
        self.info.abandoned = []
        for session in sorted((self.path / SESSIONS).glob("*/")):
            name = f"{SESSIONS}/{session.name}"
            if name in known or session.is_symlink() or _removed_if_empty(session):
                continue
            self.info.abandoned.append(name)
            _recover(session)


def _removed_if_empty(session: Path) -> bool:
    """Remove the folder of a session that was killed before anything was written to it."""
    journal = session / JOURNAL
    try:
        if (session / SESSION).exists() or (journal.exists() and journal.stat().st_size):
            return False
        shutil.rmtree(session)
    except OSError:
        return False
    return True


def _recover(session: Path) -> None:
    """Finish a session that was cut off; one that cannot be finished stays as it is."""
    try:
        file = session / SESSION
        state = msgspec.json.decode(file.read_bytes()) if file.exists() else {}
        if state.get("pid") != os.getpid():  # else it is a session of this process, which may go on
            recover(session)
    except (OSError, RecordingError, msgspec.DecodeError, AttributeError) as error:
        _log.warning("a session could not be finished", folder=session.name, error=str(error))


def _check_same(path: Path, before: RunInfo, now: RunInfo) -> None:
    if before.fingerprint != now.fingerprint:
        gone, new = set(before.cases) - set(now.cases), set(now.cases) - set(before.cases)
        what = f"{len(gone)} cases are gone, {len(new)} are new" if gone or new else "a scenario was changed"
        raise UsageError(f"the run in {path} is of other scenarios: {what}; name another folder with --out")
    for name, one, other in (
        ("endpoint", before.target, now.target),
        ("model", before.options.get("model"), now.options.get("model")),
        ("--fast", before.options.get("fast"), now.options.get("fast")),
    ):
        if one != other:
            raise UsageError(f"the run in {path} was begun with another {name} ({one}, not {other})")


def _locked(path: Path) -> int:
    """Make the folder and take its lock, which ends with this process. Errors: UsageError; RecordingError."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = hold(path / LOCK)
    except OSError as error:
        raise _cannot_write(path, error) from error
    if lock is None:
        raise UsageError(f"another run is writing into {path}; wait for its end or name another folder")
    return lock


def _drop_torn_line(file: int) -> None:
    """Remove an unfinished last line: appending to it would damage the next one, too."""
    end = size = os.fstat(file).st_size
    while end > 0:
        begin = max(0, end - 65_536)
        os.lseek(file, begin, os.SEEK_SET)  # what is written still goes to the end
        at = os.read(file, end - begin).rfind(b"\n")
        if at >= 0:
            end = begin + at + 1
            break
        end = begin
    if end < size:
        os.ftruncate(file, end)


def _pretty(value: Any) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"


def _cannot_write(path: Path, error: OSError) -> RecordingError:
    return RecordingError(f"cannot write the run in {path}: {error.strerror or error}")
