"""A real small model behind a real server (llama.cpp) on three wires; sessions, and scenarios that it plays.

What it says at temperature 0 is always the same, but for the last bits of a processor's arithmetic: what is checked of
its words are facts that it knows well.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from cli_helpers import COMMAND
from foreign_server import ROOT, fetched, foreign_server
from models_helpers import real_model

import realtime_client
from realtime_client import updates as up
from realtime_client.batch.result import CaseResult
from realtime_client.batch.results.results import read_results
from realtime_client.chat.session import ChatSession
from realtime_client.errors import ResponseFailedError

WAIT_S = 60.0
CONTEXT, AT_ONCE = 768, 3  # tokens for all answers together
BASES = {"openai": "/v1", "openai-responses": "/v1", "anthropic": ""}
BRIEF = "Answer in one short sentence."
STORY = "Write a long story about the sea."

wires = pytest.mark.parametrize("wire", BASES)


@pytest.fixture(scope="session")
def url() -> Iterator[str]:
    """The URL of the server; the model is fetched the first time."""
    (weights,) = real_model("smollm2-135m-instruct").iterdir()
    with foreign_server("llama-cpp", "server.py", str(weights), str(CONTEXT), str(AT_ONCE)) as url:
        yield url


def session(url: str, wire: str = "openai", **values: Any) -> AbstractContextManager[ChatSession]:
    given = {"temperature": 0, "record": False, **values}
    return realtime_client.connect(model=f"{wire}/smollm2", url=url + BASES[wire], **given)  # type: ignore[return-value]


def busy(url: str) -> int:
    """How many answers the server is making."""
    return sum(slot["is_processing"] for slot in json.loads(fetched(f"{url}/slots")))


def made(url: str) -> int:
    """How many tokens it has made so far, for answers that are over."""
    found = re.search(rb"^llamacpp:tokens_predicted_total (\d+)", fetched(f"{url}/metrics"), re.MULTILINE)
    assert found
    return int(found[1])


# --- sessions ---------------------------------------------------------------------------------------------------------


@wires
def test_a_fact_and_the_figures_of_its_answer(url: str, wire: str) -> None:
    with session(url, wire) as client:
        answer = client.ask("What is the capital of Australia?", timeout_s=WAIT_S)
        assert "Canberra" in answer.text
        assert answer.status == "completed"
        assert answer.usage is not None
        assert (answer.usage.input_tokens, answer.usage.total_tokens) == (37, 37 + answer.usage.output_tokens)
        (stream,) = client.streams.stats()
        assert (stream.tokens, stream.estimated) == (answer.usage.output_tokens, False)
        assert stream.source == f"{wire}/smollm2"
        assert stream.first_s is not None
        assert stream.total_s is not None
        assert 0 < stream.first_s < stream.total_s
        assert stream.tokens_per_s is not None
        if wire != "anthropic":  # where the server does not tell
            assert stream.prompt_s is not None
            assert 0 < stream.prompt_s < stream.total_s
        assert answer.timings is not None
        assert answer.timings.first_text_ms is not None


@wires
def test_memory_over_turns(url: str, wire: str) -> None:
    asked = "What was the code word?"
    with session(url, wire, instructions=BRIEF) as client:
        client.ask("The code word is banana.", timeout_s=WAIT_S)
        assert "Paris" in client.ask("What is the capital of France?", timeout_s=WAIT_S).text
        assert "banana" in client.ask(asked, timeout_s=WAIT_S).text
    with session(url, wire, instructions=BRIEF, max_output_tokens=24) as client:
        assert "banana" not in client.ask(asked, timeout_s=WAIT_S).text  # it does not guess


@wires
def test_pieces_come_while_the_server_makes_the_rest(url: str, wire: str) -> None:
    with session(url, wire, max_output_tokens=30) as client, client.updates(timeout_s=WAIT_S) as updates:
        client.send_text(STORY)
        first = next(update for update in updates if isinstance(update, up.TextDelta))
        assert busy(url) == 1
        pieces = [first.text]
        for update in updates:
            if isinstance(update, up.TextDelta):
                pieces.append(update.text)
            elif isinstance(update, up.ResponseDone):
                break
        assert len(pieces) > 15
        assert "".join(pieces) == update.text


@wires
def test_a_cancel_frees_the_server_at_once(url: str, wire: str) -> None:
    before = made(url)
    with session(url, wire) as client:
        with client.updates(timeout_s=WAIT_S) as updates:
            client.send_text(STORY, answers=AT_ONCE)  # as many as it makes at a time
            next(update for update in updates if isinstance(update, up.TextDelta))
            assert client.cancel()
            done = next(update for update in updates if isinstance(update, up.ResponseDone))
        assert done.status == "cancelled"
        assert done.text
        answer = client.ask("What is the capital of Australia?", timeout_s=WAIT_S)
        assert answer.status == "completed"
        assert busy(url) == 0
        assert made(url) - before < CONTEXT // 3  # the stories would have gone on until they had filled it
        assert client.stats().traffic.failures == 0


@wires
def test_a_length_limit(url: str, wire: str) -> None:
    with session(url, wire, max_output_tokens=8) as client:
        answer = client.ask(STORY, timeout_s=WAIT_S)
        assert answer.usage is not None
        assert answer.usage.output_tokens == 8
        if wire == "openai-responses":
            assert answer.status == "completed"  # the server says so itself, on this wire
        else:
            assert (answer.status, answer.reason) == ("incomplete", "max_output_tokens")


def test_three_alternatives_at_once(url: str) -> None:
    with session(url, temperature=1, max_output_tokens=12) as client:
        with client.updates(timeout_s=WAIT_S) as updates:
            client.send_text("Name an animal, and say something about it.", answers=3)
            offered = next(each for each in updates if isinstance(each, up.Alternatives) and len(each.texts) == 3)
        assert len(set(offered.texts)) == 3
        client.choose(2)
        assert client.stats().traffic.frames_out == 3
        told = client.ask("Which animal?", timeout_s=WAIT_S)
        assert told.text


def test_what_is_too_long_for_it_is_told_in_its_words(url: str) -> None:
    with session(url, max_output_tokens=8) as client:
        with pytest.raises(ResponseFailedError) as caught:
            client.ask("word " * CONTEXT, timeout_s=WAIT_S)
        said = str(caught.value)
        assert "exceeds the available context size" in said
        assert "begin a new one" in said
        assert client.stats().traffic.frames_out == 1  # nothing of it can be left out: it is not asked again
        answer = client.ask("What is the capital of Australia?", timeout_s=WAIT_S)
        assert "Canberra" in answer.text


def test_a_conversation_that_grows_too_long_goes_on_without_its_beginning(url: str) -> None:
    long = "The sea is wide and deep, and blue in the sun. " * 5
    with session(url, max_output_tokens=10) as client:
        for country in ("France", "Italy", "Spain"):
            client.ask(f"{long}What is the capital of {country}?", timeout_s=WAIT_S)
        answer = client.ask("What is the capital of Australia?", timeout_s=WAIT_S)
        assert answer.usage is not None
        assert answer.usage.input_tokens < CONTEXT // AT_ONCE
        assert client.stats().traffic.failures == 1
        assert client.stats().traffic.frames_out == 5


def test_a_server_that_closes_each_connection_is_asked_over_another(url: str) -> None:
    with session(url, max_output_tokens=4) as client:
        for _ in range(3):
            client.ask("What is the capital of France?", timeout_s=WAIT_S)
        traffic = client.stats().traffic
        assert (traffic.frames_out, traffic.failures) == (3, 0)


# --- scenarios --------------------------------------------------------------------------------------------------------

SUITE = ROOT / "scripts/scenarios/_text"
LIES = """
def filter(text):
    for said, instead in (("Canberra", "Sydney"), ("banana", "apple"), ("sea", "sea.")):
        text = text.replace(said, instead)
    return text
