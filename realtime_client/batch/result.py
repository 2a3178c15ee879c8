"""What a run leaves behind, line by line: the versioned structs of results.jsonl and run.json. Pure data.

A run's folder:

    run.json          what was run, how, and how it ended (`RunInfo`)
    results.jsonl     one finished case a line (`CaseResult`), appended and flushed to the disk as it finishes
    results.csv       the same as a table
    junit.xml         the same for continuous integration
    summary.json      pass rate, percentiles of every latency, cost
    sessions/         the recordings, one folder a session, as of a live session
"""

from __future__ import annotations

import math
from typing import Any, Literal

import msgspec

VERSION = 1
RUN, RESULTS, CSV, JUNIT, SUMMARY, SESSIONS = (
    "run.json",
    "results.jsonl",
    "results.csv",
    "junit.xml",
    "summary.json",
    "sessions",
)
BUILT_IN = "the built-in local server"  # as a target; its address is another one each time
Status = Literal["passed", "failed", "error"]


class CheckResult(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One check. kind: the key in `expect`. turn: number of the step from 1, None for the whole scenario.

    expected, seen: for people, shortened. message: one line that says what is wrong; '' when ok. score: the measured
    number where there is one (word error rate, ms, dollars). place: FILE:LINE:COLUMN of the expectation.
    """

    kind: str
    ok: bool
    expected: str = ""
    seen: str = ""
    message: str = ""
    turn: int | None = None
    score: float | None = None
    place: str = ""


class ToolUse(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One call of a tool. arguments: as the model wrote them. output: what was sent back.

    status: as of `updates.ToolFinished`; '' where the session was over before the call was. error: why it is not
    completed. at_ms: when it came, in ms after the end of what the user said or wrote. duration_ms: of the tool's work;
    None where it did not begin.
    """

    name: str
    arguments: str
    output: str = ""
    status: str = ""
    error: str = ""
    at_ms: float | None = None
    duration_ms: float | None = None


class StepResult(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One step as it went. Times in ms, counted from `at_s` (seconds since the session began) on.

    kind: text, speak, audio, dtmf, silence or pause. said: its text, file or keys. transcript: what the server heard.
    answer: text of the answers to it. heard: what of it was heard. cut_ms: where it was cut, None when it was not.
    latencies: by name, in ms: first_text, first_audio (request, or end of the user's speech, to first delta),
    speech_to_audio, answer (to the answer's end), interruption (own speech or text to the cut); counted from when the
    request left this machine to when its answer reached it. own_waiting: by the same names, in ms, how long request and
    answer waited for this program besides; nothing where that is not known.
    """

    n: int
    kind: str
    said: str = ""
    name: str = ""
    at_s: float = 0.0
    transcript: str = ""
    answer: str = ""
    heard: str = ""
    cut_ms: int | None = None
    status: str = ""
    audio_ms: int = 0
    tools: list[ToolUse] = []
    latencies: dict[str, float] = {}
    own_waiting: dict[str, float] = {}


class Fault(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Why a case has no verdict. kind: the exception's name. infrastructure: the endpoint's fault, so worth a retry.

    connected: there was a session at all. retry_after_s: how long the server asked to wait, when it did.
    """

    kind: str
    message: str
    infrastructure: bool = False
    connected: bool = False
    retry_after_s: float | None = None

    @property
    def asked_s(self) -> float:
        """How many seconds the server asks to wait; 0 for none, and for impossible times (nan, inf, -1)."""
        asked = self.retry_after_s
        return asked if asked is not None and 0 < asked < math.inf else 0.0


class CaseResult(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One finished case.

    status: `passed` when every check held, `failed` when one did not, `error` when it could not be judged (no
    connection, lost connection, time limit): never passed. attempts: how often it was begun in all. latencies: all
    values by name, in ms, over all steps. own_waiting: likewise. cost_usd: None when the model's prices are not known.
    recording: the session's folder relative to the run's, '' for none. worker: who ran it. usage: tokens by the names
    of `updates.Usage`. traffic: figures of the session: bytes_in, bytes_out, rtt_ms (mean round trip), underruns.
    notes: what the session told on its way, such as a request that was made again; each line once.
    """

    case: str
    scenario: str
    status: Status
    version: int = VERSION
    file: str = ""
    tags: list[str] = []
    row: int | None = None
    repeat: int = 0
    values: dict[str, Any] = {}
    fault: Fault | None = None
    attempts: int = 1
    started: str = ""
    duration_s: float = 0.0
    steps: list[StepResult] = []
    checks: list[CheckResult] = []
    latencies: dict[str, list[float]] = {}
    own_waiting: dict[str, list[float]] = {}
    usage: dict[str, int] = {}
    cost_usd: float | None = None
    model: str = ""
    target: str = ""
    recording: str = ""
    worker: str = ""
    traffic: dict[str, float] = {}
    notes: list[str] = []


class RunInfo(msgspec.Struct, kw_only=True, omit_defaults=True):
    """run.json. cases: the ids of all, in order. state: running, ended, interrupted. options: without secrets.

    fingerprint: of the scenarios, so that a resumed run is of the same ones. resumed: how often it was resumed. jobs:
    most cases at a time. ears: how many spoken turns were transcribed at a time; 0 where the built-in server did not.
    abandoned: sessions that no result mentions, because the run was killed or the case begun again; folders relative to
    the run's.
    """

    run: str
    state: str
    version: int = VERSION
    started: str = ""
    ended: str = ""
    duration_s: float = 0.0
    program: str = ""
    target: str = ""
    options: dict[str, Any] = {}
    fingerprint: str = ""
    cases: list[str] = []
    totals: dict[str, int] = {}
    resumed: int = 0
    jobs: int = 0
    ears: int = 0
    abandoned: list[str] = []


def tool_uses(result: CaseResult) -> list[ToolUse]:
    """Return all calls of tools of a case, in order."""
    return [use for step in result.steps for use in step.tools]


def is_failure(use: ToolUse) -> bool:
    """Return whether a call is over, and not completed."""
    return use.status not in ("completed", "")


def ending(use: ToolUse) -> str:
    """Return how a call ended, for people: `completed in 12 ms`, `refused: nobody is here who could allow it`."""
    status = {"": "not over", "timed_out": "timed out"}.get(use.status, use.status)
    took = "" if use.duration_ms is None else f" in {use.duration_ms:.0f} ms"
    return f"{status}{took}" + (f": {use.error}" if use.error else "")
