"""Text models on the command line: one turn, conversations in a terminal and piped, and how each failure ends."""

from __future__ import annotations

import base64
import json
import re
import socket
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cli_helpers import Terminal, realtime
from text_server import (
    Request,
    Script,
    TextServer,
    answers,
    by_path,
    delta,
    drops,
    ends,
    in_turn,
    refuses,
    sse,
    stream,
)

from realtime_client import errors, logs
from realtime_client.chat.limits import ChatLimits
from realtime_client.cli import exit_code, main
from realtime_client.cli.images import MOST_BYTES, read_image
from realtime_client.cli.line_screen import LineScreen
from realtime_client.errors import UsageError
from realtime_client.settings import SPECS

KEY = "sk-0123456789abcdefghij"
QUICK = ("--no-record", "-q", "--request-retries", "1", "--retry-delay", "0.01")
IMAGES = {
    "png": b"\x89PNG\r\n\x1a\nrest",
    "jpeg": b"\xff\xd8\xff\xe0rest",
    "gif": b"GIF89arest",
    "webp": b"RIFF\x04\0\0\0WEBPrest",
}


def error(message: str, code: str = "", kind: str = "x") -> dict[str, Any]:
    return {"error": {"message": message, "code": code, "type": kind}}


def say(url: str, *args: str) -> int:
    return main(["say", "Hi?", "--model", "openai/test", "--url", url, *QUICK, *args])


def lines(err: str) -> list[str]:
    return [line for line in err.splitlines() if line.startswith("realtime: ")]


# --- one turn ---------------------------------------------------------------------------------------------------------


def test_one_turn(capsys: pytest.CaptureFixture[str]):
    with TextServer(answers("Hello", " there.")) as server:
        assert say(server.url, "--token", KEY) == 0
    assert capsys.readouterr() == ("Hello there.\n", "")
    (request,) = server.requests
    assert request.path == "/v1/chat/completions"
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.json["messages"] == [{"role": "user", "content": "Hi?"}]


