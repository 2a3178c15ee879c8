"""Tools that the model's server calls by itself, from end to end: our client, the local server, real MCP servers."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from local_helpers import raw
from mcp.server.mcpserver import Context, MCPServer
from mcp.types import ToolAnnotations
from mcp_helpers import WAIT_S
from mcp_http import hand_made, served
from tool_helpers import Scripted, until

from realtime_client import updates as up
from realtime_client.changes import Changes, ToolSpec
from realtime_client.errors import MissingExtraError, UsageError
from realtime_client.local import CallTool, LocalServer, Parts, Say
from realtime_client.opening import connect, opened
from realtime_client.settings import load_settings
from realtime_client.settings.target import session_config
from realtime_client.tools.mcp.servers import McpServers

Json = dict[str, Any]
REQUIRED = {"never": {"read_only": True}}


class Shop:
    """A server of the `mcp` package. called: what was called. cancelled: a call that never ends was given up."""

    def __init__(self) -> None:
        self.called: list[str] = []
        self.begun, self.cancelled = threading.Event(), threading.Event()
        self.mcp = MCPServer("shop")
        self.mcp.add_tool(self.weather, annotations=ToolAnnotations(read_only_hint=True))
        for tool in (self.order, self.explode, self.forever):
            self.mcp.add_tool(tool)

    def weather(self, city: str) -> str:
        """The weather of a city."""
        self.called.append(f"weather {city}")
        return f"sunny in {city}"

    def order(self, what: str) -> str:
        """Order something from the shop."""
        self.called.append(f"order {what}")
        return f"{what} is on its way"

    def explode(self) -> str:
        """Explode."""
        raise ValueError("boom")

    async def forever(self, context: Context) -> str:
        """Sleep forever."""
        self.begun.set()
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return ""


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture
def url(shop: Shop) -> Iterator[str]:
    with served(shop.mcp.streamable_http_app()) as at:
        yield at


def values(url: str, required: Any = REQUIRED, **more: Any) -> Json:
    servers = {"shop": {"url": url, "require_approval": required}}
    return {"server_mcp": servers, "local": True, "modality": "text", "record": False, **more}


@contextmanager
def talking(settings: Json, *, asks: bool = False) -> Iterator[tuple[Any, Iterator[up.Update]]]:
    """A session, and its updates from the first one on."""
    read: list[Any] = []
    with opened(
        load_settings(settings), asks=asks, prepared=lambda it: read.append(it.updates(timeout_s=WAIT_S))
    ) as it:
        with closing(read[0]):
            yield it.session, read[0]


def texts(updates: Iterator[up.Update], count: int) -> list[str]:
    """What the next answers say; '' for one that only calls a tool."""
    said, text = [], ""
    for update in updates:
        if isinstance(update, up.TextDelta):
            text += update.text
        elif isinstance(update, up.ResponseDone):
            said, text = [*said, text], ""
            if len(said) == count:
                break
    return said


# --- with our client ---


def test_a_tool_that_only_reads_is_called_without_a_question(shop: Shop, url: str):
    with talking(values(url)) as (session, updates):
        answer = session.ask("What is the weather in Oslo?", timeout_s=WAIT_S)
        assert answer.text == "The tool says: sunny in Oslo."
        kinds = []
        while kinds[-1:] != ["mcp_call"]:
            kinds.append(until(updates, up.ItemDone).item_type)
    assert shop.called == ["weather Oslo"]
    assert set(kinds) == {"mcp_list_tools", "message", "mcp_call"}


@pytest.mark.parametrize(
    ("rules", "says", "called"),
    [
        (["shop/*=always"], "The tool says: tea is on its way.", ["order tea"]),
        (["order=never"], "The tool says: The user did not allow this call: this tool is not allowed.", []),
        ([], "The tool says: The user did not allow this call: nobody is here", []),
    ],
)
def test_ask_waits_for_the_answer_after_a_decision(
    shop: Shop, url: str, rules: list[str], says: str, called: list[str]
):
    with connect(**values(url, approve=rules)) as session:
        assert session.ask('Please order "tea"', timeout_s=WAIT_S).text.startswith(says)
    assert shop.called == called


@pytest.mark.parametrize("approve", [True, False])
def test_a_person_is_asked(shop: Shop, url: str, approve: bool):
    with talking(values(url, "always"), asks=True) as (session, updates):
        session.send_text('Please order "tea"')
        asked = until(updates, up.ApprovalRequested)
        assert (asked.name, asked.arguments, asked.origin) == ("order", '{"what": "tea"}', "mcp shop")
        assert (asked.remote, shop.called) == (True, [])
        session.approve(asked.request_id, approve=approve, reason=None if approve else "too dear")
        _, said = texts(updates, 2)
    assert ("tea is on its way" in said, "too dear" in said) == (approve, not approve)
    assert shop.called == ["order tea"] * approve


def test_a_tool_that_fails_is_told_to_the_model(url: str):
    with connect(**values(url, "never")) as session:
        answer = session.ask("explode", timeout_s=WAIT_S)
    assert answer.text == "The tool says: The tool failed: Error executing tool explode."


def test_a_server_that_goes_in_mid_call_is_told_to_the_model():
    with hand_made() as server, connect(**values(server.url, "never")) as session:
        assert "is not known" in session.ask("drop", timeout_s=WAIT_S).text


def test_a_call_under_way_does_not_hold_up_the_talk_and_ends_with_it(shop: Shop, url: str):
    with talking(values(url, "never")) as (session, updates):
        session.send_text("Sleep forever")
        assert shop.begun.wait(WAIT_S)
        until(updates, up.ResponseDone)
        session.change(Changes(tools=(ToolSpec(name="add", description="Adds."),)))
        assert until(updates, up.SessionChanged).facts.tools == ("add", "shop")
        assert not shop.cancelled.is_set()
        session.send_text("Count to three")
        assert texts(updates, 1) == ["One, two, three. "]
    assert shop.cancelled.wait(WAIT_S)


@pytest.mark.parametrize("way", ["401", "page", "moved", "gone"])
def test_a_server_that_cannot_be_used_is_told_and_the_talk_goes_on(way: str):
    with hand_made("" if way == "gone" else way) as server:
        url = server.url
        if way == "gone":
            with socket.create_server(("127.0.0.1", 0)) as taken:
                url = f"http://127.0.0.1:{taken.getsockname()[1]}/mcp"
        with talking(values(url)) as (session, updates):
            notice = until(updates, up.Notice)
            assert notice.message.startswith("no tools of shop: MCP server shop")
            session.send_text("Count to three")
            assert texts(updates, 1) == ["One, two, three. "]


def test_without_the_extra_it_says_so(url: str, monkeypatch: pytest.MonkeyPatch):
    def start(_servers: McpServers) -> None:
        raise MissingExtraError("mcp", "mcp")

    monkeypatch.setattr(McpServers, "start", start)
    with talking(values(url)) as (_, updates):
        assert "realtime-client[mcp]" in until(updates, up.Notice).message


def test_tokens_reach_the_server_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SHOP_TOKEN", "deep-blue-sea-4711")
    with hand_made() as server:
        settings = values(server.url, "never", record=True, record_dir=tmp_path)
        settings["server_mcp"]["shop"]["authorization_env"] = "SHOP_TOKEN"
        with connect(**settings) as session:
            assert session.ask("echo", timeout_s=WAIT_S).text
        assert {headers["authorization"] for _, headers in server.seen} == {"Bearer deep-blue-sea-4711"}
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"mcp_call" in written
    assert b"deep-blue-sea" not in written


def test_calls_stand_in_the_recording_and_in_the_report(url: str, tmp_path: Path):
    from realtime_client.report.write import write_report

    with connect(**values(url, record=True, record_dir=tmp_path)) as session:
        session.ask("What is the weather in Oslo?", timeout_s=WAIT_S)
    (folder,) = tmp_path.iterdir()
    assert "**Tool** (0:00:00): sunny in Oslo" in (folder / "transcript.md").read_text(encoding="utf-8")
    page = write_report(folder).path.read_text(encoding="utf-8")
    assert "sunny in Oslo" in page


# --- with a bare one, whose frames are checked strictly ---


def tool(url: str, **more: Any) -> Json:
    return {"type": "mcp", "server_label": "shop", "server_url": url} | more


def test_every_message_is_as_the_official_types_have_it(shop: Shop, url: str):
    with LocalServer(pace=0) as server, raw(server.url) as client:
        client.send("session.update", session={"type": "realtime", "output_modalities": ["text"], "tools": [tool(url)]})
        client.until("mcp_list_tools.completed")
        listed = client.until("conversation.item.done")["item"]["tools"]
        assert [each["name"] for each in listed] == ["weather", "order", "explode", "forever"]
        assert listed[0]["annotations"] == {"readOnlyHint": True}
        client.say('Please order "tea"')
        client.send("response.create")
        (request,) = client.until("response.done")["response"]["output"]
        answer = {"type": "mcp_approval_response", "approval_request_id": request["id"], "approve": True}
        client.send("conversation.item.create", item=answer)
        client.until("response.mcp_call.completed")
        call = client.until("conversation.item.done")["item"]
        assert (call["output"], json.loads(call["arguments"])) == ("tea is on its way", {"what": "tea"})
        client.send("response.create")
        done = client.until("response.done")["response"]
        assert done["output"][0]["content"][0]["text"] == "The tool says: tea is on its way."


def test_an_answer_that_waits_for_a_list_begins_when_the_server_is_left():
    with socket.create_server(("127.0.0.1", 0)) as silent, LocalServer(pace=0) as server, raw(server.url) as client:
        tools = [tool(f"http://127.0.0.1:{silent.getsockname()[1]}/mcp")]
        client.send("session.update", session={"type": "realtime", "output_modalities": ["text"], "tools": tools})
        client.say("Count to three")
        client.send("response.create")
        client.until("response.created")
        client.send("session.update", session={"type": "realtime", "tools": []})
        assert client.until("response.output_text.done")["text"] == "One, two, three. "


def test_the_official_client_takes_it(shop: Shop, url: str):
    from openai import OpenAI

    with LocalServer(pace=0) as server:
        client = OpenAI(api_key="k", websocket_base_url=server.url.removesuffix("/realtime"))
        with client.realtime.connect(model="demo") as connection:
            tools: Any = [tool(url, require_approval="never")]
            connection.session.update(session={"type": "realtime", "output_modalities": ["text"], "tools": tools})
            part: Any = {"type": "input_text", "text": "What is the weather in Oslo?"}
            connection.conversation.item.create(item={"type": "message", "role": "user", "content": [part]})
            connection.response.create()
            kinds = []
            for event in connection:
                kinds.append(event.type)
                if event.type == "response.mcp_call.completed":
                    connection.response.create()
                elif event.type == "response.output_text.done":
                    assert event.text == "The tool says: sunny in Oslo."
                    break
    assert "error" not in kinds
    assert "mcp_list_tools.completed" in kinds


def test_a_brain_is_offered_the_tools_and_told_what_came_of_them(url: str):
    brain = Scripted([Say("One moment."), CallTool("weather", '{"city": "Oslo"}', "call_1")], [Say("Sunny.")])
    with LocalServer(parts=Parts(brain=brain), pace=0) as server:
        with connect(**values(url) | {"local": False, "url": server.url}) as session:
            assert session.ask("How is it in Oslo?", timeout_s=WAIT_S).text == "Sunny."
    first, second = (brain.turns.get(timeout=WAIT_S) for _ in range(2))
    assert next((each.name, each.description) for each in first.tools) == ("weather", "The weather of a city.")
    assert [(said.role, said.text, said.call_id) for said in second.utterances[1:]] == [
        ("assistant", "One moment.", ""),
        ("call", '{"city": "Oslo"}', "call_1"),
        ("output", "sunny in Oslo", "call_1"),
    ]


def test_a_server_that_others_can_reach_asks_nobody(shop: Shop, url: str):
    with LocalServer("0.0.0.0", token="t", pace=0) as server:
        headers = {"Authorization": "Bearer t"}
        with raw(server.url.replace("0.0.0.0", "127.0.0.1"), additional_headers=headers) as client:
            client.send("session.update", session={"type": "realtime", "tools": [tool(url)]})
            client.until("mcp_list_tools.failed")
            assert "other machines can reach" in client.until("conversation.item.done")["item"]["error"]["message"]


# --- settings ---

CONFIG = """
[server_mcp.wiki]
url = "https://wiki.example/mcp?key=kkkkkkkkkkkk"
authorization_env = "WIKI_TOKEN"
allowed_tools = ["search"]

