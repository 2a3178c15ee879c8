"""Runs of many cases: short ones one after the other, long ones all at once, and kills with --resume.

(a) 1,000 and 2,000 short text scenarios against local servers, recorded: time, whether twice as many take twice as
    long, processes, and own waiting.
(b) 200 sessions at real-time pace in one run, all at once, recorded, the server in its own process: delay from the
    server's making of a 100 ms piece to the program's hand, and memory a session.
(c) 50 runs killed (SIGKILL) at random moments and resumed: cases with two results, cases lost.
(d) 500 short scenarios all at once against local servers: how many pass, and time.
(e) 500 short scenarios whose model calls a canned tool, at most 8 at a time: time, and first text after the result.

    python scripts/bench/runs.py [a|b|c|d|e|all] [COUNT]
"""

from __future__ import annotations

import collections
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from realtime_client.batch.plan import Plan
from realtime_client.batch.playing.play import play_case
from realtime_client.batch.result import SESSIONS, CaseResult
from realtime_client.batch.results.results import read_results
from realtime_client.batch.running import pool_worker
from realtime_client.batch.running.folder import RunFolder
from realtime_client.batch.running.own_server import at_server
from realtime_client.batch.running.pool import SessionPool
from realtime_client.batch.running.run import run, run_info
from realtime_client.batch.running.worker import WorkerLog, prepare
from realtime_client.batch.scenario import Case, Scenario, Step
from realtime_client.cores import usable_cores
from realtime_client.local.server_process import SWITCH_S
from realtime_client.settings import Settings
from realtime_client.updates import AudioDelta

SHORT = """
name: short
session: {modality: text}
turns:
  - text: What is two plus three?
    expect: {contains: "5"}
"""
WITH_TOOL = """
name: short
session: {modality: text}
tools:
  - name: get_weather
    description: the weather in a city
    parameters: {type: object, properties: {city: {type: string}}, required: [city]}
    returns: sunny
turns:
  - text: What is the weather in Oslo?
    expect: {contains: sunny, tool: {name: get_weather, times: 1}}
"""
COMMAND = [sys.executable, "-m", "realtime_client", "run"]
LENGTH_S = 40
STARTS_A_SECOND = 15


# --- (a) short ones ---------------------------------------------------------------------------------------------------


def short(folder: Path, count: int, jobs: int = 32, text: str = SHORT) -> float:
    """Seconds of the whole command for so many short scenarios; prints what came of it."""
    scenario, out = folder / "short.yaml", folder / f"run{count}"
    scenario.write_text(text)
    options = ["--local", "--fast", "--jobs", str(jobs), "--repeat", str(count), "--out", str(out)]
    began, used = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [*COMMAND, str(scenario), *options, "-q", "--json"], check=False, capture_output=True, text=True
    )
    seconds, now = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
    processes = len({result.worker for result in read_results(out / "results.jsonl")[0]})
    found = json.loads(done.stdout)["all"]
    latency, own = found["latencies"]["first_text"], found["own_waiting"].get("first_text", {"p50": -1, "p95": -1})
    print(
        f"{count} short text scenarios, {jobs} at a time in {processes} processes on {usable_cores()} cores: "
        f"{found['passed']} passed in {seconds:.1f} s, {cpu:.0f} s of a core; first text p50 {latency['p50']:.1f} ms, "
        f"p95 {latency['p95']:.1f} ms; own waiting p50 {own['p50']:.1f} ms, p95 {own['p95']:.1f} ms"
    )
    return seconds


