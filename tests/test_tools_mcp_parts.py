"""The parts of MCP that compute: what a server is, arguments by a stranger's schema, lines, results as text; the command."""

from __future__ import annotations

import json
import random
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from mcp_helpers import WAIT_S, Journal, ends, typed
from mcp_types import CallToolResult

from realtime_client.cli import main
from realtime_client.errors import UsageError
from realtime_client.tools.mcp.arguments import Arguments
from realtime_client.tools.mcp.content import MOST_CHARACTERS, description, output_of
from realtime_client.tools.mcp.lines import Lines, Overlong
from realtime_client.tools.mcp.spec import McpServerSpec, name_of, server_specs
from realtime_client.tools.tool import BadArgumentsError

# --- what a server is -------------------------------------------------------------------------------------------------

NAMES = {
    "uvx mcp-server-time --local-timezone Europe/Oslo": "time",
    "uvx --from git+https://example.org/y mcp-thing": "thing",
    "npx -y @modelcontextprotocol/server-everything@2026.8.31 stdio": "everything",
    "npx -y @scope/pkg@1.2": "pkg",
    "node /x/node_modules/@modelcontextprotocol/server-everything/dist/index.js stdio": "everything",
    "python -m mcp_server_git --repository x": "git",
    "python3.12 notes.py": "notes",
    "python server.py": "server",
    "/usr/local/bin/foo-mcp --x": "foo",
    "docker run -i --rm -e X mcp/time:latest": "time",
    "/": "server",
    "uv run mcp": "mcp",
    "\u00fc\u00fc": "server",
}


@pytest.mark.parametrize(("command", "name"), NAMES.items())
def test_a_name_is_made_of_the_command(command: str, name: str):
    assert name_of(command.split()) == name


def test_flags_and_sections_together():
    section = {
        "command": ["uvx", "mcp-server-time"],
        "args": ["--local-timezone", "Europe/Oslo"],
        "env": ["TZ"],
        "cwd": "/tmp",
        "timeout": 5,
        "start_timeout": 2.5,
        "approve": "always",
    }
    web = {"url": "https://mcp.example.org/v1?key=0123456789#top", "headers": {"Authorization": "Bearer abcdefghij"}}
    flags = ["uvx mcp-server-time", " 'a b' c", "HTTP://127.0.0.1:8000/mcp", "http://10.0.0.1/mcp"]
    time_, remote, *rest = server_specs(flags, {"time": section, "remote": web})
    assert time_.command == ("uvx", "mcp-server-time", "--local-timezone", "Europe/Oslo")
    assert (time_.env, time_.cwd, time_.timeout_s, time_.start_timeout_s) == (("TZ",), "/tmp", 5.0, 2.5)
    assert time_.approve == "always"
    assert remote.url == "https://mcp.example.org/v1?key=0123456789"
    assert remote.shown == "https://mcp.example.org/v1?key=***"
    assert set(remote.secrets) == {"Bearer abcdefghij", "0123456789"}
    assert [each.name for each in rest] == ["time-2", "a-b", "127-0-0-1", "10-0-0-1"]
    assert rest[1].command == ("a b", "c")
    assert rest[3].shown == "http://10.0.0.1/mcp (not encrypted)"
    assert "abcdefghij" not in repr((time_, remote))


def test_a_command_of_one_text_is_split_and_its_secrets_are_not_shown():
    (spec,) = server_specs([], {"x": {"command": "tool --api-key abc --token=def --url https://u:p@h/ ok"}})
    assert spec.command[2] == "abc"
    assert spec.shown == "tool --api-key '***' '--token=***' --url 'https://***@h/' ok"