[server_mcp.shop]
url = "http://127.0.0.1:9/mcp"
require_approval = { never = { read_only = true } }
"""


def config_of(tmp_path: Path, text: str = CONFIG) -> Json:
    path = tmp_path / "config.toml"
    path.write_text(text, encoding="utf-8")
    return {"REALTIME_CONFIG": str(path)}


def test_servers_of_the_config_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    settings = load_settings(environ=config_of(tmp_path), folder=tmp_path)
    with pytest.raises(UsageError, match="wiki: the variable WIKI_TOKEN, its token, is not set"):
        session_config(settings)
    monkeypatch.setenv("WIKI_TOKEN", "deep-blue-sea-4711")
    wiki, shop = session_config(settings).to_wire()["tools"]
    assert wiki == tool("https://wiki.example/mcp?key=kkkkkkkkkkkk", server_label="wiki", require_approval="always") | {
        "authorization": "deep-blue-sea-4711",
        "allowed_tools": ["search"],
    }
    assert shop == tool("http://127.0.0.1:9/mcp", require_approval={"never": {"read_only": True}})
    assert settings.shown("server_mcp") == ["wiki=https://wiki.example/mcp?key=***", "shop=http://127.0.0.1:9/mcp"]
    assert {"deep-blue-sea-4711", "kkkkkkkkkkkk"} <= set(settings.secrets())
    assert "kkkk" not in repr(settings)


@pytest.mark.parametrize(
    "given", [["shop=https://shop.example"], "shop=https://shop.example", {"shop": "https://shop.example"}]
)
def test_a_server_by_flag_or_keyword(given: Any):
    settings = load_settings({"server_mcp": given}, environ={}, folder=Path("/"))
    assert session_config(settings, [ToolSpec(name="add")]).to_wire()["tools"][1:] == [
        tool("https://shop.example", require_approval="always")
    ]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["https://shop.example"], "LABEL=URL"),
        ("sk-kkkkkkkkkkkkkkkk", "LABEL=URL"),
        (["a b=https://shop.example"], "LABEL=URL"),
        (["shop=shop.example"], "needs the URL of a server"),
        (["shop=ftp://shop.example"], "needs the URL of a server"),
        (["shop=http://[::1"], "needs the URL of a server"),
        (["shop=https://a", "shop=https://b"], "two servers of one label"),
        ({"shop": 5}, "a section with a url"),
        ({"shop": {}}, "needs the URL of a server"),
        ({"shop": {"url": "https://a", "token": "kkkk"}}, "there is no key 'token'"),
        ({"shop": {"url": "https://a", "authorization_env": "a b"}}, "the name of a variable"),
        ({"shop": {"url": "https://a", "allowed_tools": "all"}}, "a table with tool_names"),
        ({"shop": {"url": "https://a", "allowed_tools": {"names": []}}}, "a table with tool_names"),
        ({"shop": {"url": "https://a", "require_approval": "no"}}, "always, never, or a table"),
        ({"shop": {"url": "https://a", "require_approval": {"never": "all"}}}, "a table with tool_names"),
    ],
)
def test_settings_that_cannot_be_used(given: Any, says: str):
    with pytest.raises(UsageError, match=says) as caught:
        load_settings({"server_mcp": given}, environ={}, folder=Path("/"))
    assert "\n" not in str(caught.value)
    assert "kkkk" not in str(caught.value)


def test_none_is_for_a_session_without_any(tmp_path: Path):
    settings = load_settings({"server_mcp": "none"}, environ=config_of(tmp_path), folder=tmp_path)
    assert "tools" not in session_config(settings).to_wire()


def test_text_models_refuse_it_in_one_line():
    with pytest.raises(UsageError, match="only servers of realtime models call tools"):
        with connect(model="ollama/llama3.2", server_mcp=["shop=https://shop.example/mcp"], record=False):
            pass