def test_what_is_piped_into_a_chat_is_one_turn():
    with TextServer(answers("Hello.")) as server:
        done = realtime("chat", "--model", "openai/test", "--url", server.url, *QUICK, stdin="One.\nTwo.\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, "Hello.\n", "")
    assert server.requests[0].json["messages"][-1]["content"] == "One.\nTwo."


def test_the_object_of_one_turn(capsys: pytest.CaptureFixture[str]):
    with TextServer(answers("Hello.")) as server:
        assert say(server.url, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["text"], told["status"], told["model"]) == ("Hello.", "completed", "openai/test")
    assert told["usage"] == {
        "input_tokens": 7, "output_tokens": 3, "total_tokens": 10, "input_text": 7, "output_text": 3
    }  # fmt: skip
    assert "sources" not in told
    assert told["timings"]["text_chunks"] == 1


def test_the_object_says_who_went_on(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    with TextServer(stream(delta("One, "), drops)) as first, TextServer(answers("two.")) as second:
        monkeypatch.setenv("OPENAI_BASE_URL", second.url)
        assert say(first.url, "--json", "--fallback", "openai/other") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["text"], told["status"], told["model"]) == ("One, two.", "completed", "openai/other")
    (source,) = told["sources"]
    assert (source["offset"], source["source"]) == (5, "openai/other")
    assert "cut" in source["reason"]


def test_an_object_is_told_of_a_failed_turn_too(capsys: pytest.CaptureFixture[str]):
    with TextServer(stream(delta("Half"), drops)) as server:
        assert say(server.url, "--json") == 4
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert (told["text"], told["status"]) == ("Half", "failed")
    assert len(lines(err)) == 1


def test_images_go_with_the_question(capsys: pytest.CaptureFixture[str]):
    for name, data in IMAGES.items():
        Path(f"a.{name}").write_bytes(data)
    with TextServer(answers("A cat.")) as server:
        args = [arg for name in IMAGES for arg in ("--image", f"a.{name}")]
        assert say(server.url, *args) == 0
    content = server.requests[0].json["messages"][-1]["content"]
    urls = [part["image_url"]["url"] for part in content if part["type"] == "image_url"]
    assert urls == [f"data:image/{kind};base64,{base64.b64encode(data).decode()}" for kind, data in IMAGES.items()]
    assert content[-1] == {"type": "text", "text": "Hi?"}
    assert capsys.readouterr().out == "A cat.\n"


def png() -> bytes:
    """A whole image: one red point."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    head = (1).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0\xff\0\0")) + chunk(b"IEND", b"")
    )


def test_a_realtime_model_is_shown_images_too(capsys: pytest.CaptureFixture[str]):
    Path("a.png").write_bytes(png())
    assert main(["say", "Hi?", "--local", "--text", "-q", "--image", "a.png", "--record-dir", "kept"]) == 0
    (journal,) = Path("kept").glob("*/journal.jsonl")
    assert f'"image_url":"data:image/png;base64,{base64.b64encode(png()).decode()[:40]}' in journal.read_text()
    assert "error" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("none.png", None, "cannot read none.png: No such file or directory"),
        (".", None, "cannot read .: Is a directory"),
        ("text.png", b"no image", "text.png is not an image: it must be PNG, JPEG, GIF or WebP"),
        ("empty.png", b"", "empty.png is not an image"),
        ("large.png", IMAGES["png"] + bytes(MOST_BYTES), "large.png is larger than 5 MiB"),
        ("sound.webp", b"RIFF\x04\0\0\0WAVE", "sound.webp is not an image"),
        ("a\x1b[2J.png", b"", "is not an image"),
    ],
)
def test_files_that_are_no_images(name: str, data: bytes | None, says: str):
    if data is not None:
        Path(name).write_bytes(data)
    with pytest.raises(UsageError) as caught:
        read_image(Path(name))
    assert says in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_the_largest_image():
    Path("a.png").write_bytes((IMAGES["png"] + bytes(MOST_BYTES))[:MOST_BYTES])
    assert read_image(Path("a.png")).startswith("data:image/png;base64,")


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["say", "Hi?", "--model", "openai/test"], "there is no key: set OPENAI_API_KEY"),
        (["say", "Hi?", "--model", "openai/test", "--url", "ws://h/x"], "not a URL of a text model's server"),
        (["say", "Hi?", "--model", "openai/test", "--url", "http://h", "--image", "none.png"], "none.png"),
        (["say", "Hi?", "--model", "openai/test", "--url", "http://h", "--out", "a.wav"], "answers in writing"),
        (["say", "--audio", "a.wav", "--model", "openai/test", "--url", "http://h"], "takes text"),
        (["say", "--audio", "a.wav", "--image", "a.png"], "--image goes with TEXT"),
        (["chat", "--voice", "--model", "openai/test", "--url", "http://h"], "--voice needs a realtime model"),
        (["say", "Hi?", "--model", "openai/test", "--url", "http://h", "--fallback", "gpt"], "gpt: not a text model"),
        (["models", "opnai"], "did you mean openai?"),
    ],
)  # fmt: skip
def test_what_is_refused_before_anything_is_asked(args: list[str], says: str, capsys: pytest.CaptureFixture[str]):
    Path("a.wav").write_bytes(b"")
    assert main(args) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert says in lines(err)[0]


# --- how each failure ends --------------------------------------------------------------------------------------------

FAILURES: dict[str, tuple[Script, int, str, str]] = {
    "bad key": (refuses(401, error("Incorrect API key", "invalid_api_key")), 5, "", "Incorrect API key"),
    "key may not": (refuses(403, b"no"), 5, "", "openai/test: no"),
    "rate limited": (refuses(429, error("slow down"), retry_after="0.01"), 7, "", "the server asks to wait 0.01 s"),
    "for long": (refuses(429, error("slow down"), retry_after="500"), 7, "", "the server asks to wait 500 s"),
    "quota": (refuses(429, error("pay", "insufficient_quota")), 7, "", "pay"),
    "no such model": (refuses(404, error("The model does not exist", "model_not_found")), 3, "", "does not exist"),
    "no such path": (refuses(404, b"<html>no</html>"), 8, "", "HTTP 404"),
    "moved": (refuses(302, location="http://elsewhere/"), 8, "", "has moved to http://elsewhere/"),
    "bad request": (refuses(400, error("bad field")), 1, "", "bad field"),
    "too long": (refuses(400, error("too long", "context_length_exceeded")), 1, "", "too long"),
    "out of order": (refuses(500, b"oops"), 3, "", "oops"),
    "away": (refuses(503, retry_after="0.01"), 3, "", "HTTP 503"),
    "dropped": (drops, 4, "", "the answer was cut"),
    "cut": (stream(delta("Half"), drops), 4, "Half\n", "the answer was cut"),
    "no end": (stream(delta("Half")), 4, "Half\n", "the answer was cut"),
    "error in the stream": (stream(sse(error("overloaded", kind="overloaded_error"))), 3, "", "overloaded"),
    "error in mid-answer": (
        stream(delta("Half"), sse(error("overloaded", kind="overloaded_error"))), 4, "Half\n", "overloaded",
    ),
    "other JSON": (lambda request: request.answer({"hello": 1}), 8, "", "makes no sense"),
    "a page": (lambda request: request.answer(b"<html>", content_type="text/html"), 8, "", "sends no answer, but: <html>"),
    "malformed": (stream(b"data: {oops\n\n"), 8, "", "makes no sense"),
    "malformed in mid-answer": (stream(delta("Half"), b"data: {oops\n\n"), 1, "Half\n", "makes no sense"),
    "empty": (answers(""), 1, "", "openai/test: the answer is empty"),
    "filtered": (answers("Half", finish="content_filter"), 1, "Half\n", "the answer is incomplete: content_filter"),
    "length": (answers("Half", finish="length"), 1, "Half\n", "the answer is incomplete: max_output_tokens"),
    "control characters": (refuses(400, error("\x1b[2J\x07bad\nfield")), 1, "", "bad field"),
}  # fmt: skip


@pytest.mark.parametrize(("script", "code", "printed", "says"), FAILURES.values(), ids=FAILURES)
def test_each_failure_is_one_line_and_a_code(
    script: Script, code: int, printed: str, says: str, capsys: pytest.CaptureFixture[str]
):
    with TextServer(script) as server:
        assert say(server.url) == code
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert out == printed
    assert line.startswith("realtime: ")
    assert says in line
    assert "\x1b" not in line


@pytest.mark.parametrize(
    ("told", "reason"),
    [(error("out of luck", "bad_luck", ""), "bad_luck"), ({"error": {"message": "out of luck"}}, "out of luck")],
    ids=["a code", "words"],
)
def test_the_reason_of_a_failure_is_its_code_or_its_words(told: Any, reason: str, capsys: pytest.CaptureFixture[str]):
    with TextServer(stream(delta("Half"), sse(told))) as server:
        assert say(server.url, "--json", "--request-retries", "0") == 1
    report = json.loads(capsys.readouterr().out)
    assert (report["text"], report["status"], report["reason"]) == ("Half", "failed", reason)


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_what_a_filter_prints_is_no_part_of_the_result(
    more: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    file = tmp_path / "loud.py"
    file.write_text(
        "import sys\nprint('loaded')\ndef filter(text):\n    sys.stdout.write('seen\\n')\n    return text.upper()\n"
    )
    with TextServer(answers("Hello.")) as server:
        assert say(server.url, "--filter", str(file), *more) == 0
    out, err = capsys.readouterr()
    assert (json.loads(out)["text"] if more else out) == ("HELLO." if more else "HELLO.\n")
    assert err == "loaded\nseen\n"


def test_a_dead_host(capsys: pytest.CaptureFixture[str]):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert say(f"http://127.0.0.1:{port}/v1") == 3
    assert f"cannot reach 127.0.0.1:{port}: nothing listens there" in lines(capsys.readouterr().err)[0]


def test_tls_to_a_plain_server(capsys: pytest.CaptureFixture[str]):
    def plain(_request: Request) -> None:
        raise AssertionError("it never comes to a request")

    with TextServer(plain) as server:
        assert say(server.url.replace("http:", "https:")) == 6
    assert "is it a plain http:// server?" in lines(capsys.readouterr().err)[0]


def test_limits_of_time(capsys: pytest.CaptureFixture[str]):
    wait = stream(delta("Half"), lambda request: request.wait_gone())
    with TextServer(wait) as server:
        assert say(server.url, "--stream-timeout", "0.2", "--request-retries", "0") == 1
        assert say(server.url, "--silence-timeout", "0.2", "--request-retries", "0") == 4
        assert say(server.url, "--timeout", "0.3") == 1
    told = lines(capsys.readouterr().err)
    assert ["longer than 0.2 s" in told[0], "was silent for 0.2 s" in told[1], "see --timeout" in told[2]] == [True] * 3


def test_every_error_that_a_fault_can_be_has_its_code():
    """The names in `chat.raising` are classes of `errors`, whose codes one place decides."""
    source = (Path(errors.__file__).parent / "chat" / "raising.py").read_text()
    names = set(re.findall(r'"(\w+Error)"', source))
    kinds = {name: getattr(errors, name)("x") for name in names}
    assert {name: exit_code(kind) for name, kind in kinds.items()} == {
        "ConnectionLostError": 4, "TLSError": 6, "NotRealtimeError": 8, "TimeLimitError": 1, "HostUnreachableError": 3,
        "UsageError": 2, "ResponseFailedError": 1, "AuthenticationError": 5, "RateLimitedError": 7,
        "SessionRefusedError": 3,
    }  # fmt: skip


# --- in a terminal ----------------------------------------------------------------------------------------------------

TALK = ("chat", "--model", "openai/test", "--no-record", "--request-retries", "1", "--retry-delay", "0.01")


def numbered() -> Script:
    """Answers `1: QUESTION`, `2: QUESTION` and so on."""
    count = iter(range(1, 100))

    def script(request: Request) -> None:
        content = request.json["messages"][-1]["content"]
        words = content if isinstance(content, str) else f"{len(content) - 1} images and {content[-1]['text']}"
        answers(f"{next(count)}: ", words + "\nEnd.")(request)

    return script


@pytest.fixture
def talk() -> Iterator[Terminal]:
    """A conversation with a server that numbers its answers."""
    with TextServer(numbered()) as server, Terminal(*TALK, "--url", server.url) as terminal:
        terminal.wait_for("type a line to talk")
        yield terminal
        terminal.type(".quit\r")
        assert terminal.wait_end() == 0


def test_other_answers(talk: Terminal):
    talk.type("Hi?\r")
    talk.wait_for("1: Hi?\nEnd.\n")
    talk.type(".branches\r")
    talk.wait_for("[the last answer stands alone; .retry asks for another one]")
    talk.type(".retry\r")
    talk.wait_for("[2 answers stand here; .branches lists them]")
    talk.type(".branches\r")
    talk.wait_for("  1  1: Hi? ...\n* 2  2: Hi? ...")
    talk.type(".branches 1\r")
    talk.wait_for("[answer 1 stands in the conversation from here on]\n1: Hi?\nEnd.")
    talk.type(".branches\r")
    talk.wait_for("* 1  1: Hi? ...\n  2  2: Hi? ...")
    talk.type(".branches 3\r")
    talk.wait_for("[there are answers 1 to 2, not 3]")
    talk.type(".retry 2\r")
    talk.wait_for("[4 answers stand here; .branches lists them]")
    for line, says in (
        (".retry 0", "[1 to 8 answers can be made at once, not 0]"),
        (".retry many", "[.retry N: N is how many answers to ask for at once]"),
        (".branches x", "[.branches K: K is the number of an answer]"),
        (".brunches", "[there is no command .brunches; did you mean .branches?]"),
    ):
        talk.type(f"{line}\r")
        talk.wait_for(says)


def test_the_last_message_otherwise_and_images(talk: Terminal):
    talk.type(".retry\r")
    talk.wait_for("[nothing was said yet]")
    talk.type("Hi?\r")
    talk.wait_for("1: Hi?\nEnd.\n")
    talk.type(".edit\r")
    talk.wait_for("[.edit TEXT: TEXT is what to say in place of your last message]")
    talk.type(".edit Ho?\r")
    talk.wait_for("> Ho?\n2: Ho?\nEnd.\n")
    Path("a.png").write_bytes(IMAGES["png"])
    Path("b.png").write_bytes(b"none")
    for line, says in (
        (".image", "[.image FILE: FILE is the image to show with your next message]"),
        (".image b.png", "[b.png is not an image: it must be PNG, JPEG, GIF or WebP]"),
        (".image a.png", "[a.png goes with your next message]"),
        (".image a.png", "[2 images go with your next message]"),
        ("See?", "3: 2 images and See?"),
        ("And?", "4: And?"),
    ):
        talk.type(f"{line}\r")
        talk.wait_for(says)


def test_help_and_figures_name_what_this_session_has(talk: Terminal):
    talk.type("Hi?\r")
    talk.wait_for("End.\n")
    talk.type(".help\r")
    shown = talk.wait_for("pressing it twice ends")
    assert all(f"  {name} " in shown for name in (".retry", ".branches", ".edit", ".image"))
    assert ".voice" not in shown
    talk.type(".voice\r")
    talk.wait_for("[openai/test answers in writing: it has no voice]")
    talk.type(".stats\r")
    shown = talk.wait_for("session:")
    assert re.search(r"last stream: +source openai/test, pieces 2, characters 11, first_s \d\.\d+", shown)
    assert "breakers:          openai/test closed" in shown


def test_a_realtime_session_has_none_of_it():
    Path("a.png").write_bytes(png())
    with Terminal("chat", "--local", "--text", "--no-record") as terminal:
        terminal.wait_for("type a line to talk")
        for word in (".retry", ".branches", ".edit"):
            terminal.type(f"{word}\r")
            terminal.wait_for(f"[{word} is for text models: an answer of a realtime model stands as it is]")
        terminal.type(".image a.png\r")
        terminal.wait_for("[a.png goes with your next message]")
        terminal.type("What can you do?\r")
        terminal.wait_for("demo brain")
        terminal.type(".help\r")
        shown = terminal.wait_for("pressing it twice ends")
        assert (".voice" in shown, ".image" in shown, ".retry  " in shown) == (True, True, False)
        terminal.type(".quit\r")
        assert terminal.wait_end() == 0


def test_what_the_model_does_is_told_once_and_dim():
    gate = threading.Event()
    thinks = stream(
        *[delta(None, reasoning_content="hm ") for _ in range(50)], gate, delta("\x1b[2JTwo."), delta(" Three."), ends()
    )
    with TextServer(thinks) as server, Terminal(*TALK, "--url", server.url) as terminal:
        terminal.wait_for("type a line to talk")
        terminal.type("One?\r")
        terminal.wait_for("[thinking ...]")
        assert "hm" not in terminal.text
        gate.set()
        shown = terminal.wait_for("[2JTwo. Three.\n")
        assert shown.count("[thinking ...]") == 1
        assert b"\x1b[2m[thinking ...]" in terminal.raw
        terminal.type(".quit\r")
        assert terminal.wait_end() == 0


class Loop:
    """What the editor's loop is to a screen. now_s: moved by hand; later: what is due, and in how many seconds."""

    def __init__(self) -> None:
        self.now_s = 10.0
        self.later: list[tuple[float, Any]] = []

    def time(self) -> float:
        return self.now_s

    def call_soon_threadsafe(self, action: Any) -> None:
        action()

    def call_later(self, wait_s: float, action: Any) -> None:
        self.later.append((wait_s, action))


def test_when_a_screen_draws(monkeypatch: pytest.MonkeyPatch):
    screen, loop, drawn = LineScreen(0.5), Loop(), list[str]()
    monkeypatch.setattr(screen, "_loop", loop)
    monkeypatch.setattr(screen, "_app", SimpleNamespace(invalidate=lambda: drawn.append(screen._row)))
    monkeypatch.setattr(screen, "_width", lambda: 80)
    screen.write("One")
    assert drawn == ["One"], "the first piece at once"
    loop.now_s += 0.1
    screen.write(", two")
    screen.write(", three")
    ((wait_s, draw),) = loop.later
    assert (drawn, round(wait_s, 3)) == (["One"], 0.4)
    loop.now_s += 0.4
    draw()
    assert drawn[-1] == "One, two, three"
    loop.now_s += 0.6
    screen.write(".")
    assert drawn[-1] == "One, two, three.", "one that comes late at once, too"


def test_the_first_piece_is_drawn_at_once_and_the_others_seldom():
    gate = threading.Event()
    script = stream(delta("first "), gate, *[delta(f"w{n} ") for n in range(300)], delta("last"), ends())
    with TextServer(script) as server, Terminal(*TALK, "--url", server.url, "--screen-interval", "0.5") as terminal:
        terminal.wait_for("type a line to talk")
        terminal.type("One?\r")
        terminal.wait_for("\nfirst")
        size = len(terminal.raw)
        gate.set()
        terminal.wait_for("last\n")
        assert len(terminal.raw) - size < 5_000  # what 300 drawings take is more than ten times that
        terminal.type(".quit\r")
        assert terminal.wait_end() == 0


def test_what_is_typed_while_no_model_answers_is_kept_and_sent_later():
    busy = refuses(503, error("overloaded \x1b[31m"))
    with TextServer(busy, busy, answers("Here I am.")) as server, Terminal(*TALK, "--url", server.url) as terminal:
        terminal.wait_for("type a line to talk")
        terminal.type("One?\r")
        terminal.wait_for("[openai/test: overloaded [31m; asking again at once]")
        terminal.wait_for("[the answer failed: overloaded [31m]")
        terminal.wait_for("[what you said is kept; it is sent when a model answers again]")
        terminal.type("Two?\r")
        terminal.wait_for("Here I am.")
        asked = [message["content"] for message in server.requests[2].json["messages"]]
        assert asked == ["One?", "Two?"]
        terminal.type(".quit\r")
        assert terminal.wait_end() == 0


def test_what_is_refused_is_taken_back_and_can_be_said_otherwise():
    with TextServer(refuses(400, error("bad")), answers("Good.")) as server:
        with Terminal(*TALK, "--url", server.url) as terminal:
            terminal.wait_for("type a line to talk")
            terminal.type("One?\r")
            terminal.wait_for("[the answer failed: bad]")
            terminal.wait_for("[what you said is taken back; .retry asks again, .edit TEXT says it otherwise]")
            assert "the server reports" not in terminal.text
            terminal.type(".edit Two?\r")
            terminal.wait_for("Good.")
            terminal.type(".quit\r")
            assert terminal.wait_end() == 0
    assert [message["content"] for message in server.requests[1].json["messages"]] == ["Two?"]


def test_who_goes_on_is_shown_where_it_does():
    gate = threading.Event()
    with TextServer(stream(delta("One, "), drops)) as first, TextServer(stream(gate, delta("two."), ends())) as second:
        args = (*TALK, "--url", first.url, "--fallback", "openai/other")
        with Terminal(*args, columns=120, OPENAI_BASE_URL=second.url) as terminal:
            terminal.wait_for("type a line to talk")
            terminal.type("Count.\r")
            terminal.wait_for("going on with openai/other]")
            gate.set()
            shown = terminal.wait_for("two.\n")
            assert re.search(r"One,\n\[openai/test: the answer was cut[^]]*]\ntwo\.", shown)
            terminal.type(".quit\r")
            assert terminal.wait_end() == 0


def test_a_breaker_that_opens_is_told():
    with TextServer(refuses(500, error("oops"))) as server:
        with Terminal(*TALK, "--url", server.url, "--request-retries", "8") as terminal:
            terminal.wait_for("type a line to talk")
            terminal.type("One?\r")
            terminal.wait_for("[openai/test is left alone for a while: oops]")
            terminal.type(".stats\r")
            shown = terminal.wait_for("breakers:          openai/test open (oops)")
            assert re.search(r"text models: +requests \d, retries \d", shown)
            terminal.type(".quit\r")
            assert terminal.wait_end() == 0


def test_ctrl_c_stops_the_answer_and_the_server_sees_it():
    wait = stream(delta("Half"), lambda request: request.wait_gone())
    with TextServer(wait) as server, Terminal(*TALK, "--url", server.url) as terminal:
        terminal.wait_for("type a line to talk")
        terminal.type("One?\r")
        terminal.wait_for("Half")
        terminal.type("\x03")
        terminal.wait_for("[interrupted]")
        assert server.requests[0].gone.wait(10)
        terminal.type(".quit\r")
        assert terminal.wait_end() == 0


# --- figures and logs -------------------------------------------------------------------------------------------------


def test_figures_of_one_turn_with_v_and_in_the_recording(capsys: pytest.CaptureFixture[str]):
    script = in_turn(refuses(503), answers("Hello", " there."))
    with TextServer(script) as server:
        args = ["--model", "openai/test", "--url", server.url, "--record-dir", "kept", "--retry-delay", "0.01"]
        assert main(["say", "Hi?", *args, "-v"]) == 0
    err = capsys.readouterr().err
    assert re.search(r"last stream: +source openai/test, pieces 2, .*tokens 3, .*pieces_each_second 2\n", err)
    assert re.search(r"text models: +requests 2, retries 1\n", err)
    (file,) = Path("kept").glob("*/session.json")
    text = json.loads(file.read_text())["stats"]["text"]
    assert (text["requests"], text["retries"], text["fallbacks"], len(text["streams"])) == (2, 1, 0, 2)
    assert text["breakers"] == {"openai/test": {"state": "closed"}}


def test_a_realtime_session_has_no_figures_of_text_models():
    assert main(["say", "Hi?", "--local", "--text", "-q", "--record-dir", "kept"]) == 0
    (file,) = Path("kept").glob("*/session.json")
    assert "text" not in json.loads(file.read_text())["stats"]


def test_the_chat_room_logs_what_it_does_without_keys_and_texts(capsys: pytest.CaptureFixture[str]):
    script = in_turn(refuses(503, error(f"no {KEY} please")), answers("Secret answer."))
    with TextServer(script) as server:
        args = ["--token", KEY, "--log-level", "chat=info", "--log-json", "--instructions", "Secret order."]
        assert say(server.url, *args) == 0
    err = capsys.readouterr().err
    told = [json.loads(line) for line in err.splitlines() if line.startswith("{")]
    assert [each["event"] for each in told] == ["request", "fault", "stream", "request", "stream"]
    assert {each["logger"] for each in told} == {"realtime_client.chat"}
    assert (told[0]["source"], told[0]["host"], told[0]["entries"]) == ("openai/test", server.host, 1)
    assert (told[1]["action"], told[1]["status"], told[1]["category"]) == ("retry", 503, "application")
    assert KEY not in err
    assert "Secret" not in err
    assert "Hi?" not in err


@pytest.mark.parametrize(
    ("text", "least", "rooms"),
    [
        ("info", "info", {}),
        ("chat=debug", "warning", {"chat": "debug"}),
        ("error, chat=debug,session=info", "error", {"chat": "debug", "session": "info"}),
    ],
)
def test_levels_by_room(text: str, least: str, rooms: dict[str, str]):
    assert logs.levels(text) == (least, rooms)


@pytest.mark.parametrize(
    "text", ["", "loud", "chat", "chat=", "=info", "chat=loud", "x=info", "info,info", "chat=info,chat=info", "info,"]
)
def test_levels_that_are_none(text: str):
    with pytest.raises(ValueError, match=r"^(must be|names|gives) "):
        logs.levels(text)


def test_a_rooms_level_is_its_own_and_ends_with_the_block(capsys: pytest.CaptureFixture[str]):
    chat, session = logs.Log("chat"), logs.Log("session")
    with logs.configured("error,chat=debug"):
        chat.debug("seen")
        session.warning("unseen")
        assert (chat.wants_debug, session.wants_debug) == (True, False)
    assert not chat.wants_debug
    assert ["seen" in line for line in capsys.readouterr().err.splitlines()] == [True]


def test_all_rooms_that_log_can_be_named():
    files = Path(logs.__file__).parent.rglob("*.py")
    rooms = {room for file in files for room in re.findall(r"= (?:log or )?Log\(\"(\w+)\"\)", file.read_text())}
    assert rooms == set(logs.ROOMS)


# --- what is in force, and whether it works ---------------------------------------------------------------------------

LISTED = {"object": "list", "data": [{"id": "test"}, {"id": "other", "owned_by": "us\x1b[2J"}]}


def test_doctor_asks_for_the_list_of_models_and_nothing_else(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with TextServer(by_path(models=lambda request: request.answer(LISTED))) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        assert main(["doctor", "--model", "openai/test"]) == 0
        assert [(each.method, each.path) for each in server.requests] == [("GET", "/v1/models")]
        out = capsys.readouterr().out
        assert re.search(r"ok +key +openai/test: environment OPENAI_API_KEY\n", out)
        assert re.search(
            rf"ok +model +openai/test: {server.host} lists 2 models, after \d+ ms, this one among them", out
        )
        assert "devices" not in out
        assert KEY not in out
        assert main(["doctor", "--model", "openai/nope"]) == 0
    assert re.search(
        r"warn +model +openai/nope: .* not this one\n +-> `realtime models openai` shows them", capsys.readouterr().out
    )


@pytest.mark.parametrize(
    ("script", "code", "says"),
    [
        (refuses(401, error(f"Incorrect API key: {KEY}")), 5, "Incorrect API key: ***"),
        (refuses(404, b"no"), 8, ": no"),
        (
            lambda request: request.answer(b"<html>", content_type="text/html"),
            8,
            "sends no answer, but: <html>",
        ),
        (drops, 4, "the answer was cut"),
    ],
)
def test_doctor_says_what_is_wrong(script: Script, code: int, says: str, capsys: pytest.CaptureFixture[str]):
    with TextServer(script) as server:
        args = ["--model", "openai/test", "--url", server.url, "--token", KEY]
        assert main(["doctor", *args]) == code
        out = capsys.readouterr().out
        assert says in out
        assert KEY not in out
        assert main(["models", "openai", "--url", server.url]) == code


def test_one_model_of_a_chain_is_enough(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    with TextServer(refuses(500)) as first, TextServer(lambda request: request.answer(LISTED)) as second:
        monkeypatch.setenv("OPENAI_BASE_URL", second.url)
        assert main(["doctor", "--model", "openai/test", "--url", first.url, "--fallback", "openai/other"]) == 0
    out = capsys.readouterr().out
    assert re.search(rf"warn +model +{first.host}: HTTP 500", out)
    assert re.search(rf"ok +model +openai/other: {second.host} lists 2 models", out)


def test_settings_name_the_server_and_the_key(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    args = ["settings", "--model", "openai/test"]
    assert main(args) == 0
    assert re.search(r"talks to +openai/test: there is no key: set OPENAI_API_KEY\nkey +-\n", capsys.readouterr().out)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert main([*args, "--fallback", "openai/other"]) == 0
    out = capsys.readouterr().out
    assert re.match(
        r"talks to +https://api.openai.com/v1 \(with Authorization\)\n"
        r"then to +openai/other at api.openai.com\nkey +environment OPENAI_API_KEY\n", out,
    )  # fmt: skip
    assert main([*args, "--url", "http://user:pass@127.0.0.1:1/v1", "--json"]) == 0
    told = capsys.readouterr().out
    assert json.loads(told)["endpoint"]["url"] == "http://127.0.0.1:1/v1"
    assert "dXNlcjpwYXNz" not in told
    assert KEY not in out + told


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--model", "antropic/x"], "flag --model: there is no provider 'antropic'"),
        (["--fallback", "anthropic/x"], "flag --fallback: anthropic/x: there is no key: set ANTHROPIC_API_KEY"),
        (["--fallback", "ollama/x"], "then to      ollama/x at 127.0.0.1:11434"),
    ],
)
def test_settings_say_what_a_realtime_session_has_of_text_models(
    args: list[str], says: str, capsys: pytest.CaptureFixture[str]
):
    assert main(["settings", *args]) == 0
    assert says in capsys.readouterr().out


def test_models_of_a_provider(capsys: pytest.CaptureFixture[str]):
    with TextServer(lambda request: request.answer(LISTED)) as server:
        assert main(["models", "openai", "--url", server.url]) == 0
        assert capsys.readouterr().out == "openai/test\nopenai/other  us[2J\n"
        assert main(["models", "openai", "--url", server.url, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [each["name"] for each in told["models"]] == ["test", "other"]


def test_a_run_names_the_server(capsys: pytest.CaptureFixture[str]):
    Path("s.yaml").write_text("name: s\nturns:\n  - text: Hi?\n    expect: {contains: Hello}\n")
    with TextServer(answers("Hello.")) as server:
        assert main(["run", "s.yaml", "--model", "openai/test", "--url", server.url, "--out", "run"]) == 0
    assert f"1 case against {server.url}" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["chat", "say", "run", "doctor", "settings"])
def test_help_has_the_flags_of_text_models_in_sections_of_their_own(command: str, capsys: pytest.CaptureFixture[str]):
    assert main([command, "--help"]) == 0
    sections = dict(re.findall(r"^(\w[\w ]*):\n((?:  .*\n?|\n)+)", capsys.readouterr().out, re.MULTILINE))
    flags = {title: set(re.findall(r"^  (--[\w-]+)", text, re.MULTILINE)) for title, text in sections.items()}
    of_runs = set() if command == "run" else {"--filter", "--brain"}  # there the one chooses scenarios
    assert flags["Text models"] == of_runs | {
        "--fallback", "--no-fallback-on-error", "--no-streaming", "--temperature", "--think", "--context"
    }  # fmt: skip
    assert flags["Limits of text models"] == {SPECS[name].flag for name in ChatLimits.__struct_fields__}
    assert "--model" in flags["Session"]