def bench_short(count: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        once, twice = (short(Path(name), number) for number in (count, 2 * count))
    print(f"twice as many take {twice / once:.2f} times as long   (goal: 2; 1,000 under 60 s)")


def bench_all_at_once(count: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        short(Path(name), count, jobs=count)


def bench_with_tool(count: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        short(Path(name), count, jobs=8, text=WITH_TOOL)


# --- (b) all at once --------------------------------------------------------------------------------------------------


class StampedVoice:
    """Each phrase is 100 ms of sound whose first eight bytes are the moment of its making, in monotonic nanoseconds."""

    rate_hz = 24_000

    def speak(self, text: str, *, voice: str = "", speed: float = 1.0) -> Iterator[bytes]:  # noqa: ARG002
        yield time.monotonic_ns().to_bytes(8, "little") + bytes(4792)


class LongBrain:
    """Talks for `LENGTH_S`, a phrase each 100 ms."""

    def reply(self, turn: object) -> Iterator[Any]:  # noqa: ARG002
        from realtime_client.local.brain import Say

        for _ in range(LENGTH_S * 10):
            yield Say("so. ")


def serve() -> None:
    """The server's process: prints its URL, ends with its standard input."""
    import gc

    from realtime_client.local import LocalServer
    from realtime_client.local.parts import Parts

    server = LocalServer(token="bench", pace=1.0, parts=Parts(brain=LongBrain(), voice=StampedVoice()))
    server.start()
    sys.setswitchinterval(SWITCH_S)
    gc.freeze()
    print(server.url, flush=True)
    sys.stdin.read()
    os._exit(0)


@contextmanager
def served() -> Iterator[str]:
    with subprocess.Popen(
        [sys.executable, __file__, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        yield server.stdout.readline().strip()
        server.kill()


_base_kb: dict[str, int] = {}


def resident_kb() -> int:
    return int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0])


def play_stamped(case: Case, plan: Plan) -> CaseResult:
    """Play a case and note when each piece was made and when it came. Memory: before the first session, and now."""
    base_kb = _base_kb.setdefault("kb", resident_kb())
    pieces: list[tuple[int, int]] = []
    most_kb = 0

    def observe(update: object, _at_s: float) -> None:
        nonlocal most_kb
        if type(update) is AudioDelta:
            pieces.append((int.from_bytes(update.audio[:8], "little"), time.monotonic_ns()))
            if len(pieces) == LENGTH_S * 5:  # in the middle, when all are there
                most_kb = resident_kb()

    result = play_case(case, plan, stop=pool_worker.stopping, observers=[observe])
    values = {"pieces": pieces, "pid": os.getpid(), "base_kb": base_kb, "most_kb": most_kb}
    return msgspec.structs.replace(result, values=values)


def bench_at_once(count: int) -> None:
    scenario = Scenario(name="long", turns=[Step(text="Talk.", timeout="300 s")], timeout="300 s")
    cases = [Case(id=f"long#{n}", scenario=scenario, file="", folder=".", repeat=n) for n in range(count)]
    with tempfile.TemporaryDirectory() as name, served() as url:
        folder = Path(name) / "run"
        settings = at_server(Settings(record_dir=folder / SESSIONS), url, "bench")
        plan = Plan(settings=settings, retries=0, local=True)
        pool = SessionPool(count, initializer=prepare, initargs=(plan.secrets(), WorkerLog(quiet=True)))
        with pool:
            place = RunFolder.create(folder, run_info("bench", cases))
            run(cases, plan, pool, place, jobs=count, per_minute=60 * STARTS_A_SECOND, play=play_stamped)
            place.close()
        results, _ = read_results(folder / "results.jsonl")
    tell_at_once(results, pool.processes)


def tell_at_once(results: list[CaseResult], processes: int) -> None:
    bad = [result for result in results if result.status != "passed"]
    if bad:
        print(f"{len(bad)} sessions failed, the first: {bad[0].fault}")
    good = [result.values for result in results if result.values.get("pieces")]
    begin = max(values["pieces"][0][1] for values in good) + 3_000_000_000
    end = min(values["pieces"][-1][1] for values in good)
    delays = sorted(
        (came - made) / 1e6 for values in good for made, came in values["pieces"] if begin <= made and came <= end
    )
    by_process: dict[int, list[dict[str, Any]]] = collections.defaultdict(list)
    for values in good:
        by_process[values["pid"]].append(values)
    grown_kb = sum(max(v["most_kb"] for v in found) - min(v["base_kb"] for v in found) for found in by_process.values())
    p50, p99 = (delays[int(len(delays) * part)] for part in (0.5, 0.99))
    print(
        f"{len(good)} sessions at once in {processes} processes for {(end - begin) / 1e9:.0f} s, {len(delays)} pieces: "
        f"delay p50 {p50:.1f} ms, p99 {p99:.1f} ms (goal: under 50), worst {delays[-1]:.0f} ms"
    )
    print(f"memory: {grown_kb / len(good) / 1000:.2f} MB a session with its recording (goal: under 1.5)")


# --- (c) kills --------------------------------------------------------------------------------------------------------


def bench_kills(kills: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        scenario, out = Path(name) / "short.yaml", Path(name) / "run"
        scenario.write_text(SHORT)
        count = 200 * kills
        options = ["--local", "--fast", "--jobs", "16", "--repeat", str(count), "--out", str(out), "--resume", "-q"]
        chance, pause, done = random.Random(7), threading.Event(), 0
        for _ in range(kills):
            command = subprocess.Popen([*COMMAND, str(scenario), *options], stdout=subprocess.DEVNULL)
            pause.wait(chance.uniform(0.2, 2.5))
            if command.poll() is None:
                command.send_signal(signal.SIGKILL)
                done += 1
            command.wait()
        subprocess.run([*COMMAND, str(scenario), *options], stdout=subprocess.DEVNULL, check=False)
        lines = (out / "results.jsonl").read_bytes().splitlines()
        seen = collections.Counter(msgspec.json.decode(line)["case"] for line in lines)
        info = json.loads((out / "run.json").read_text())
        twice = sum(number > 1 for number in seen.values())
        lost = len(set(info["cases"]) - set(seen))
    print(
        f"{done} kills of {kills} runs of {count} cases: {twice} cases with two results (goal 0), {lost} lost "
        f"(goal 0); {len(info['abandoned'])} sessions in flight were begun anew"
    )


def main() -> None:
    if sys.argv[1:] == ["--serve"]:
        serve()
    what = sys.argv[1] if len(sys.argv) > 1 else "all"
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    if what in ("a", "all"):
        bench_short(count or 1_000)
    if what in ("b", "all"):
        bench_at_once(count or 200)
    if what in ("c", "all"):
        bench_kills(count or 50)
    if what in ("d", "all"):
        bench_all_at_once(count or 500)
    if what in ("e", "all"):
        bench_with_tool(count or 500)


if __name__ == "__main__":
    main()
