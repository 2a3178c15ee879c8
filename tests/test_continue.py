"""A recorded session is gone on with: the new one knows what was said, whichever model answers."""

from __future__ import annotations

import asyncio
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from cli_helpers import Terminal
from text_server import TextServer, answers, silent

import realtime_client
from realtime_client import aio, opening
from realtime_client.cli import main
from realtime_client.cli.last_words import last_words
from realtime_client.errors import UsageError
from realtime_client.history import Call, Entry, Result, Text
from realtime_client.recording.carried import read
from realtime_client.recording.catalogue import recordings
from realtime_client.report import write_report
from realtime_client.settings import load_settings

LIMIT_S = 30.0
SAID = ["user: My code word is heron.", "assistant: I will remember heron."]


def values(server: TextServer, base: Path, **more: Any) -> dict[str, Any]:
    return {"model": "openai/test", "url": server.url, "token": "sk-0123456789", "record_dir": str(base), **more}


def asked(server: TextServer, number: int = -1) -> list[str]:
    """What a request told the model."""
    return [f"{m['role']}: {m['content']}" for m in server.requests[number].json["messages"]]


def record(base: Path, **more: Any) -> Path:
    """Record a session with a text model in which a code word was said."""
    with TextServer(answers("I will remember ", "heron.")) as server:
        with realtime_client.connect_text(**values(server, base, **more)) as session:
            session.ask("My code word is heron.", timeout_s=LIMIT_S)
    return recordings(base)[0]


def short(entry: Entry) -> str:
    return f"{entry.role}: {entry.said}"


def info(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "session.json").read_text())


def newest_but(base: Path, *known: Path) -> Path:
    (folder,) = [each for each in recordings(base) if each not in known]
    return folder


# --- text models ------------------------------------------------------------------------------------------------------


def test_another_model_knows_what_was_said(tmp_path: Path) -> None:
    first = record(tmp_path, instructions="Be brief.")
    with TextServer(answers("Heron.")) as server:
        given = values(server, tmp_path, model="openai/other")
        with opening.opened(load_settings(given, arguments=True), continue_from="newest") as held:
            assert held.session.ask("Which one?", timeout_s=LIMIT_S).text == "Heron."
    assert held.greeting.startswith(
        f"continuing {first.name} (2 entries) with openai/other; talking to openai/other at "
    )
    assert asked(server) == ["system: Be brief.", *SAID, "user: Which one?"]
    second = newest_but(tmp_path, first)
    assert (info(second)["continues"], info(first)["continues"]) == (first.name, None)
    lines = [json.loads(line) for line in (second / "transcript.jsonl").read_text().splitlines()]
    assert [(line["who"], line["text"]) for line in lines] == [
        ("note", f"continues {first.name}"), ("user", "Which one?"), ("assistant", "Heron."),
    ]  # fmt: skip
    assert f"· continues {first.name}" in write_report(second).path.read_text()


def test_new_instructions_take_the_place_of_the_old_ones(tmp_path: Path) -> None:
    first = record(tmp_path, instructions="Be brief.")
    with TextServer(answers("Heron.")) as server:
        more = {"instructions": "Be long."}
        with realtime_client.connect_text(**values(server, tmp_path, **more), continue_from=first) as session:
            session.ask("Which one?", timeout_s=LIMIT_S)
    assert asked(server)[0] == "system: Be long."


@pytest.mark.parametrize("cancelled", [False, True])
def test_an_answer_that_another_session_took_back_is_not_told_again(tmp_path: Path, *, cancelled: bool) -> None:
    """Asked again, the last answer of the session before is another one; so it is for the next that goes on."""
    first = record(tmp_path)
    with TextServer(silent if cancelled else answers("As you wish.")) as server:
        with realtime_client.connect_text(**values(server, tmp_path), continue_from=first.name) as session:
            with session.updates(LIMIT_S) as updates:
                session.retry()
                if cancelled:
                    server.request(0)
                    session.cancel()
                while next(updates).kind != "response_done":
                    pass
    second = newest_but(tmp_path, first)
    with TextServer(answers("Yes.")) as server:
        with realtime_client.connect_text(**values(server, tmp_path), continue_from=second.name) as session:
            session.ask("Again?", timeout_s=LIMIT_S)
    assert asked(server) == [SAID[0], SAID[1] if cancelled else "assistant: As you wish.", "user: Again?"]


