"""Runs against text models: scenarios in writing play unchanged, sound is refused before anything is sent."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cli_helpers import realtime
from text_server import DONE, Request, TextServer, answers, delta, drops, refuses, stream, usage

from realtime_client import updates as up
from realtime_client.batch.faults import answer_error, may_pass
from realtime_client.batch.judging.prices import FREE, prices_of
from realtime_client.batch.plan import Plan
from realtime_client.batch.playing.play import play_case
from realtime_client.batch.result import CaseResult
from realtime_client.batch.results.results import read_results
from realtime_client.batch.scenario import Case, Scenario
from realtime_client.errors import RateLimitedError, ResponseFailedError
from realtime_client.settings import load_settings

LIMIT_S = 30.0
KEY = "sk-123456789"


def case(turns: list[dict[str, Any]], **fields: Any) -> Case:
    values = {"name": "it", "timeout": "20 s", "turns": turns, **fields}
    return Case(id="it", scenario=msgspec.convert(values, Scenario), file="it.yaml", folder=".")


def plan(url: str, fast: bool = False, **flags: Any) -> Plan:
    given = {"model": "openai/test", "url": url, "token": KEY, "record": False, "retry_delay_s": 0.01, **flags}
    return Plan(settings=load_settings(given), fast=fast, retries=0, backoff_s=0.01)


def passes(result: CaseResult) -> CaseResult:
    assert result.fault is None, result.fault
    assert [one.message for one in result.checks if not one.ok] == []
    assert result.status == "passed"
    return result


def echo(request: Request) -> None:
    """Answer with what the last message was, and how many there were."""
    messages = request.json["messages"]
    answers(f"You said: {messages[-1]['content']} ", f"({len(messages)})")(request)


# --- conversations ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fast", [False, True])
def test_a_conversation_with_checks_latencies_and_usage(fast, tmp_path):
    turns = [
        {"text": "Hello", "expect": {"contains": "Hello", "latency": {"first_text": "5 s", "answer": "5 s"}}},
        {"pause": "10 ms"},
        {"text": "And now?", "expect": {"contains": ["And now?", "(4)"], "status": "completed", "no_tool": True}},
    ]
    prices = {"input_text": 1.0, "output_text": 2.0}
    whole = {"no_event": ["error", "failure"], "event": [{"name": "response_done"}, {"name": "finish"}], "cost": 1}
    sessions = tmp_path / "sessions"
    with TextServer(echo) as server:
        one = case(turns, session={"instructions": "Be brief."}, expect=whole, prices=prices)
        result = passes(play_case(one, plan(server.url, fast, record=True, record_dir=str(sessions))))
        assert server.requests[0].json["messages"][0] == {"role": "system", "content": "Be brief."}
    assert (result.model, result.target) == ("openai/test", server.host)
    assert result.usage["total_tokens"] == 20
    assert result.cost_usd == pytest.approx(2 * (7 * 1 + 3 * 2) / 1e6)
    assert result.traffic["bytes_in"] > 200
    assert result.traffic["bytes_out"] > 200
    assert set(result.latencies) == {"first_text", "answer"}
    assert all(0 < value < 5_000 for values in result.latencies.values() for value in values)
    assert len(result.latencies["first_text"]) == 2
    folder = tmp_path / result.recording
    assert '"And now?"' in (folder / "transcript.jsonl").read_text()
    assert not list(folder.rglob("*.wav"))


def test_tools_are_answered_as_the_scenario_says():
    call = {"index": 0, "id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Oslo"}'}}
    calls = stream(delta(tool_calls=[call]), delta(finish="tool_calls"), usage(), DONE)
    tools = [{"name": "weather", "parameters": {"type": "object"}, "returns": {"sky": "clear"}, "delay": "20 ms"}]
    turns = [
        {
            "text": "How is Oslo?",
            "expect": {"contains": "Clear", "tool": {"name": "weather", "arguments": {"city": "Oslo"}}},
        }
    ]
    with TextServer(calls, answers("Clear, as ever.")) as server:
        result = passes(play_case(case(turns, tools=tools), plan(server.url)))
        first, second = server.requests
        assert first.json["tools"][0]["function"]["name"] == "weather"
        assert (
            second.json["messages"][-1]["content"] == '{"sky":"clear"}'
            or '"sky"' in second.json["messages"][-1]["content"]
        )
    assert [use.name for use in result.steps[0].tools] == ["weather"]
    assert result.usage["total_tokens"] == 20


def test_an_answer_is_interrupted_by_what_is_typed_over_it():
    long = stream(delta("One, two"), lambda request: request.wait_gone())
    turns = [
        {"text": "Count for ever."},
        {"text": "Stop.", "after": {"event": "text_delta"}, "expect": {"contains": "Stopped"}},
    ]
    with TextServer(long, answers("Stopped.")) as server:
        result = passes(play_case(case(turns), plan(server.url)))
        assert [each["content"] for each in server.requests[1].json["messages"]][-2:] == ["One, two", "Stop."]
    assert result.steps[0].answer == "One, two"
    assert result.steps[0].status == "cancelled"


def test_a_judge_is_asked_at_the_same_model():
    turns = [{"text": "Hi", "expect": {"judge": {"criteria": "It is polite."}}}]
    with TextServer(answers("Good day."), answers('{"pass": true, "reason": "polite"}')) as server:
        passes(play_case(case(turns), plan(server.url)))
        assert json.loads(server.requests[1].json["messages"][-1]["content"])["answer"] == "Good day."


def test_who_answers_decides_what_it_costs():
    """Nobody knows which tokens were whose where two models made the answers."""
    dies = stream(delta("One, "), drops)
    with TextServer(dies) as first, TextServer(answers("two.")) as second:
        known = {"fallback": "openai/other", "base_url": second.url, "api_key": KEY}
        result = passes(
            play_case(case([{"text": "Count", "expect": {"equals": "One, two."}}]), plan(first.url, **known))
        )
    assert result.cost_usd is None


@pytest.mark.parametrize(
    ("model", "host", "prices"),
    [
        ("ollama/llama3.2", "127.0.0.1:11434", FREE),
        ("ollama/gpt-oss:120b", "ollama.com", None),
        ("openai/anything", "api.openai.com", None),
        ("azure/gpt-realtime-2.1", "x.openai.azure.com", None),
        ("gpt-realtime-2.1-2026-01-01", "api.openai.com", prices_of("gpt-realtime-2.1")),
    ],
)
def test_prices_are_a_providers(model, host, prices):
    assert prices_of(model, host) == prices


# --- what cannot be played --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("turn", "says"),
    [
        ({"speak": "Hello"}, "turn 2: `speak` is sound, and openai/test takes text only: write `text`"),
        ({"audio": "missing.wav"}, "turn 2: `audio` is sound"),
        ({"dtmf": "1"}, "turn 2: `dtmf` is sound"),
        ({"silence": "1 s"}, "turn 2: `silence` is sound"),
        (
            {"text": "x", "after": {"heard": "1 s"}},
            "turn 2: `after: heard` waits for sound, and openai/test makes none",
        ),
    ],
)
def test_sound_is_refused_before_anything_is_sent(turn, says):
    with TextServer(answers("Hi")) as server:
        result = play_case(case([{"text": "Hello"}, turn]), plan(server.url))
        assert server.requests == []
    assert result.status == "error"
    assert result.fault is not None
    assert (result.fault.kind, result.fault.infrastructure) == ("UsageError", False)
    assert says in result.fault.message


def test_a_text_model_is_not_at_the_built_in_server():
    one = case([{"text": "Hello"}], session={"model": "ollama/llama3.2"})
    settings = load_settings({"url": "ws://127.0.0.1:1", "record": False})
    result = play_case(one, Plan(settings=settings, local=True, retries=0))
    assert result.fault is not None
    assert "is not at the built-in server: give the run this model (--model)" in result.fault.message


def test_a_missing_key_is_told_before_anything_is_sent():
    settings = load_settings({"model": "anthropic/claude", "record": False})
    result = play_case(case([{"text": "Hello"}]), Plan(settings=settings, retries=0))
    assert result.fault is not None
    assert (result.fault.kind, result.fault.connected) == ("UsageError", False)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.mark.parametrize(
    ("script", "kind", "passing"),
    [
        (None, "HostUnreachableError", True),
        (refuses(401, {"error": {"message": "no", "code": "invalid_api_key"}}), "AuthenticationError", False),
        (refuses(429, {"error": {"message": "slow down", "code": "rate_limit_exceeded"}}), "RateLimitedError", True),
        (refuses(429, {"error": {"message": "no money", "code": "insufficient_quota"}}), "RateLimitedError", False),
        (refuses(503, {"error": {"message": "busy"}}), "HostUnreachableError", True),
        (refuses(400, {"error": {"message": "not that"}}), "ResponseFailedError", False),
    ],
)
def test_an_endpoint_that_answers_nothing_is_known_by_the_same_names(script, kind, passing):
    with TextServer(script or answers("Hi")) as server:
        url = server.url if script else f"http://127.0.0.1:{free_port()}/v1"
        result = play_case(case([{"text": "Hello"}]), plan(url, retries=1))
    assert result.fault is not None
    assert (result.fault.kind, result.fault.connected) == (kind, False)
    assert result.fault.infrastructure is passing
    assert KEY not in result.fault.message


def test_an_answer_that_breaks_off_is_a_lost_connection():
    with TextServer(answers("Hi"), stream(delta("One"), drops)) as server:
        result = play_case(case([{"text": "Hello"}, {"text": "Count"}]), plan(server.url, retries=0))
    assert result.fault is not None
    assert (result.fault.kind, result.fault.connected) == ("ConnectionLostError", True)


def test_a_failure_that_the_scenario_expects_is_no_fault():
    turns = [{"text": "Hello", "expect": {"status": "failed"}}]
    with TextServer(refuses(400, {"error": {"message": "not that"}})) as server:
        passes(play_case(case(turns), plan(server.url)))


def test_what_a_failure_means():
    failure = up.Failure(message="x", code="429", source="openai/x", raises="RateLimitedError", retry_after_s=3.0)
    error = answer_error("turn 1: slow down", "code", failure)
    assert str(error) == "openai/x: turn 1: slow down (429)"
    assert isinstance(error, RateLimitedError)
    assert (error.retry_after_s, may_pass(error)) == (3.0, True)
    for other in (None, up.Failure(message="x", code="429")):  # of a realtime server
        assert isinstance(answer_error("it failed", "code", other), ResponseFailedError)


# --- the commands -----------------------------------------------------------------------------------------------------

SCENARIO = """
name: hello
turns:
  - text: Hello
    expect: {contains: Hello, latency: {answer: 10 s}}