BAD_FLAGS = {
    "": "--mcp: it is a text, and not an empty one",
    "'": "cannot be split into words: No closing quotation",
    "ftp://x": "'ftp://x' is no URL of a server: http://HOST or https://HOST",
    "https://": "is no URL of a server",
    "http://h:99999/": "is no URL of a server",
    "''": "--mcp: it needs a command",
}
BAD_SECTIONS: dict[str, tuple[Any, str]] = {
    "no section": ("uvx x", "[mcp.x]: a server is a section with a command or a url"),
    "nothing": ({}, "[mcp.x]: it needs a command, or a url, and not both"),
    "both": ({"command": "a", "url": "http://h"}, "it needs a command, or a url, and not both"),
    "unknown": ({"command": "a", "comand": "b"}, "there is no key 'comand'; the keys are command, url, args, env"),
    "args of a url": ({"url": "http://h", "args": []}, "args is nothing for a server with a url"),
    "headers of a command": ({"command": "a", "headers": {}}, "headers is nothing for a server with a command"),
    "a number": ({"command": 3}, "[mcp.x] command: it is a list of texts"),
    "a number in it": ({"command": ["a", 3]}, "[mcp.x] command: it is a text"),
    "an empty list": ({"command": []}, "[mcp.x] command: it is a list of texts"),
    "nul": ({"command": "a\0b"}, "[mcp.x]: it is a text"),
    "env with a value": ({"command": "a", "env": ["K=sk-1"]}, "'K' is no name of a variable; values stand in the env"),
    "env as a table": ({"command": "a", "env": {"K": "v"}}, "[mcp.x] env: it is a list of texts"),
    "a header with a line": ({"url": "http://h", "headers": {"A": "b\r\nC: d"}}, "'A' cannot be sent as a header"),
    "headers as a list": ({"url": "http://h", "headers": ["A=b"]}, "it is a table of names and texts"),
    "no time": ({"command": "a", "timeout": 0}, "[mcp.x] timeout: it is a number of seconds, more than 0"),
    "a true time": ({"command": "a", "timeout": True}, "it is a number of seconds"),
    "approve": ({"command": "a", "approve": "yes"}, "[mcp.x] approve: it is one of ask, always, never"),
}


@pytest.mark.parametrize(("text", "says"), BAD_FLAGS.items())
def test_a_bad_flag_is_one_line(text: str, says: str):
    with pytest.raises(UsageError) as caught:
        server_specs([text])
    assert says in str(caught.value)


@pytest.mark.parametrize(("content", "says"), BAD_SECTIONS.values(), ids=BAD_SECTIONS)
def test_a_bad_section_is_one_line(content: Any, says: str):
    with pytest.raises(UsageError) as caught:
        server_specs([], {"x": content})
    assert says in str(caught.value)
    assert "sk-1" not in str(caught.value)


def test_the_name_of_a_section_has_a_form():
    with pytest.raises(UsageError, match=r"\[mcp.a b\]: the name of a server is of letters"):
        server_specs([], {"a b": {"command": "x"}})


# --- arguments --------------------------------------------------------------------------------------------------------

FORECAST = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "minLength": 1},
        "days": {"type": "integer", "minimum": 1, "maximum": 10},
        "unit": {"$ref": "#/$defs/unit"},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["city"],
    "additionalProperties": False,
    "$defs": {"unit": {"enum": ["c", "f"]}},
}
BAD = {
    "": "$: 'city' is a required property",
    "[1]": "the arguments must be one JSON object",
    "null": "the arguments must be one JSON object",
    '{"city": "x"': "the arguments are no valid JSON: Input data was truncated",
    '{"city": NaN}': "the arguments are no valid JSON",
    '{"city": "\ud800"}': "the arguments are no valid JSON",
    '{"a":' * 5_000: "the arguments are no valid JSON",
    '{"city": "x", "days": 99}': "$.days: 99 is greater than the maximum of 10",
    '{"city": "x", "days": "3"}': "$.days: '3' is not of type 'integer'",
    '{"city": "x", "unit": "k"}': "$.unit: 'k' is not one of ['c', 'f']",
    '{"city": "x", "tags": ["a", 1]}': "$.tags[1]: 1 is not of type 'string'",
    '{"city": "x", "town": "y"}': "$: Additional properties are not allowed ('town' was unexpected)",
}


@pytest.mark.parametrize(("text", "says"), BAD.items(), ids=range(len(BAD)))
def test_bad_arguments_are_words_for_the_model(text: str, says: str):
    with pytest.raises(BadArgumentsError) as caught:
        Arguments("forecast", FORECAST).judged(text)
    assert says in str(caught.value)
    assert len(str(caught.value)) < 500


def test_good_arguments_are_returned():
    good = {"city": "Troms\u00f8", "days": 3, "unit": "c", "tags": []}
    assert Arguments("forecast", FORECAST).judged(json.dumps(good)) == good
    assert Arguments("none", {}).judged(" \n") == {}


def doubling(depth: int) -> dict[str, Any]:
    """A schema that is small and takes 2 ** depth steps."""
    steps = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(depth)}
    return {"$ref": "#/$defs/d0", "$defs": steps | {f"d{depth}": {"type": "object"}}}