def test_asyncio_programs_go_on_with_a_session_too(tmp_path: Path) -> None:
    record(tmp_path)

    async def go_on() -> None:
        async with aio.connect_text(**values(server, tmp_path), continue_from="newest") as session:
            await session.ask("Which one?", timeout_s=LIMIT_S)

    with TextServer(answers("Heron.")) as server:
        asyncio.run(go_on())
    assert asked(server) == [*SAID, "user: Which one?"]


@pytest.mark.parametrize(
    ("continue_from", "words"),
    [
        (7, "continue_from=FOLDER"),
        ("nowhere", "there is no recording nowhere in"),
        ("", "Its name is empty"),
        (Path("/nowhere"), "/nowhere is not a recording"),
    ],
)
def test_what_cannot_be_gone_on_with_opens_nothing(tmp_path: Path, continue_from: Any, words: str) -> None:
    first = record(tmp_path)
    with TextServer(answers("No.")) as server:
        with pytest.raises(UsageError, match=re.escape(words)):
            realtime_client.connect_text(**values(server, tmp_path), continue_from=continue_from).__enter__()
    assert not server.requests
    assert recordings(tmp_path) == [first]


# --- realtime models --------------------------------------------------------------------------------------------------


def test_a_text_model_goes_on_with_a_realtime_session(tmp_path: Path) -> None:
    with realtime_client.connect(local=True, record_dir=str(tmp_path)) as session:
        answer = session.ask("My code word is heron.", timeout_s=LIMIT_S)
    with TextServer(answers("Heron.")) as server:
        with realtime_client.connect_text(**values(server, tmp_path), continue_from="newest") as chat:
            chat.ask("Which one?", timeout_s=LIMIT_S)
    assert asked(server) == ["user: My code word is heron.", f"assistant: {answer.text}", "user: Which one?"]


def test_a_realtime_model_knows_what_was_said_to_a_text_model(tmp_path: Path) -> None:
    first = record(tmp_path, instructions="Be brief.")
    with TextServer(answers("Heron.")) as server:
        brain = {"local": True, "brain": "openai/test", "base_url": server.url, "api_key": "sk-0123456789"}
        given = load_settings({**brain, "record_dir": str(tmp_path)}, arguments=True)
        with opening.opened(given, continue_from="newest") as held:
            assert held.session.ask("Which one?", timeout_s=LIMIT_S).text == "Heron."
    told = asked(server)
    assert [each for each in told if not each.startswith("system: ")] == [*SAID, "user: Which one?"]
    assert told[0].startswith("system: Be brief.")
    assert held.greeting.startswith(f"continuing {first.name} (2 entries) with ")
    second = newest_but(tmp_path, first)
    lines = [json.loads(line) for line in (second / "transcript.jsonl").read_text().splitlines()]
    assert [(line["who"], line["text"]) for line in lines] == [
        ("note", f"continues {first.name}"), ("user", "Which one?"), ("assistant", "Heron."),
    ]  # fmt: skip
    assert [*map(short, read(second).entries)] == [*SAID, "user: Which one?", "assistant: Heron."]


class ToldError(Exception):
    """Ends the opening of a session, once it is known what its client gets."""

    def __init__(self, given: dict[str, Any]) -> None:
        super().__init__("told")
        self.given = given


