"""Playing one case: a session is opened, the steps are said in it, and what comes back is judged."""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from realtime_client import updates as up
from realtime_client.batch.faults import StoppedError, fault_of
from realtime_client.batch.judging import language, patterns
from realtime_client.batch.judging.checks import check
from realtime_client.batch.judging.evidence import Evidence, Means, many, pattern
from realtime_client.batch.judging.judge import ask_judge
from realtime_client.batch.judging.prices import FREE, cost_usd, is_own, prices_of
from realtime_client.batch.plan import LONGEST_ASKED_S, Plan
from realtime_client.batch.result import CaseResult, CheckResult, Fault, StepResult
from realtime_client.batch.scenario import Case, Expect, Prices, Scenario, ValueCheck, place
from realtime_client.client.arrival import lateness, stamping
from realtime_client.deadline import SYSTEM_CLOCK, Clock
from realtime_client.errors import UsageError
from realtime_client.opening import Opened, opened
from realtime_client.session.limits import NO_RECOVERY
from realtime_client.session.observers import Observer
from realtime_client.session.session import Session
from realtime_client.settings import Settings
from realtime_client.settings.providers import is_text
from realtime_client.settings.target import input_format, target
from realtime_client.tools.approval import Policy, rule

from .listener import PatientListener, ScriptedListener
from .player import Player
from .session import check_played_in_writing, scenario_settings
from .sound import AUDIBLE, make_clip
from .tools import check_allowed, toolbox_of
from .watch import Watch, add_usage, whole

_LOOK_S = 0.25
_OPENING = threading.BoundedSemaphore(4)
"""Who may open a session: most of what a session computes is its beginning, and that has a time limit.

Where hundreds began at once, each got so little of the interpreter that the limit was over before they were through,
and those that talked waited for them: with 32 on two cores four at a time gave them half the waiting of eight, and two
no less. Fewer would hold up those that wait for a server far away.
"""


def play_case(
    case: Case,
    plan: Plan,
    *,
    stop: threading.Event | None = None,
    observers: Sequence[Observer] = (),
    clock: Clock = SYSTEM_CLOCK,
) -> CaseResult:
    """Play one case to its end and judge it. Never raises on account of the endpoint: that is in the result.

    stop: set from outside, it ends the case soon, as `error` with a fault of kind `StoppedError`. observers: get every
    update of every session, as `session.observe(..., direct=True)` gives them.
    """
    stop = stop or threading.Event()
    started = dt.datetime.fromtimestamp(clock.wall(), dt.UTC).isoformat(timespec="milliseconds")
    start_s = clock.monotonic()
    attempt = 1
    while True:
        played = _Attempt(case, plan, stop, observers, clock)
        result = played.run()
        fault = result.fault
        if fault is None or not fault.infrastructure or attempt > plan.retries:
            break
        if fault.asked_s > LONGEST_ASKED_S:
            break  # nobody waits so long
        if stop.wait(_backoff_s(plan, attempt, fault)):
            break
        attempt += 1
    return msgspec.structs.replace(
        result, attempts=attempt, started=started, duration_s=round(clock.monotonic() - start_s, 3)
    )


def _backoff_s(plan: Plan, attempt: int, fault: Fault) -> float:
    """How long to wait before the next attempt: doubled each time, or what the server asks for if that is longer."""
    wait_s: float = min(plan.backoff_max_s, plan.backoff_s * 2 ** (attempt - 1))
    return max(wait_s, min(fault.asked_s, 10 * plan.backoff_max_s))


def expectations(scenario: Scenario) -> list[Expect]:
    """Return every `expect` of a scenario."""
    found = [step.expect for step in scenario.turns] + [scenario.expect]
    return [expect for expect in found if expect is not None]


def check_needs(scenario: Scenario) -> None:
    """Refuse a scenario that could not be judged, before it is played.

    Errors: MissingExtraError; UsageError for an invalid regular expression.
    """
    for expect in expectations(scenario):
        if expect.language is not None:
            language.check_installed()
        for text in _patterns(expect):
            pattern(text)


def _patterns(expect: Expect) -> Iterator[str]:
    """Yield every regular expression."""
    values: list[Expect | ValueCheck | None] = [expect]
    for _, call in many(expect.tool or []):
        values += [*call.where.values(), call.result]
    for value in values:
        if value is not None:
            yield from (text for _, text in many(value.matches or []))


@dataclass(kw_only=True)
class _Facts:
    """What is known of a session when it is over, or has failed. written: it is with a text model."""

    steps: list[StepResult] = field(default_factory=list)
    evidence: list[Evidence] = field(default_factory=list)
    events: dict[str, float] = field(default_factory=dict)
    start_s: float = 0.0
    usage: up.Usage | None = None
    model: str = ""
    where: str = ""
    own_server: bool = False
    recording: str = ""
    traffic: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    connected: bool = False
    written: bool = False