STRANGE: dict[str, dict[str, Any]] = {
    "doubling": doubling(40),
    "itself": {"$ref": "#"},
    "elsewhere": {"$ref": "http://192.0.2.1/schema.json"},
    "elsewhere by id": {"$id": "http://192.0.2.1/a", "properties": {"a": {"$ref": "b"}}},
    "a slow pattern": {"properties": {"a": {"pattern": "(a+)+$"}}},
    "slow names": {"patternProperties": {"(a+)+$": {"type": "string"}}, "additionalProperties": False},
    "senseless type": {"type": 5},
    "senseless required": {"required": "abc"},
    "senseless enum": {"properties": {"a": {"enum": "xyz"}}},
    "senseless properties": {"properties": ["a"]},
    "senseless items": {"properties": {"l": {"items": [{"type": "string"}]}}},
    "by nought": {"properties": {"b": {"multipleOf": 0}}},
    "draft of nobody": {"$schema": ["http://x"], "$dynamicRef": "#x"},
    "unique": {"properties": {"l": {"uniqueItems": True}}},
}


@pytest.mark.parametrize("schema", STRANGE.values(), ids=STRANGE)
def test_a_strange_schema_takes_little_time_and_refuses_nothing(schema: dict[str, Any]):
    arguments = {"a" * 40 + "!": "x", "a": "a" * 40 + "!", "b": 3, "l": [*([{}, 0, ""] * 2_000)]}
    began = time.process_time()
    assert Arguments("strange", schema).judged(json.dumps(arguments)) == arguments
    assert time.process_time() - began < 2.0


@pytest.mark.parametrize("draft", ["04", "06", "07"])
def test_a_schema_may_be_of_an_older_draft(draft: str):
    schema = {"$schema": f"http://json-schema.org/draft-{draft}/schema#", "properties": {"a": {"type": "integer"}}}
    with pytest.raises(BadArgumentsError):
        Arguments("old", schema).judged('{"a": "x"}')


def test_mutated_arguments_never_crash_and_never_pass_unjudged():
    judge, random_ = Arguments("forecast", FORECAST), random.Random(7)
    good = '{"city": "Troms\u00f8", "days": 3, "unit": "c", "tags": ["a", "b"]}'
    passed = 0
    for _ in range(5_000):
        text = list(good)
        for _ in range(random_.randint(1, 4)):
            at = random_.randrange(len(text))
            text[at : at + random_.randint(0, 3)] = random_.choice(
                ('"', "{", "}", ",", "\\", "0", "-", "\ud83d", "e", "")
            )
        try:
            value = judge.judged("".join(text))
        except BadArgumentsError:
            continue
        passed += 1
        assert isinstance(value["city"], str)
        assert 1 <= value.get("days", 1) <= 10
    assert 0 < passed < 3_000


# --- lines and results ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 3, 7, 1_000])
def test_lines_come_out_as_they_went_in_however_they_are_cut(size: int):
    data, lines = b"one\r\n\ntwo \xff\nrest", Lines(100)
    found = [line for at in range(0, len(data), size) for line in lines.feed(data[at : at + size])]
    assert found + lines.end() == [b"one", b"", b"two \xff", b"rest"]
    assert lines.end() == []


@pytest.mark.parametrize(
    ("head", "tail", "answers"),
    [
        (b'{"jsonrpc":"2.0","id":7,"result":"', b'"}', 7),
        (b'{"result":"', b'","jsonrpc":"2.0","id":"x1"}', "x1"),
        (b'{"method":"', b'"}', None),
    ],
)
def test_a_line_too_long_is_let_go_and_says_what_it_answers(head: bytes, tail: bytes, answers: object):
    lines = Lines(10_000)
    found: list[Any] = []
    data = head + b"x" * 1_000_000 + tail + b"\nnext\n"
    for at in range(0, len(data), 4_096):
        found += lines.feed(data[at : at + 4_096])
    long, short = found
    assert isinstance(long, Overlong)
    assert (long.size, long.answers, short) == (len(data) - 6, answers, b"next")


def result(*content: dict[str, Any], **more: Any) -> CallToolResult:
    return CallToolResult.model_validate({"content": list(content), **more})


RESULTS = {
    "texts": (result({"type": "text", "text": "a"}, {"type": "text", "text": "b\n"}), "a\nb\n"),
    "nothing": (result(), ""),
    "structure": (result(structuredContent={"a": "\u00e9"}), '{"a": "\u00e9"}'),
    "text and structure": (result({"type": "text", "text": "t"}, structuredContent={"a": 1}), "t"),
    "image": (
        result({"type": "image", "data": "AAAA" * 500, "mimeType": "image/png\x1b"}),
        "[image, image/png, 1,500 bytes]",
    ),
    "audio": (result({"type": "audio", "data": "AAA=", "mimeType": "audio/wav"}), "[audio, audio/wav, 2 bytes]"),
    "link": (
        result({"type": "resource_link", "uri": "f:x", "name": "n", "size": 9, "description": "d\nd"}),
        "[resource, 9 bytes, f:x, d d]",
    ),
    "held text": (
        result({"type": "resource", "resource": {"uri": "f:x", "mimeType": "text/plain", "text": "held"}}),
        "[resource, text/plain, f:x]\nheld",
    ),
    "held bytes": (
        result({"type": "resource", "resource": {"uri": "f:x", "blob": "AAAA"}}),
        "[resource, 3 bytes, f:x]",
    ),
}