"""


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    path = tmp_path / "hello.yaml"
    path.write_text(SCENARIO)
    return path


def test_a_run_and_its_comparison(tmp_path, scenario):
    with TextServer(echo) as server:
        for name in ("a", "b"):
            flags = ("--model", "openai/test", "--url", server.url, "--repeat", "3", "--jobs", "2")
            done = realtime(
                "run", str(scenario), *flags, "--out", str(tmp_path / name), "--processes", "1", OPENAI_API_KEY=KEY
            )
            assert (done.returncode, "3 of 3 cases passed" in done.stdout) == (0, True), done.stderr
        assert len(server.requests) == 6
        assert {request.headers["authorization"] for request in server.requests} == {f"Bearer {KEY}"}
    results, _ = read_results(tmp_path / "a" / "results.jsonl")
    assert all(result.usage["total_tokens"] == 10 and result.latencies["first_text"] for result in results)
    run = json.loads((tmp_path / "a" / "run.json").read_text())
    assert server.host in json.dumps(run)
    for path in (tmp_path / "a").rglob("*"):
        assert not path.is_file() or KEY not in path.read_text(), path
    done = realtime("compare", str(tmp_path / "a"), str(tmp_path / "b"))
    assert done.returncode == 0, done.stderr
    assert "a: 3 passed, 0 failed" in done.stdout
    assert realtime("report", str(tmp_path / "a")).returncode == 0


def test_a_run_without_a_key_ends_at_once(tmp_path, scenario):
    done = realtime("run", str(scenario), "--model", "openai/test", "--out", str(tmp_path / "a"))
    assert done.returncode == 2
    assert "OPENAI_API_KEY" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_run_where_nobody_is_ends_with_3(tmp_path, scenario):
    flags = ("--model", "openai/test", "--url", f"http://127.0.0.1:{free_port()}/v1", "--retries", "0")
    done = realtime(
        "run", str(scenario), *flags, "--out", str(tmp_path / "a"), OPENAI_API_KEY=KEY, REALTIME_RETRIES="0"
    )
    assert done.returncode == 3, done.stdout + done.stderr


def test_check_knows_that_a_text_model_takes_no_sound(tmp_path):
    path = tmp_path / "spoken.yaml"
    path.write_text(
        "name: spoken\nsession: {model: openai/test}\nturns:\n  - speak: Hello\n  - text: Stop\n    after: {heard: 1 s}\n"
    )
    done = realtime("check", str(path))
    assert done.returncode == 2
    said = done.stdout + done.stderr
    assert ":4:12: `speak` is sound, and openai/test takes text only" in said
    assert "`heard` waits for sound, and openai/test makes none" in said


def test_nothing_of_the_scenarios_for_realtime_changes():
    """The same words, whoever answers: only the model is another."""
    turns = [{"text": "What is two plus three?", "expect": {"contains": "5"}}]
    with TextServer(answers("It is ", "5.")) as server:
        passes(play_case(case(turns, session={"modality": "text"}), plan(server.url)))


def test_what_is_told_on_the_way_is_a_line_of_the_run_once(tmp_path: Path):
    (tmp_path / "s.yaml").write_text("name: one\nturns:\n  - text: Hi\n    expect: {contains: Now}\n")
    path = tmp_path / "run"
    with TextServer(*[refuses(503, retry_after="0.01"), answers("Now.")] * 2) as server:
        done = realtime(
            "run", str(tmp_path / "s.yaml"), "--repeat", "2", "--jobs", "1", "--out", str(path),
            "--model", "openai/test", "--url", server.url, OPENAI_API_KEY=KEY,
        )  # fmt: skip
    told = "openai/test: HTTP 503; asking again at once"
    results, _ = read_results(path / "results.jsonl")
    assert [(result.status, result.notes) for result in results] == [("passed", [told])] * 2
    lines = done.stderr.splitlines()[1:]
    assert [line.partition(": ")[2] for line in lines] == [told], lines
    assert lines[0].startswith("note    one")