"""


def played(url: str, folder: Path, **environ: str) -> dict[str, CaseResult]:
    """Run the scenarios in a process of its own; their results by name."""
    where = ("--model", "openai/smollm2", "--url", f"{url}/v1", "--out", str(folder))
    done = subprocess.run(
        [*COMMAND, "run", *where, "--jobs", "3", "--processes", "1", str(SUITE)],
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        env=os.environ | {"REALTIME_TEMPERATURE": "0", **environ},
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    results, damaged = read_results(folder / "results.jsonl")
    assert damaged == 0
    assert done.returncode == (0 if {result.status for result in results} == {"passed"} else 1), done.stderr
    return {result.case: result for result in results}


def test_the_scenarios_are_green(url: str, tmp_path: Path) -> None:
    results = played(url, tmp_path / "run")
    wrong = {
        name: [check.message for check in result.checks if not check.ok] or str(result.fault)
        for name, result in results.items()
        if result.status != "passed"
    }
    assert wrong == {}
    assert set(results) == {"fact", "memory", "streaming", "cancel", "length limit"}
    for result in results.values():
        assert result.checks
        assert (tmp_path / "run" / result.recording / "session.json").is_file()


def test_the_scenarios_are_red_when_the_model_answers_otherwise(url: str, tmp_path: Path) -> None:
    """The same model, whose words are changed on the way, and which does not stream."""
    lies = tmp_path / "lies.py"
    lies.write_text(LIES, encoding="utf-8")
    environ = {"FILTER": str(lies), "STREAMING": "false", "MAX_OUTPUT_TOKENS": "24"}
    results = played(url, tmp_path / "run", **{f"REALTIME_{name}": value for name, value in environ.items()})
    failed = {name: {check.kind for check in result.checks if not check.ok} for name, result in results.items()}
    assert failed == {
        "fact": {"contains", "lacks"},
        "memory": {"contains"},
        "streaming": {"interrupted", "status"},
        "cancel": {"contains"},
        "length limit": {"lacks"},
    }