class _Attempt:
    """One session of a case."""

    def __init__(
        self, case: Case, plan: Plan, stop: threading.Event, observers: Sequence[Observer], clock: Clock
    ) -> None:
        self._case = case
        self._plan = plan
        self._stop = stop
        self._observers = observers
        self._clock = clock
        self._facts = _Facts()
        self._watch: Watch | None = None
        self._listener: ScriptedListener | PatientListener = PatientListener() if plan.fast else ScriptedListener(clock)

    def run(self) -> CaseResult:
        """Play and judge; whatever goes wrong is the result's fault."""
        fault: Fault | None = None
        checks: list[CheckResult] = []
        try:
            if self._stop.is_set():
                raise StoppedError("stopped before its beginning")
            self._plan.check()
            check_allowed(self._case, approved=self._plan.approve is not None)
            check_needs(self._case.scenario)
            settings = scenario_settings(self._plan.settings, self._case.scenario)
            settings = dataclasses.replace(settings, recovery=NO_RECOVERY)  # a lost connection is a result
            self._facts.model, self._facts.written = settings.model, is_text(settings)
            check_played_in_writing(settings, self._case.scenario, local=self._plan.local)
            self._hold(settings)
            checks = self._judge(settings)
        except Exception as error:  # noqa: BLE001 - one case must not end the run
            fault = fault_of(error, connected=self._facts.connected)
        return self._result(checks, fault)

    # --- the session --------------------------------------------------------------------------------------------------

    def _hold(self, settings: Settings) -> None:
        """Open the session, play the steps, close it."""
        self._make_clips(settings)
        listener = self._listener
        news = threading.Event()
        prepared = functools.partial(self._prepare, news=news)
        stamping.set()
        policy = Policy(map(rule, self._plan.approve or ()))
        with ExitStack() as stack:
            toolbox = stack.enter_context(toolbox_of(self._case))  # before anything is measured
            with self._turn_to_open():
                one = opened(settings, prepared=prepared, heard_ms=listener.heard_ms, toolbox=toolbox, policy=policy)
                held = stack.enter_context(one)
            self._note_session(held, settings)
            try:
                assert self._watch is not None
                player = Player(
                    held.session,
                    self._watch,
                    self._case,
                    listener=listener,
                    news=news,
                    stop=self._stop,
                    clock=self._clock,
                )
                player.play()
            finally:
                self._gather(held.session, frozenset(toolbox.named))

    @contextmanager
    def _turn_to_open(self) -> Iterator[None]:
        """Wait until this session may open. Errors: StoppedError."""
        while not _OPENING.acquire(timeout=_LOOK_S):
            if self._stop.is_set():
                raise StoppedError("stopped before its beginning")
        try:
            yield
        finally:
            _OPENING.release()

    def _make_clips(self, settings: Settings) -> None:
        """Prepare what will be spoken while there is time; it is kept for a while.

        Errors: UsageError for a file or voice that cannot be used, before anything is sent.
        """
        for step in self._case.scenario.turns:
            if any(getattr(step, kind) is not None for kind in AUDIBLE):
                make_clip(step, self._case, input_format(settings))

    def _prepare(self, session: Session, news: threading.Event) -> None:
        """Start watching before there is anything to see."""

        def ms(size_bytes: int) -> int:
            return session.output_format.ms(size_bytes)

        watch = self._watch = Watch(ms, news.set)
        # They are told in the thread that received what they are about, and count from when that arrived.

        def event(kind: str, at_s: float) -> None:
            late = lateness()
            watch.event(kind, at_s if late is None else at_s - late.least_s)

        def observe(update: up.Update, at_s: float) -> None:
            late = lateness()
            if late is None:
                watch.observe(update, at_s)
            else:
                watch.observe(update, at_s - late.least_s, late.most_s)

        session.observe_events(event)
        listener = self._listener
        if isinstance(listener, ScriptedListener):

            def hear(update: up.Update, at_s: float) -> None:
                if type(update) is up.AudioDelta:
                    fmt = session.output_format
                    length_s = len(update.audio) / (fmt.rate_hz * fmt.bytes_per_sample)
                    listener.arrived((update.item_id, update.content_index), length_s, at_s)

            session.observe(hear, direct=True)
        session.observe(observe, direct=True)
        for observer in self._observers:
            session.observe(observer, direct=True)

    def _note_session(self, held: Opened, settings: Settings) -> None:
        facts = self._facts
        facts.connected = not facts.written  # else that is known when it answers
        facts.start_s = self._clock.monotonic()
        facts.model = held.session.model or settings.model
        facts.where = held.session.where
        facts.own_server = is_own(facts.where, held.session.session_id)
        if held.recording is not None:
            facts.recording = _relative(held.recording, settings.record_dir)

    def _gather(self, session: Session, offered: frozenset[str]) -> None:
        """Collect what is known before the session is closed. offered: the names of the tools."""
        facts, watch = self._facts, self._watch
        assert watch is not None
        stats = session.stats()
        watch.requests_left({turn.response_id: turn.asked_s for turn in stats.turns})
        for turn in watch.turns:
            result = watch.result(turn, facts.start_s)
            facts.steps.append(result)
            facts.evidence.append(watch.evidence(turn, result, offered))
        facts.connected = facts.connected or watch.answered
        facts.events = dict(watch.session_events)
        facts.notes = list(watch.notes)
        facts.usage = add_usage([reply.usage for turn in watch.turns for reply in turn.replies])
        facts.traffic = {"bytes_in": stats.traffic.bytes_in, "bytes_out": stats.traffic.bytes_out}
        if stats.round_trip.mean_ms is not None:
            facts.traffic["rtt_ms"] = round(stats.round_trip.mean_ms, 3)
        if isinstance(self._listener, ScriptedListener) and self._listener.underruns:
            facts.traffic["underruns"] = self._listener.underruns

    # --- the verdict --------------------------------------------------------------------------------------------------

    def _prices(self) -> Prices | None:
        """Prices of the session's model: the scenario's, none for a server of our own, else the table's.

        Where several models answered, nobody knows who took how much: then only what they have in common is known.
        """
        if self._case.scenario.prices is not None:
            return self._case.scenario.prices
        facts = self._facts
        own = facts.own_server or (not facts.written and target(self._plan.settings) == "local")
        if self._plan.local or own:
            return FREE
        models = {facts.model} | (self._watch.models if self._watch is not None else set())
        found = [prices_of(model, facts.where) for model in models]
        return found[0] if all(each == found[0] for each in found) else None

    def _judge(self, settings: Settings) -> list[CheckResult]:
        facts, scenario = self._facts, self._case.scenario
        means = Means(
            prices=self._prices(),
            model=facts.model,
            judge=lambda judge, evidence: ask_judge(settings, judge, evidence),
            language=language.detect,
            search=patterns.search,
            place=lambda path: place(self._case, path),
        )
        results: list[CheckResult] = []
        for evidence, step in zip(facts.evidence, scenario.turns, strict=True):
            if self._stop.is_set():
                raise StoppedError("stopped before its verdict")
            if step.expect is not None:
                results += check(step.expect, evidence, means)
        if scenario.expect is not None:
            results += check(scenario.expect, whole(facts.evidence, facts.events, facts.start_s), means)
        return results

    def _result(self, checks: list[CheckResult], fault: Fault | None) -> CaseResult:
        case, facts = self._case, self._facts
        status: Any = "error" if fault is not None else "passed" if all(one.ok for one in checks) else "failed"
        prices = None if facts.usage is None else self._known_prices()
        usage: dict[str, int] = {} if facts.usage is None else msgspec.to_builtins(facts.usage)
        return CaseResult(
            case=case.id,
            scenario=case.scenario.name,
            status=status,
            file=case.file,
            tags=case.scenario.tags,
            row=case.row,
            repeat=case.repeat,
            values=case.values,
            fault=fault,
            steps=facts.steps,
            checks=checks,
            latencies=_by_name(step.latencies for step in facts.steps),
            own_waiting=_by_name(step.own_waiting for step in facts.steps),
            usage=usage,
            cost_usd=None if prices is None or facts.usage is None else cost_usd(facts.usage, prices),
            model=facts.model,
            target=facts.where,
            recording=facts.recording,
            traffic=facts.traffic,
            notes=[note for note in facts.notes if fault is None or note not in fault.message],
            worker=self._plan.worker,
        )

    def _known_prices(self) -> Prices | None:
        try:
            return self._prices()
        except UsageError:
            return None


def _by_name(steps: Iterable[Mapping[str, float]]) -> dict[str, list[float]]:
    """All values of the steps, by name."""
    values: dict[str, list[float]] = {}
    for step in steps:
        for name, value in step.items():
            values.setdefault(name, []).append(value)
    return values


def _relative(recording: Path, base: Path | None) -> str:
    """The recording as the run names it: sessions/NAME."""
    return str(recording) if base is None else f"{base.name}/{recording.name}"