@pytest.mark.parametrize("fallback", [None, "openai/other"])
def test_a_realtime_client_gets_what_was_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fallback: str | None
) -> None:
    record(tmp_path, instructions="Be brief.")

    def made(*_: Any, **given: Any) -> None:
        raise ToldError(given)

    monkeypatch.setattr(
        "realtime_client.handover.StandbyClient" if fallback else "realtime_client.opening.RealtimeClient", made
    )
    more = {"fallback": fallback, "api_key": "sk-0123456789"} if fallback else {}
    for continue_from, expected in (("newest", SAID), (None, None)):
        with pytest.raises(ToldError) as told:
            realtime_client.connect(
                local=True, record_dir=str(tmp_path), continue_from=continue_from, **more
            ).__enter__()
        given = told.value.given
        given["recorder"].close(ended="closed", stats={})
        if expected is None:
            assert "told" not in given
            continue
        assert [*map(short, given["told"])] == expected
        assert given["session"].to_wire()["instructions"] == "Be brief."
        assert info(given["recorder"].folder)["continues"] == recordings(tmp_path)[-1].name


# --- the command line -------------------------------------------------------------------------------------------------


def entry(role: str, *parts: Any) -> Entry:
    return Entry(id="x", role=role, parts=tuple(Text(text=part) if isinstance(part, str) else part for part in parts))


@pytest.mark.parametrize(
    ("entries", "lines"),
    [
        ([], []),
        ([entry("assistant", "Hello.")], ["Hello."]),
        (
            [
                entry("user", "A"),
                entry("assistant", "B"),
                entry("user", "C"),
                entry("assistant", "D"),
                entry("user", "E"),
            ],
            ["> C", "D", "> E"],
        ),
        (
            [
                entry("user", "A"),
                entry("assistant", Call(call_id="c", name="n", arguments="{}")),
                entry("tool", Result(call_id="c", output="o")),
                entry("system", "s"),
                entry("assistant", "B"),
            ],
            ["> A", "B"],
        ),
        ([entry("user", "x" * 1_000)], ["> " + "x" * 299 + "…"]),
        ([entry("user", "a\x1b[2J\nb\u202e")], ["> a[2J b"]),
        ([entry("user", "A"), *[entry("assistant", str(n)) for n in range(20)]], [str(n) for n in range(12, 20)]),
    ],
)
def test_the_screen_shows_where_the_talk_stood(entries: list[Entry], lines: list[str]) -> None:
    assert last_words(entries) == lines


def flags(server: TextServer, base: Path) -> tuple[str, ...]:
    return ("--model", "openai/test", "--url", server.url, "--record-dir", str(base))


def test_a_chat_goes_on(tmp_path: Path) -> None:
    first = record(tmp_path)
    with TextServer(answers("Heron.")) as server:
        with Terminal("chat", *flags(server, tmp_path), "--continue", OPENAI_API_KEY="sk-0123456789") as terminal:
            terminal.wait_for(f"continuing {first.name}")
            terminal.wait_for("> My code word is heron.")
            terminal.wait_for("I will remember heron.")
            terminal.type("Which one?\r")
            terminal.wait_for("\nHeron.")
            terminal.type(".quit\r")
            assert terminal.wait_end() == 0
    assert asked(server) == [*SAID, "user: Which one?"]


@pytest.mark.parametrize(
    "args",
    [
        ("chat", "--continue", "--text"),
        ("chat", "--text", "--continue"),
        ("chat", "--continue", "2"),
        ("chat", "--continue=newest"),
        ("say", "--continue", "newest"),
    ],
)
def test_a_piped_question_goes_on(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    args: tuple[str, ...],
) -> None:
    first = record(tmp_path)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"Which one?")))
    with TextServer(answers("Heron.")) as server:
        assert main([args[0], *flags(server, tmp_path), "--token", "sk-0123456789", *args[1:]]) == 0
    shown = capsys.readouterr()
    assert shown.out == "Heron.\n"
    assert f"continuing {first.name} (2 entries) with openai/test; " in shown.err
    assert asked(server) == [*SAID, "user: Which one?"]


@pytest.mark.parametrize("continue_from", [("--continue",), ("--continue", "yesterday")])
def test_a_chat_that_cannot_go_on_says_so_in_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    continue_from: tuple[str, ...],
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"Hi")))
    assert main(["chat", "--local", "--record-dir", str(tmp_path), *continue_from]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    (line,) = shown.err.splitlines()
    assert line.startswith("realtime: ")
    assert "there is no recording" in line
    assert not list(tmp_path.iterdir())
