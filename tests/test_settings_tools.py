"""The settings of tools: lists and tables from every source, what is shown of them, and what stays secret."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from cli_helpers import realtime

from realtime_client.errors import UsageError
from realtime_client.recording.folder import SESSION
from realtime_client.session.limits import ToolLimits
from realtime_client.settings import SPECS, Settings, config_path, load_settings
from realtime_client.settings.tool_settings import server_specs
from realtime_client.toolset import tool_policy

KEY = "sk-abcdefghijklmnop-1234"
CONFIG = f"""
tool_files = ["weather.py", "~/mail.py"]
mcp_env = ["LANG"]
approve = ["time/*=always", "never"]
tool_timeout_s = 5

[mcp.time]
command = "uvx"
args = ["mcp-server-time"]
env = ["LANG", "TIME_API_KEY"]
timeout = 3

[mcp.wiki]
url = "https://wiki.example/mcp?key={KEY}"
headers = {{ Authorization = "Bearer {KEY}" }}
approve = "always"
"""


def config(text: str) -> Path:
    path = config_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("name", "raw", "value"),
    [
        ("tool_files", "a.py", [Path("a.py")]),
        ("tool_files", f"a.py{os.pathsep}/b/c.py", [Path("a.py"), Path("/b/c.py")]),
        ("tool_files", ("a.py", "b:c.py"), [Path("a.py"), Path("b:c.py")]),
        ("tool_files", Path("a.py"), [Path("a.py")]),
        ("tool_files", "none", []),
        ("mcp_env", "HOME, LANG", ["HOME", "LANG"]),
        ("mcp_env", ["HOME", "A,B"], ["HOME", "A", "B"]),
        ("approve", "always", ["*=always"]),
        ("approve", "time/*=ask, *=never", ["time/*=ask", "*=never"]),
        ("approve", ("a=always",), ["a=always"]),
        ("approve", "none", []),
    ],
)
def test_a_list_is_read_from_texts_and_lists(name, raw, value):
    given = load_settings({name: raw}).value(name)
    assert list(given) == [Path.cwd() / each if name == "tool_files" else each for each in value]


@pytest.mark.parametrize(
    ("name", "raw", "says"),
    [
        ("approve", "weather=perhaps", "'weather=perhaps' is no rule: PATTERN=VERDICT"),
        ("approve", ("a=never", "=always"), "the value 'a=never, =always' cannot be used: '=always' is no rule"),
        ("approve", 3, "must be a list, or text in quotes"),
        ("approve", [3], "must be a list of texts"),
        ("approve", ["a=ask"] * 300, "holds more than 256 entries"),
        ("mcp_env", ("A=B",), "the value 'A=B' must be names of environment variables, without values"),
        ("tool_files", ["a\0b"], "is not the name of a file"),
        ("tool_files", [""], "must be a list of texts"),
        ("tool_files", ["\udcff.py"], "is not text in UTF-8"),
        ("mcp", [f"https://h/\n{KEY}"], "holds a line break"),
        ("mcp", {"time": f"uvx {KEY}"}, "cannot be used"),
        ("mcp", {"time": {"command": "uvx", "headers": {"A\n": KEY}}}, "cannot be used"),
        ("mcp", {"no name": {"command": KEY}}, "cannot be used"),
    ],
)
def test_what_cannot_be_read_is_told_in_one_line_without_secrets(name, raw, says):
    with pytest.raises(UsageError, match=f"flag {SPECS[name].flag}") as told:
        load_settings({name: raw})
    assert says in str(told.value)
    assert "\n" not in str(told.value)
    assert KEY not in str(told.value)


def test_the_config_file_holds_lists_and_a_section_for_each_server():
    config(CONFIG)
    settings = load_settings(environ={"HOME": str(Path.home())})
    assert settings.tool_files == (Path.cwd() / "weather.py", Path.home() / "mail.py")
    assert (settings.mcp_env, settings.approve) == (("LANG",), ("time/*=always", "*=never"))
    assert settings.tool_limits == ToolLimits(timeout_s=5.0)
    time, wiki = server_specs(settings.mcp, settings.mcp_env)
    assert (time.name, time.command, time.env, time.timeout_s) == (
        "time", ("uvx", "mcp-server-time"), ("LANG", "TIME_API_KEY"), 3.0,
    )  # fmt: skip
    assert (wiki.name, wiki.env, list(wiki.headers)) == ("wiki", (), ["Authorization"])


def test_a_flag_stands_in_place_of_all_sections():
    config(CONFIG)
    settings = load_settings({"mcp": ("cat -n", "http://127.0.0.1:9/mcp")})
    specs = server_specs(settings.mcp, settings.mcp_env)
    assert [(each.command, each.url, each.env) for each in specs] == [
        (("cat", "-n"), "", ("LANG",)),
        ((), "http://127.0.0.1:9/mcp", ("LANG",)),
    ]
    assert server_specs(load_settings({"mcp": "none"}).mcp) == ()


def test_keys_of_servers_are_masked_wherever_settings_are_shown(monkeypatch):
    config(CONFIG)
    monkeypatch.setenv("TIME_API_KEY", "time-key-0123456789")
    settings = load_settings()
    assert settings.shown("mcp") == ["time: uvx mcp-server-time", "wiki: https://wiki.example/mcp?key=***"]
    assert KEY not in repr(settings)
    assert {KEY, f"Bearer {KEY}", "time-key-0123456789"} & set(settings.secrets()) >= {KEY, "time-key-0123456789"}
    assert "LANG" not in settings.secrets()
    for args in (["settings"], ["settings", "--json"]):
        done = realtime(*args)
        assert done.returncode == 0, done.stderr
        assert "uvx mcp-server-time" in done.stdout
        assert KEY not in done.stdout


@pytest.mark.parametrize(
    ("flags", "setting", "shown"),
    [
        (["--tools", "a.py", "--tools", "b.py"], "tool_files", ["a.py", "b.py"]),
        (["--mcp", "cat -n", "--mcp", "https://u:p@h/x"], "mcp", ["cat: cat -n", "h: https://***@h/x"]),
        (["--mcp-env", "A", "--mcp-env", "B"], "mcp_env", ["A", "B"]),
        (["--approve", "a=ask", "--approve", "never"], "approve", ["a=ask", "*=never"]),
        (["--approval-timeout", "7"], "approval_timeout_s", 7.0),
        (["--tools-at-once", "2"], "tools_at_once", 2),
        (["--tool-result-characters", "9"], "tool_result_characters", 9),
    ],
)
def test_flags(flags, setting, shown):
    told = json.loads(realtime("settings", "--json", *flags).stdout)["settings"][setting]
    value = (
        [text.removeprefix(f"{Path.cwd()}/") for text in told["value"]] if isinstance(shown, list) else told["value"]
    )
    assert (value, told["source"]) == (shown, f"flag {flags[0]}")


def test_the_help_page_has_a_section_for_tools():
    page = realtime("chat", "--help").stdout
    section = page.partition("\nTools:\n")[2].partition("\n\n")[0]
    for flag in ("--tools FILE.py", "--mcp COMMAND|URL", "--mcp-env NAME", "--approve [PATTERN=]VERDICT"):
        assert flag in section


def test_the_settings_of_a_recorded_session_are_written_without_keys(tmp_path):
    tools = tmp_path / "weather.py"
    tools.write_text(WEATHER)
    done = realtime(
        "say", "tell the weather in Paris", "--local", "--text", "--record-dir", str(tmp_path / "r"),
        "--tools", str(tools), "--approve", "get_weather=always",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "r").iterdir()
    written = json.loads((folder / SESSION).read_text())["settings"]
    assert (written["tool_files"], written["approve"]) == ([str(tools)], ["get_weather=always"])


WEATHER = '''
from realtime_client.tools import tool
@tool
def get_weather(city: str) -> str:
    """Tell the weather in a city."""
    return f"It is sunny in {city}."
'''


@pytest.mark.parametrize(
    ("name", "origin", "verdict"),
    [
        ("clock", "mcp time", "always"),
        ("pay", "shop.py", "never"),
        ("look", "mcp wiki", "always"),
        ("get_weather", "weather.py", "ask"),
    ],
)
def test_rules_of_flags_come_before_those_of_servers(name, origin, verdict):
    config('[mcp.time]\ncommand = "x"\napprove = "never"\n[mcp.wiki]\nurl = "https://h/"\napprove = "always"')
    settings = load_settings({"approve": ["time/*=always", "pay=never"]})
    assert tool_policy(settings).verdict(name, origin=origin) == verdict


def test_a_setting_made_by_a_program_has_absolute_paths():
    assert Settings(tool_files=(Path("a.py"),)).tool_files == (Path.cwd() / "a.py",)


def test_a_run_takes_no_tools_of_the_settings(tmp_path):
    config('tool_files = ["/none/there.py"]\n[mcp.time]\ncommand = "none-there"')
    (tmp_path / "hello.yaml").write_text("name: hello\nturns:\n  - text: Hello\n")
    done = realtime("run", "--local", "--fast", "--out", str(tmp_path / "run"), str(tmp_path / "hello.yaml"))
    assert done.returncode == 0, done.stderr + done.stdout
    (folder,) = (tmp_path / "run" / "sessions").iterdir()
    written = json.loads((folder / SESSION).read_text())["settings"]
    assert (written["tool_files"], written.get("mcp")) == ([], None)