@pytest.mark.parametrize(("given", "output"), RESULTS.values(), ids=RESULTS)
def test_a_result_is_text(given: CallToolResult, output: str):
    assert output_of(given) == output


def test_a_result_and_a_description_are_bounded():
    many = result(*({"type": "text", "text": "x" * 400_000} for _ in range(5)))
    assert len(output_of(many)) == MOST_CHARACTERS
    assert len(output_of(result(structuredContent={"a": "x" * 2_000_000}))) == MOST_CHARACTERS
    assert description("a\x1b[2J\u202e" + "b" * 9_000, 10) == "a[2Jbbbbb\u2026"
    assert description(None) == ""


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command_lists_what_servers_offer(capsys: pytest.CaptureFixture[str]):
    assert main(["tools", "--mcp", typed("reads"), "--mcp", typed("hostile")]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0].startswith("mcp-server: ")
    assert "  prompt p[2J(a)  d" in lines
    assert "  mcp-server-2_echo()" in lines, "names are those that the model sees"
    assert "  reads()  only reads:" in lines or "  mcp-server-2_reads()  only reads:" in lines
    assert "tools, 0 resources, 2 prompts" in err
    assert "\x1b" not in out


def test_the_command_for_programs(capsys: pytest.CaptureFixture[str]):
    assert main(["tools", "--json", "--mcp", typed("echo2")]) == 0
    (server,) = json.loads(capsys.readouterr().out)["servers"]
    assert (server["name"], [tool["name"] for tool in server["tools"]]) == ("mcp-server", ["echo", "echo2"])
    assert server["tools"][0] == {"name": "echo", "description": "", "reads": False, "parameters": {"type": "object"}}
    assert server["prompts"] == [{"name": "p[2J", "description": "d", "arguments": ["a"]}]


def test_the_command_lists_what_files_and_settings_offer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    mine = tmp_path / "mine.py"
    mine.write_text(
        "from realtime_client.tools import tool\n@tool(reads=True)\ndef echo(a: int, b: int = 1) -> int:\n"
        "    'Add.'\n    print('ran')\n    return a\nprint('loaded')\n"
    )
    config = tmp_path / "config.toml"
    command = shlex.split(typed("echo2"))
    config.write_text(f"tool_files = [{json.dumps(str(mine))}]\n[mcp.two]\ncommand = {json.dumps(command)}\n")
    monkeypatch.setenv("REALTIME_CONFIG", str(config))
    assert main(["tools"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[:2] == [str(mine), "  echo(a, [b])  only reads: Add."]
    assert [line.split("(")[0] for line in out.splitlines()[3:5]] == ["  two_echo", "  echo2"]
    assert (err.splitlines()[0], err.splitlines()[-1]) == ("loaded", "3 tools, 0 resources, 1 prompts")
    assert main(["tools", "--json", "--mcp", "none"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["servers"] == []
    (file,) = found["files"]
    assert (file["name"], file["file"], [each["name"] for each in file["tools"]]) == ("mine.py", str(mine), ["echo"])


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("--tools", "none.py"), 2, "none.py: there is no such file"),
        ((), 2, "there are no tools; name some: --tools FILE.py"),
        (("--mcp", "no-such-mcp"), 2, "there is no program no-such-mcp"),
        (("--mcp", "EXITS"), 3, "it printed: first line / [31mno database"),
        (("--mcp", "http://127.0.0.1:9/mcp"), 3, "cannot be reached"),
    ],
)
def test_the_commands_errors(arguments: tuple[str, ...], code: int, says: str, capsys: pytest.CaptureFixture[str]):
    assert main(["tools", *(typed("exits") if word == "EXITS" else word for word in arguments)]) == code
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)
    assert says in err


def test_ctrl_c_leaves_nothing_behind(tmp_path: Path):
    journal = Journal(tmp_path)
    command = [
        sys.executable,
        "-m",
        "realtime_client",
        "tools",
        "--mcp",
        typed("silent", "--journal", str(journal.path)),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    pid = int(journal.wait_for("start").split()[1])
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=WAIT_S)
    assert (process.returncode, out, err) == (130, b"", b"")
    assert ends(pid)
    journal.close()


def test_a_server_is_a_command_or_a_url_and_says_which():
    assert McpServerSpec(name="x", command=("a", "b\n")).shown == "a 'b '"
    assert McpServerSpec(name="x", url="http://[::1]:1/").shown == "http://[::1]:1/"
